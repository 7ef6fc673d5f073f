//! One listener: accepts connections, bounded in number and in how long they may keep silent, and drains them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::util::MapRequest;

use crate::api::Remote;
use crate::metrics::{self, ListenerName};

/// Requests that one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 256;

/// How long a connection may take over a request's head, and how long an HTTP/2 peer may be unreachable.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long to wait after the system refused a connection, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("server.{listener}.addr is \"{addr}\": {problem}; free the address or choose another")]
pub struct ListenError {
    listener: &'static str,
    addr: SocketAddr,
    problem: io::Error,
}

/// What a listener's clients may speak. Telling the two apart means waiting for a client's first bytes without a time
/// limit, which only the gateways' listener can afford.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocols {
    Http1,
    Http1And2,
}

/// A listener that has its address and does not accept yet.
#[derive(Debug)]
pub(super) struct Bound {
    name: ListenerName,
    pub(super) addr: SocketAddr,
    listener: TcpListener,
}

impl Bound {
    pub(super) async fn new(name: ListenerName, addr: SocketAddr) -> Result<Self, ListenError> {
        // The public listener's key is the predecessor's.
        let key = if name == ListenerName::Public { "http" } else { name.as_str() };
        let failed = |problem| ListenError { listener: key, addr, problem };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        tracing::info!(listener = name.as_str(), %addr, "listening");
        Ok(Self { name, addr, listener })
    }

    /// Serves until `stopping` turns true, then until the requests in progress are answered. It keeps `connections_max`
    /// connections open; further ones wait in the system's queue.
    pub(super) async fn serve(
        self,
        router: Router,
        protocols: Protocols,
        connections_max: usize,
        mut stopping: watch::Receiver<bool>,
    ) {
        let builder = builder(protocols);
        let open = GracefulShutdown::new();
        let slots = Arc::new(Semaphore::new(connections_max));
        loop {
            let (stream, remote, slot) = tokio::select! {
                accepted = accept(&self, &slots) => accepted,
                _ = stopping.wait_for(|stop| *stop) => break,
            };
            let service = MapRequest::new(router.clone(), move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(Remote(remote.ip()));
                request
            });
            let service = TowerToHyperService::new(service);
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            let connection = open.watch(connection);
            let (name, slots) = (self.name, slots.clone());
            let open_now = move || connections_max.saturating_sub(slots.available_permits());
            metrics::connections(name, open_now());
            tokio::spawn(async move {
                if let Err(err) = connection.await {
                    tracing::debug!(error = err, listener = name.as_str(), "a connection broke");
                }
                drop(slot);
                metrics::connections(name, open_now());
            });
        }
        drop(self.listener);
        open.shutdown().await;
    }
}

fn builder(protocols: Protocols) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(SILENCE_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(SILENCE_MAX)
        .keep_alive_timeout(SILENCE_MAX);
    match protocols {
        Protocols::Http1 => builder.http1_only(),
        Protocols::Http1And2 => builder,
    }
}

async fn accept(
    bound: &Bound,
    slots: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<tokio::sync::OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there is always a slot in the end.
    let slot = slots.clone().acquire_owned().await.ok();
    loop {
        match bound.listener.accept().await {
            Ok((stream, remote)) => {
                // Without it a reply waits for the acknowledgement of the one before; failing costs only that.
                let _ = stream.set_nodelay(true);
                return (stream, remote, slot);
            }
            Err(err) => {
                metrics::accept_failed(bound.name);
                tracing::warn!(error = %err, listener = bound.name.as_str(), "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
