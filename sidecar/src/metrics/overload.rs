//! What was turned away because too much was asked at once.

use metrics::{Unit, counter, describe_gauge, gauge};

use super::{Counter, counters, float};

const SHED: &str = "billing_shed_total";
const ACCEPT_FAILED: &str = "billing_accept_failed_total";
const CONNECTIONS: &str = "billing_connections";

pub(super) const COUNTERS: &[Counter] = &[
    (
        SHED,
        "Requests that were answered 503 at once because too many of their kind were in progress.",
    ),
    (
        ACCEPT_FAILED,
        "Connections that the system refused to hand over, most often for want of file descriptors.",
    ),
];

label! {
    /// Kinds of requests, each with a limit of its own.
    Shed {
        /// Messages of gateways.
        Sync = "sync",
        /// Check, deduct, reserve, commit, release, refund.
        Calls = "calls",
        /// Users' requests.
        Users = "users",
        /// Callbacks of the payment service.
        Callbacks = "callbacks",
        /// Operators' requests.
        Operators = "operators",
    }
}

label! {
    /// The listeners.
    ListenerName {
        /// For gateways.
        Internal = "internal",
        /// For operators.
        Admin = "admin",
        /// For users and callbacks.
        Public = "public",
    }
}

/// A request was turned away.
pub fn shed(what: Shed) {
    counter!(SHED, "what" => what.as_str()).increment(1);
}

/// A connection was not accepted.
pub fn accept_failed(listener: ListenerName) {
    counter!(ACCEPT_FAILED, "listener" => listener.as_str()).increment(1);
}

/// So many connections are open.
pub fn connections(listener: ListenerName, count: usize) {
    gauge!(CONNECTIONS, "listener" => listener.as_str()).set(float(count));
}

pub(super) fn register() {
    describe_gauge!(
        CONNECTIONS,
        Unit::Count,
        "Connections that are open; at a listener's limit, further ones wait in the system's queue."
    );
    counters(SHED, "what", Shed::ALL.iter().map(|what| what.as_str()));
    counters(ACCEPT_FAILED, "listener", ListenerName::ALL.iter().map(|name| name.as_str()));
    ListenerName::ALL.iter().for_each(|name| connections(*name, 0));
}
