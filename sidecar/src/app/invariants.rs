//! The checks that prove the books: each names the rows that break it.

use serde::Serialize;

use crate::app::App;
use crate::store::{self, StoreError, invariant};

/// One rule and the rows that break it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Invariant {
    /// The family in the design: `M1` no overspend, `M2` charged once, `M3` nothing lost, `M5` the books balance,
    /// `M6` recharged once.
    pub id: &'static str,
    /// The rule, as a sentence.
    pub rule: &'static str,
    /// How many rows were checked.
    pub checked: u64,
    /// The rows that break it, one sentence each.
    pub violations: Vec<String>,
}

pub(super) async fn check(app: &App) -> Result<Vec<Invariant>, StoreError> {
    let mut connection = app.store.acquire().await?;
    let mut tx = store::begin_snapshot(&mut connection).await?;
    let mut invariants = Vec::with_capacity(invariant::RULES.len());
    for rule in &invariant::RULES {
        let (checked, violations) = invariant::check(&mut tx, rule).await?;
        invariants.push(Invariant { id: rule.id, rule: rule.sentence, checked, violations });
    }
    // Nothing was written: only the snapshot ends.
    tx.rollback().await?;
    Ok(invariants)
}
