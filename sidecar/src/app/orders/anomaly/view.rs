//! News that did not fit, as operators see it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::action::{self, Action};
use crate::app::page::{self, PageError, Place as _};
use crate::app::{App, rfc3339};
use crate::store::StoreError;
use crate::store::payment_anomaly::{self, Anomaly, Resolved};

/// Whether somebody has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnomalyState {
    /// Nobody has.
    Open,
    /// Somebody has.
    Resolved,
}

/// A word that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no state; write open or resolved")]
pub struct AnomalyStateError {
    text: String,
}

impl AnomalyState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Resolved => "resolved",
        }
    }
}

impl fmt::Display for AnomalyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AnomalyState {
    type Err = AnomalyStateError;

    fn from_str(text: &str) -> Result<Self, AnomalyStateError> {
        let found = [Self::Open, Self::Resolved].into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| AnomalyStateError { text: text.to_owned() })
    }
}

/// Which anomalies a page has.
#[derive(Debug, Clone, Default)]
pub struct AnomalyFilter {
    /// In this state only.
    pub state: Option<AnomalyState>,
    /// How many at most, 1 to 200; 20 when it is not said.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// News that did not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AnomalyView {
    /// Its number.
    pub id: i64,
    /// What does not fit: `payment`, `order`, `amount`, `currency`, `user`, `status` or `unknown_order`.
    pub kind: String,
    /// `open` or `resolved`.
    pub state: AnomalyState,
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
    /// What may be done about it; nothing once it is resolved.
    pub actions: Vec<Action>,
    /// What was decided.
    pub resolution: Option<ResolutionView>,
}

/// What was decided about news that did not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ResolutionView {
    /// `dismiss`, `credit` or `refund_at_provider`.
    pub action: String,
    /// Whose account was credited.
    pub account: Option<String>,
    /// Why.
    pub reason: String,
    /// By whom.
    pub by: String,
    /// When.
    pub at: String,
}

/// Anomalies, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AnomalyPage {
    /// The anomalies.
    pub anomalies: Vec<AnomalyView>,
    /// What to ask for to see older ones; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Why anomalies cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum AnomaliesError {
    /// No such anomaly.
    #[error("there is no anomaly {id}; farebox anomalies list tells numbers")]
    Unknown {
        /// What was named.
        id: i64,
    },
    /// No such page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(in crate::app) async fn page(
    app: &App,
    filter: &AnomalyFilter,
) -> Result<AnomalyPage, AnomaliesError> {
    let limit = page::limit(filter.limit)?;
    let before = page::after(filter.cursor.as_deref())?;
    let state = filter.state.map(AnomalyState::as_str);
    let mut connection = app.store.acquire().await?;
    let listed = payment_anomaly::list(&mut connection, state, before, limit).await?;
    Ok(AnomalyPage {
        anomalies: listed.rows.into_iter().map(view).collect(),
        next_cursor: listed.end.map(|id| id.to_text()),
    })
}

pub(in crate::app) async fn one(app: &App, id: i64) -> Result<AnomalyView, AnomaliesError> {
    let mut connection = app.store.acquire().await?;
    let found = payment_anomaly::find(&mut connection, id).await?;
    found.map(view).ok_or(AnomaliesError::Unknown { id })
}

pub(super) fn view(anomaly: Anomaly) -> AnomalyView {
    let value = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    let found = value(&anomaly.found_json);
    let resolution = anomaly.resolved.map(|resolved| {
        let Resolved { action, account, reason, by, at } = resolved;
        ResolutionView { action, account, reason, by, at: rfc3339(at) }
    });
    let (state, actions) = match &resolution {
        Some(_) => (AnomalyState::Resolved, Vec::new()),
        None => (AnomalyState::Open, action::possible(&anomaly.kind, &found)),
    };
    AnomalyView {
        id: anomaly.id,
        kind: anomaly.kind,
        state,
        order_id: anomaly.order_id,
        payment_id: anomaly.payment_id,
        expected: value(&anomaly.expected_json),
        found,
        times_seen: anomaly.times_seen,
        first_seen_at: rfc3339(anomaly.first_seen_at),
        last_seen_at: rfc3339(anomaly.last_seen_at),
        actions,
        resolution,
    }
}
