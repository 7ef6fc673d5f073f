//! What the last checks found, as any sidecar tells it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::mysql::MySqlConnection;

use crate::app::{App, rfc3339};
use crate::metrics;
use crate::store::invariant::{self, Rule};
use crate::store::invariant_run::{self, Covered, Run};
use crate::store::user_balance::due;
use crate::store::{self, StoreError, invariant_violation};

/// The most rows that are told of one invariant.
const TOLD_MAX: u64 = 100;

/// One invariant as it was last checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InvariantStatus {
    /// The family, `M1` to `M6`.
    pub id: String,
    /// The invariant among all, as metrics name it.
    pub name: String,
    /// The rule, as a sentence.
    pub rule: String,
    /// How many rows the last check covered.
    pub checked: u64,
    /// What the last check covered: accounts that had `touched` rows, or `all`; absent before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The moment that the last check saw, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<String>,
    /// The moment that the last check of everything saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_checked_at: Option<String>,
    /// How many rows are known to break it; at 1,000 there may be more.
    pub violations: u64,
    /// The first of them, one sentence each.
    pub rows: Vec<String>,
}

/// Every invariant, in their order.
pub(in crate::app) async fn all(app: &App) -> Result<Vec<InvariantStatus>, StoreError> {
    let mut connection = app.store.acquire().await?;
    let mut tx = store::begin_snapshot(&mut connection).await?;
    let statuses = read(&mut tx).await;
    // Nothing was written: only the snapshot ends.
    tx.rollback().await?;
    statuses
}

async fn read(tx: &mut MySqlConnection) -> Result<Vec<InvariantStatus>, StoreError> {
    let runs = invariant_run::all(tx).await?;
    let broken = invariant_violation::count(tx).await?;
    let mut statuses = Vec::new();
    for rule in invariant::rules() {
        let violations = known(&broken, rule);
        let rows = match violations {
            0 => Vec::new(),
            _ => invariant_violation::first(tx, rule.name, TOLD_MAX).await?,
        };
        let of_rule: Vec<&Run> = runs.iter().filter(|run| run.invariant == rule.name).collect();
        let last = of_rule.iter().max_by_key(|run| run.checked_at);
        let all = of_rule.iter().find(|run| run.covered == Covered::All);
        statuses.push(InvariantStatus {
            id: rule.id.to_owned(),
            name: rule.name.to_owned(),
            rule: rule.sentence.to_owned(),
            checked: last.map_or(0, |run| run.checked),
            scope: last.map(|run| run.covered.as_text().to_owned()),
            checked_at: last.map(|run| rfc3339(run.checked_at)),
            all_checked_at: all.map(|run| rfc3339(run.checked_at)),
            violations,
            rows,
        });
    }
    Ok(statuses)
}

fn known(broken: &[(String, u64)], rule: &Rule) -> u64 {
    broken.iter().find(|(name, _)| name == rule.name).map_or(0, |(_, count)| *count)
}

/// Shows in this process's metrics what the database knows, whichever sidecar has found it out.
pub(in crate::app) async fn show(app: &App) -> Result<(), StoreError> {
    let mut connection = app.store.acquire().await?;
    let runs = invariant_run::all(&mut connection).await?;
    let broken = invariant_violation::count(&mut connection).await?;
    let longest = due::longest(&mut connection).await?;
    for rule in invariant::rules() {
        metrics::invariant_violations(rule.name, known(&broken, rule));
    }
    for covered in Covered::EACH {
        let of_kind = runs.iter().filter(|run| run.covered == covered);
        // An invariant that a newer program knows may have been checked later than the others: the oldest counts.
        let oldest: Option<DateTime<Utc>> = of_kind.map(|run| run.checked_at).min();
        if let Some(oldest) = oldest {
            metrics::invariant_checked_at(covered.as_text(), oldest.timestamp());
        }
    }
    metrics::invariant_unchecked(longest.unwrap_or(Duration::ZERO));
    Ok(())
}
