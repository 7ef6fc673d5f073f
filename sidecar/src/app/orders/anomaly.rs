//! News of payments that did not fit: never credited by itself, kept for people to decide, counted and logged.

use farebox_core::order::{Claim, Mismatch};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::mysql::MySqlConnection;

pub use self::action::{Action, ActionError};
pub use self::resolve::{Resolution, ResolveError};
pub use self::view::{
    AnomaliesError, AnomalyFilter, AnomalyPage, AnomalyState, AnomalyStateError, AnomalyView,
    ResolutionView,
};
use crate::app::App;
use crate::metrics;
use crate::store;
use crate::store::StoreError;
use crate::store::payment_anomaly::{self, NewAnomaly};
use crate::store::recharge_order::Order;
use crate::store::retry::retry;

mod action;
pub(in crate::app) mod resolve;
pub(in crate::app) mod view;

/// What was kept, to be told once it is committed.
#[derive(Debug)]
#[must_use = "nobody hears of it"]
pub(super) struct Kept {
    kind: Mismatch,
    order_id: String,
    payment_id: String,
    expected: String,
    found: String,
}

impl Kept {
    /// Counts it and calls people.
    pub(super) fn tell(&self) {
        metrics::anomaly(self.kind);
        tracing::error!(
            order.id = self.order_id,
            payment.id = self.payment_id,
            anomaly.kind = self.kind.as_str(),
            expected = self.expected,
            found = self.found,
            "alert: a payment does not fit its order; it is kept for review"
        );
    }
}

/// Keeps what did not fit. `order` is `None` when there is no such order; `said` is the status, or the call that told it.
pub(super) async fn record(
    connection: &mut MySqlConnection,
    kind: Mismatch,
    order_id: &str,
    order: Option<&Order>,
    claim: &Claim<'_>,
    said: &str,
) -> Result<Kept, StoreError> {
    let expected = order.map(|order| {
        json!({
            "payment_id": order.payment_id,
            "amount": order.amount,
            "currency": order.currency,
            "user_id": order.account,
            "state": order.state,
        })
    });
    let found = json!({
        "payment_id": claim.payment_id,
        "amount": claim.amount,
        "currency": claim.currency,
        "user_id": claim.user_id,
        "status": said,
    });
    let (expected_json, found_json) =
        (expected.unwrap_or(Value::Null).to_string(), found.to_string());
    let content = serde_json::to_vec(&(kind.as_str(), order_id, claim.payment_id, &found_json));
    let new = NewAnomaly {
        // Texts always have a JSON text; it keeps their ends apart.
        fingerprint: Sha256::digest(content.unwrap_or_default()).into(),
        kind: kind.as_str(),
        order_id,
        payment_id: claim.payment_id,
        expected_json,
        found_json,
    };
    payment_anomaly::record(connection, &new).await?;
    Ok(Kept {
        kind,
        order_id: order_id.to_owned(),
        payment_id: claim.payment_id.to_owned(),
        expected: new.expected_json,
        found: new.found_json,
    })
}

/// The same in a transaction of its own, told at once.
pub(super) async fn keep(
    app: &App,
    kind: Mismatch,
    order_id: &str,
    order: Option<&Order>,
    claim: &Claim<'_>,
    said: &str,
) -> Result<(), StoreError> {
    let kept = retry("keep an anomaly", || async {
        let mut tx = app.store.begin().await?;
        let outcome = record(&mut tx, kind, order_id, order, claim, said).await;
        store::finish(tx, outcome).await
    });
    kept.await.map(|kept: Kept| kept.tell())
}
