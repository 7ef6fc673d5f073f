//! The public listener: users through the gateway, callbacks of the payment service, and `GET /health`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use farebox_core::code::Code;
use tokio::sync::Semaphore;
use utoipa::openapi::OpenApi;
use utoipa_axum::routes;

use super::document::{self, Listener, Routes};
use super::identity::Identities;
use super::shed;
use crate::app::App;
use crate::metrics::Shed;
use crate::webhook::CallbackKeys;

mod account;
mod callback;
mod health;
mod orders;
mod recharge;

/// Recharge requests that are dealt with at the same time; further ones wait for their turn. Fewer than the calls that the
/// payment service may be asked at once: questions and refunds have room beside them.
const RECHARGES_AT_ONCE: usize = 32;

/// The part of the database's connections that callbacks may have at the same time; further ones wait for their turn. Many
/// may wait for one order's row, and gateways must be served meanwhile.
const CALLBACKS_PART: usize = 4;

/// Users' requests, and callbacks, that are in progress at the same time; further ones are turned away.
const USERS_IN_FLIGHT_MAX: usize = 256;
const CALLBACKS_IN_FLIGHT_MAX: usize = 256;

/// What the listener needs.
#[derive(Debug, Clone)]
pub struct Public {
    app: App,
    identities: Identities,
    callback_keys: CallbackKeys,
    timeout: Duration,
    recharges: Arc<Semaphore>,
    callbacks: Arc<Semaphore>,
}

impl Public {
    /// Users whom `identities` vouch for, callbacks signed with one of `callback_keys`; reads are answered within `timeout`.
    /// The database has `connections` for everybody.
    pub fn new(
        app: App,
        identities: Identities,
        callback_keys: CallbackKeys,
        timeout: Duration,
        connections: u32,
    ) -> Self {
        let recharges = Arc::new(Semaphore::new(RECHARGES_AT_ONCE));
        let connections = usize::try_from(connections).unwrap_or(CALLBACKS_PART);
        let callbacks = Arc::new(Semaphore::new((connections / CALLBACKS_PART).max(1)));
        Self { app, identities, callback_keys, timeout, recharges, callbacks }
    }
}

pub(super) fn routes(public: Public) -> Router {
    let users = shed::limit(users().into_router(public.clone()), USERS_IN_FLIGHT_MAX, Shed::Users);
    let callbacks = callbacks().into_router(public);
    health()
        .into_router(())
        .merge(document::route(Listener::Public))
        .merge(users)
        .merge(shed::limit(callbacks, CALLBACKS_IN_FLIGHT_MAX, Shed::Callbacks))
}

/// What is said about them.
pub(super) fn document() -> OpenApi {
    let document = health().into_document();
    document.merge_from(users().into_document()).merge_from(callbacks().into_document())
}

fn health() -> Routes<()> {
    Routes::new().add(routes!(health::health), &[])
}

/// What users reach, by the gateway's word. The aliases are the addresses of the predecessor's later versions.
fn users() -> Routes<Public> {
    use Code::{
        CurrencyRequired, Forbidden, InvalidArgument, OrderConflict, OrderNotFound, Overloaded,
        PaymentNotConfigured, PaymentRefused, PaymentUnavailable, TokenExpired, TokenInvalid,
        Unauthorized, Unavailable, UnknownService,
    };
    let unpaid = [
        InvalidArgument,
        CurrencyRequired,
        Forbidden,
        OrderConflict,
        PaymentNotConfigured,
        PaymentRefused,
        PaymentUnavailable,
    ];
    let invalid = [InvalidArgument];
    Routes::new()
        .add_with_alias(routes!(recharge::recharge), "/billing/v1/billing/recharge", &unpaid)
        .add(routes!(orders::list), &invalid)
        .add(routes!(orders::show), &[OrderNotFound])
        .add_with_alias(routes!(account::account), "/billing/v1/billing/account", &invalid)
        .add_with_alias(routes!(account::records), "/billing/v1/billing/records", &invalid)
        .add_with_alias(routes!(account::today), "/billing/v1/billing/stats/today", &invalid)
        .add_with_alias(routes!(account::month), "/billing/v1/billing/stats/month", &invalid)
        .add_with_alias(
            routes!(account::summary),
            "/billing/v1/billing/stats/monthly-usage-summary",
            &invalid,
        )
        .add(routes!(account::statement), &invalid)
        .add(routes!(account::quote), &[InvalidArgument, UnknownService])
        .all_refuse(&[Unauthorized, TokenExpired, TokenInvalid, Overloaded, Unavailable])
        .secured_by(&["identity"])
}

fn callbacks() -> Routes<Public> {
    use Code::{
        InvalidArgument, OrderNotFound, Overloaded, PaymentMismatch, PaymentNotConfigured,
        PaymentUnavailable, TokenExpired, TokenInvalid, Unavailable,
    };
    let refused = [
        InvalidArgument,
        TokenExpired,
        TokenInvalid,
        OrderNotFound,
        PaymentMismatch,
        PaymentNotConfigured,
        PaymentUnavailable,
        Overloaded,
        Unavailable,
    ];
    Routes::new()
        .add_with_alias(routes!(callback::callback), "/billing/v1/internal/callback", &refused)
        .secured_by(&["webhookId", "webhookTimestamp", "webhookSignature"])
}
