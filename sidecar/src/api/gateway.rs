//! The listener for gateways and for services that ask about each call.
//!
//! The order of checks bounds what a stranger can cost: the token first, then a free slot, then the body.
//!
//! | file | what it does |
//! |---|---|
//! | `sync.rs` | what a gateway says and hears |
//! | `accounts.rs` | what many users have |
//! | `calls.rs` | check, deduct, reserve, commit, release, refund |

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use farebox_core::code::Code;
use tokio::sync::Semaphore;
use utoipa::openapi::OpenApi;
use utoipa_axum::routes;

use self::calls::{CALL_SLOTS_MAX, Faults};
use self::sync::SYNCS_IN_FLIGHT_MAX;
use super::document::{self, Listener, Routes};
use super::token::Tokens;
use crate::app::App;

mod accounts;
mod calls;
mod sync;

/// What the endpoints need.
#[derive(Debug, Clone)]
pub struct Gateways {
    app: App,
    tokens: Tokens,
    timeout: Duration,
    sync_slots: Arc<Semaphore>,
    /// Apart from those of sync: callers of the one are not held up by callers of the other.
    call_slots: Arc<Semaphore>,
    faults: Faults,
}

impl Gateways {
    /// Gateways that show one of `tokens`, each message answered within `timeout`.
    pub fn new(app: App, tokens: Tokens, timeout: Duration) -> Self {
        let slots = Slots { syncs: SYNCS_IN_FLIGHT_MAX, calls: CALL_SLOTS_MAX };
        Self::with_slots(app, tokens, timeout, slots)
    }

    pub(super) fn with_slots(app: App, tokens: Tokens, timeout: Duration, slots: Slots) -> Self {
        Self {
            app,
            tokens,
            timeout,
            sync_slots: Arc::new(Semaphore::new(slots.syncs)),
            call_slots: Arc::new(Semaphore::new(slots.calls)),
            faults: Faults::default(),
        }
    }
}

/// How many requests are dealt with at the same time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slots {
    /// Messages of gateways.
    pub(super) syncs: usize,
    /// Requests about calls, by their size.
    pub(super) calls: usize,
}

pub(super) fn routes(gateways: Gateways) -> Router {
    guarded().into_router(gateways).merge(document::route(Listener::Gateway))
}

/// What is said about them.
pub(super) fn document() -> OpenApi {
    guarded().into_document()
}

/// What wants a gateway token.
fn guarded() -> Routes<Gateways> {
    use Code::{Conflict, InvalidArgument, Overloaded, TokenInvalid, Unavailable};
    Routes::new()
        .add(routes!(sync::sync), &[InvalidArgument, Conflict, Overloaded, Unavailable])
        .add(routes!(accounts::find), &[InvalidArgument, Overloaded, Unavailable])
        .and(calls::routes())
        .all_refuse(&[TokenInvalid])
        .secured_by(&["gatewayToken"])
}
