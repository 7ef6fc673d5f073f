//! The public listener: users through the gateway, callbacks of the payment service, and `GET /health`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::sync::Semaphore;

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

/// The second address of each pair is that of the predecessor's later versions.
pub(super) fn routes(public: Public) -> Router {
    let users = Router::new()
        .route("/api/v1/billing/recharge", post(recharge::recharge))
        .route("/billing/v1/billing/recharge", post(recharge::recharge))
        .route("/api/v1/billing/orders", get(orders::list))
        .route("/api/v1/billing/orders/{order_id}", get(orders::show))
        .route("/api/v1/billing/account", get(account::account))
        .route("/billing/v1/billing/account", get(account::account))
        .route("/api/v1/billing/records", get(account::records))
        .route("/billing/v1/billing/records", get(account::records))
        .route("/api/v1/billing/stats/today", get(account::today))
        .route("/billing/v1/billing/stats/today", get(account::today))
        .route("/api/v1/billing/stats/month", get(account::month))
        .route("/billing/v1/billing/stats/month", get(account::month))
        .route("/api/v1/billing/stats/summary", get(account::summary))
        .route("/billing/v1/billing/stats/monthly-usage-summary", get(account::summary))
        .route("/api/v1/billing/statement", get(account::statement))
        .route("/api/v1/billing/quote", get(account::quote))
        .with_state(public.clone());
    let callbacks = Router::new()
        .route("/internal/v1/billing/callback", post(callback::callback))
        .route("/billing/v1/internal/callback", post(callback::callback))
        .with_state(public);
    Router::new()
        .route("/health", get(health::health))
        .merge(shed::limit(users, USERS_IN_FLIGHT_MAX, Shed::Users))
        .merge(shed::limit(callbacks, CALLBACKS_IN_FLIGHT_MAX, Shed::Callbacks))
}
