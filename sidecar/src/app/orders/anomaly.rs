//! News of payments that did not fit: never credited, kept for people to look at, counted and logged.

use farebox_core::order::{Claim, Mismatch};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::mysql::MySqlConnection;

use crate::app::{App, rfc3339};
use crate::metrics;
use crate::store;
use crate::store::StoreError;
use crate::store::payment_anomaly::{self, Anomaly, NewAnomaly};
use crate::store::recharge_order::Order;
use crate::store::retry::retry;

/// News that did not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AnomalyView {
    /// Its number.
    pub id: i64,
    /// What does not fit: `payment`, `order`, `amount`, `currency`, `user`, `status` or `unknown_order`.
    pub kind: String,
    /// The order that the news names.
    pub order_id: String,
    /// The payment that the news names.
    pub payment_id: String,
    /// What the order says.
    pub expected: Value,
    /// What the news says.
    pub found: Value,
    /// How often the same news came.
    pub times_seen: i64,
    /// When it came first, RFC 3339 in UTC.
    pub first_seen_at: String,
    /// When it came last.
    pub last_seen_at: String,
}

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

pub(in crate::app) async fn newest(app: &App, limit: u32) -> Result<Vec<AnomalyView>, StoreError> {
    let mut connection = app.store.acquire().await?;
    let anomalies = payment_anomaly::newest(&mut connection, limit).await?;
    Ok(anomalies.into_iter().map(view).collect())
}

fn view(anomaly: Anomaly) -> AnomalyView {
    let value = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    AnomalyView {
        id: anomaly.id,
        kind: anomaly.kind,
        order_id: anomaly.order_id,
        payment_id: anomaly.payment_id,
        expected: value(&anomaly.expected_json),
        found: value(&anomaly.found_json),
        times_seen: anomaly.times_seen,
        first_seen_at: rfc3339(anomaly.first_seen_at),
        last_seen_at: rfc3339(anomaly.last_seen_at),
    }
}
