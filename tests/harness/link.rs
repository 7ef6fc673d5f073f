//! A TCP proxy between two parts, which can make the network between them as bad as networks get.
//!
//! It passes bytes and knows no protocol; [`crate::cut`] is the one that reads the database's. What it does to the
//! connections that it has, and to those that come, is one [`Weather`], which can change at any time; so can where it leads.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::StackError;

/// How much is read at once.
const BUFFER_BYTES: usize = 16 * 1024;

/// What the network is like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Weather {
    /// Bytes pass.
    #[default]
    Fair,
    /// Each piece of data comes later by `base` and up to `jitter` more.
    Slow {
        /// At least so much.
        base: Duration,
        /// At most so much more; how much follows from the pieces' number, not from chance.
        jitter: Duration,
    },
    /// Connections are reset, those that come as well.
    Reset,
    /// Each connection is reset once so many bytes have passed it: in the middle of a message, most of the time.
    CutAfter(u64),
    /// Connections stand, and nothing passes them.
    Silent,
}

/// Where a proxy leads, and what the network is like on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    target: SocketAddr,
    weather: Weather,
}

/// A proxy that listens.
#[derive(Debug)]
pub struct Link {
    addr: SocketAddr,
    way: watch::Sender<Way>,
    server: JoinHandle<()>,
}

impl Link {
    /// Listens on a free port and passes everything on to `target`.
    pub async fn start(target: SocketAddr) -> Result<Self, StackError> {
        let refused = || StackError::system("bind a proxy");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(refused())?;
        let addr = listener.local_addr().map_err(refused())?;
        let (way, watched) = watch::channel(Way { target, weather: Weather::Fair });
        let server = tokio::spawn(accept(listener, watched));
        Ok(Self { addr, way, server })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes the weather, for connections that stand and for those that come.
    pub fn set(&self, weather: Weather) {
        self.way.send_modify(|way| way.weather = weather);
    }

    /// Leads somewhere else from now on: connections that stand are reset.
    pub fn lead_to(&self, target: SocketAddr) {
        self.way.send_modify(|way| way.target = target);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Connections live in this task's set: they end with it.
async fn accept(listener: TcpListener, way: watch::Receiver<Way>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(connect(client, way.clone()));
    }
}

async fn connect(mut client: TcpStream, way: watch::Receiver<Way>) {
    let Way { target, weather } = *way.borrow();
    if weather == Weather::Reset {
        return reset(&client);
    }
    let Ok(mut server) = TcpStream::connect(target).await else { return reset(&client) };
    for stream in [&client, &server] {
        stream.set_nodelay(true).ok();
    }
    if both_ways(&mut client, &mut server, target, way).await == End::Broken {
        reset(&client);
        reset(&server);
    }
}

/// Passes both directions on. A side that ended in order may still be answered; one that was broken takes the other with
/// it.
async fn both_ways(
    client: &mut TcpStream,
    server: &mut TcpStream,
    target: SocketAddr,
    way: watch::Receiver<Way>,
) -> End {
    let passed = AtomicU64::new(0);
    // Borrowed halves, because owned ones say FIN when they are dropped, before the connection can be reset.
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let there = pass(from_client, to_server, target, way.clone(), &passed);
    let back = pass(from_server, to_client, target, way, &passed);
    tokio::pin!(there, back);
    tokio::select! {
        end = &mut there => if end == End::InOrder { back.await } else { end },
        end = &mut back => if end == End::InOrder { there.await } else { end },
    }
}

/// Closing sends RST instead of FIN, and what is on its way is lost.
fn reset(stream: &TcpStream) {
    stream.set_zero_linger().ok();
}

/// How one direction of a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    InOrder,
    Broken,
}

/// Passes one direction on.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    target: SocketAddr,
    mut way: watch::Receiver<Way>,
    passed: &AtomicU64,
) -> End {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut pieces: u64 = 0;
    let end = loop {
        let Way { target: leads_to, weather: now } = *way.borrow_and_update();
        if leads_to != target {
            break End::Broken;
        }
        let count = tokio::select! {
            // What comes after a change of the weather meets the new one.
            biased;
            changed = way.changed() => match changed {
                Ok(()) => { if way.borrow().weather == Weather::Reset { break End::Broken } continue }
                Err(_) => break End::Broken,
            },
            read = from.read(&mut buffer), if now != Weather::Silent => match read {
                Ok(0) => break End::InOrder,
                Ok(count) => count,
                Err(_) => break End::Broken,
            },
        };
        pieces += 1;
        let mut piece = &buffer[..count];
        let mut cut = false;
        match now {
            Weather::Fair | Weather::Silent => {}
            Weather::Reset => break End::Broken,
            Weather::Slow { base, jitter } => tokio::time::sleep(late(base, jitter, pieces)).await,
            Weather::CutAfter(limit) => {
                let before = passed.fetch_add(count as u64, Ordering::Relaxed);
                let room = usize::try_from(limit.saturating_sub(before)).unwrap_or(usize::MAX);
                cut = room < count;
                piece = &piece[..room.min(count)];
            }
        }
        if to.write_all(piece).await.is_err() || cut {
            break End::Broken;
        }
    };
    if end == End::InOrder {
        to.shutdown().await.ok();
    }
    end
}

/// Spread over the range without a random source: Knuth's multiplicative hash of the piece's number.
fn late(base: Duration, jitter: Duration, piece: u64) -> Duration {
    let share = u32::try_from(piece.wrapping_mul(2_654_435_761) % 1_000).unwrap_or(0);
    base + jitter * share / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await.ok();
                });
            }
        });
        addr
    }

    /// Sends bytes and reads as many back.
    async fn ask(stream: &mut TcpStream, count: usize) -> std::io::Result<usize> {
        stream.write_all(&vec![7; count]).await?;
        let mut read = 0;
        while read < count {
            let mut buffer = vec![0; count];
            match stream.read(&mut buffer).await? {
                0 => break,
                more => read += more,
            }
        }
        Ok(read)
    }

    #[test]
    fn a_link_that_leads_elsewhere_takes_its_connections_with_it() {
        crate::run(async {
            let link = Link::start(echo().await).await.unwrap();
            let mut stream = TcpStream::connect(link.addr()).await.unwrap();
            assert_eq!(ask(&mut stream, 10).await.unwrap(), 10);
            let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
            link.lead_to(other.local_addr().unwrap());
            assert_ne!(ask(&mut stream, 10).await.ok(), Some(10), "the old connection is gone");
            let (new, accepted) = tokio::join!(TcpStream::connect(link.addr()), other.accept());
            assert!(new.is_ok() && accepted.is_ok(), "a new one leads to the other end");
        });
    }

    #[test]
    fn each_weather_does_what_it_says() {
        crate::run(async {
            let link = Link::start(echo().await).await.unwrap();
            let connect = || TcpStream::connect(link.addr());
            let mut stream = connect().await.unwrap();
            assert_eq!(ask(&mut stream, 1_000).await.unwrap(), 1_000);

            link.set(Weather::Silent);
            let waiting = tokio::time::timeout(Duration::from_millis(50), ask(&mut stream, 1));
            assert!(waiting.await.is_err(), "nothing passes");
            link.set(Weather::Fair);
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 1, "it was only held up");

            link.set(Weather::CutAfter(100));
            assert_eq!(ask(&mut stream, 10).await.unwrap(), 10);
            assert!(ask(&mut stream, 1_000).await.is_err(), "reset in the middle");

            link.set(Weather::Fair);
            let mut stream = connect().await.unwrap();
            assert_eq!(ask(&mut stream, 5).await.unwrap(), 5);
            link.set(Weather::Reset);
            assert!(stream.read(&mut [0]).await.is_err(), "one that stood is reset");
            let refused = async { ask(&mut connect().await?, 1).await };
            assert!(refused.await.is_err(), "and one that comes");
        });
    }

    #[test]
    fn lateness_is_within_its_bounds() {
        let (base, jitter) = (Duration::from_millis(10), Duration::from_millis(40));
        let lates: Vec<Duration> = (0..1_000).map(|piece| late(base, jitter, piece)).collect();
        assert!(lates.iter().all(|late| base <= *late && *late < base + jitter));
        assert!(lates.iter().any(|late| base + jitter / 2 < *late), "it varies");
    }
}
