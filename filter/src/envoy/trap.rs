//! Kills its VM on request: for tests alone, behind the cargo feature `trap`, and never in the module that ships.
//!
//! The filter has no panic path, so a test that wants to see what a dead VM leaves behind has to ask for its death.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use super::abi::{self, Map};

/// The request header that says where to die: `request`, `log` or `tick`.
const HEADER: &str = "x-farebox-test-trap";

thread_local! {
    /// Streams at whose end the VM dies.
    static AT_LOG: RefCell<BTreeSet<u32>> = RefCell::default();
    /// Whether it dies at its next tick.
    static AT_TICK: Cell<bool> = Cell::default();
}

/// A request arrives: `request` dies before it is metered.
pub(super) fn on_request(stream: u32) {
    match abi::header(Map::Request, HEADER).unwrap_or_default().as_slice() {
        b"request" => die(),
        b"log" => AT_LOG.with_borrow_mut(|streams| {
            streams.insert(stream);
        }),
        b"tick" => AT_TICK.set(true),
        _ => {}
    }
}

/// A stream has ended: `log` dies before its end is booked.
pub(super) fn on_log(stream: u32) {
    if AT_LOG.with_borrow_mut(|streams| streams.remove(&stream)) {
        die();
    }
}

/// The root context ticks: `tick` dies before anything is done.
pub(super) fn on_tick() {
    if AT_TICK.get() {
        die();
    }
}

fn die() {
    core::arch::wasm32::unreachable()
}
