//! A TCP router: all connections go to one address, which can be changed while it runs.
//!
//! It is what HAProxy, ProxySQL or MaxScale do in front of a cluster whose writes go to one node.

use std::io;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::StackError;

/// A router that listens.
#[derive(Debug)]
pub struct Router {
    addr: SocketAddr,
    target: watch::Sender<SocketAddr>,
    server: JoinHandle<()>,
}

impl Router {
    /// Listens on a free port and passes everything on to `target`.
    pub async fn start(target: SocketAddr) -> Result<Self, StackError> {
        let refused = || StackError::system("bind the router");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(refused())?;
        let addr = listener.local_addr().map_err(refused())?;
        let (target, targets) = watch::channel(target);
        let server = tokio::spawn(accept(listener, targets));
        Ok(Self { addr, target, server })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends new connections there and ends those that stand: one that stayed would go on with the former target.
    pub fn move_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Connections live in this task's set: they end with it.
async fn accept(listener: TcpListener, targets: watch::Receiver<SocketAddr>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(client, targets.clone()));
    }
}

async fn connection(
    mut client: TcpStream,
    mut targets: watch::Receiver<SocketAddr>,
) -> io::Result<()> {
    let target = *targets.borrow_and_update();
    let mut server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::select! {
        ended = copy_bidirectional(&mut client, &mut server) => ended.map(drop),
        _ = targets.changed() => Ok(()),
    }
}
