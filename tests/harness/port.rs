//! Ports for processes that cannot choose their own.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// Below the range from which the kernel takes ports of outgoing connections: a part that is stopped and started again
/// under load finds its port still free.
const FIRST: u16 = 12_000;
const COUNT: u16 = 18_000;

/// A loopback address that nothing listens at, and that this process hands out once.
pub fn free() -> SocketAddr {
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let start = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    let start = u16::try_from(start % u32::from(COUNT)).unwrap_or(0);
    (0..COUNT)
        .map(|step| FIRST + (start + step) % COUNT)
        .find(|&port| is_free(port) && taken.insert(port))
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .expect("one of 18,000 ports is free")
}

/// The preferred port when nothing listens there, else any other.
pub fn preferred(port: u16) -> SocketAddr {
    if is_free(port) { SocketAddr::from((Ipv4Addr::LOCALHOST, port)) } else { free() }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
