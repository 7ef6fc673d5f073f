//! A check of every row. It may run beside traffic, and takes the longer the more rows there are.

use chrono::{DateTime, Utc};
use sqlx::mysql::MySqlConnection;

use super::{Found, Invariant, KEPT_MAX};
use crate::app::App;
use crate::metrics;
use crate::store::invariant::{self, Scope};
use crate::store::invariant_run::{self, Covered};
use crate::store::invariant_violation::{self, NewViolation};
use crate::store::retry::retry;
use crate::store::user_balance::due;
use crate::store::{self, StoreError};

pub(in crate::app) async fn check(app: &App) -> Result<Vec<Invariant>, StoreError> {
    let (moment, found) = read(app).await?;
    found.iter().for_each(Found::alert);
    if let Err(err) = retry("invariants", || keep(app, moment, &found)).await {
        // What was found is told all the same.
        tracing::warn!(error = %err, "the results of a check were not stored");
    }
    found.iter().for_each(|found| metrics::invariant_checked(found.rule.name, found.checked));
    Ok(found.into_iter().map(Invariant::from).collect())
}

/// Everything at one moment, by the database's clock.
async fn read(app: &App) -> Result<(DateTime<Utc>, Vec<Found>), StoreError> {
    let mut connection = app.store.acquire().await?;
    let mut tx = store::begin_snapshot(&mut connection).await?;
    let moment = store::now(&mut tx).await?;
    let mut found = Vec::new();
    for rule in invariant::rules() {
        let (checked, violations) = invariant::check(&mut tx, rule, Scope::All).await?;
        found.push(Found { rule, checked, violations });
    }
    // Nothing was written: only the snapshot ends.
    tx.rollback().await?;
    Ok((moment, found))
}

async fn keep(app: &App, moment: DateTime<Utc>, found: &[Found]) -> Result<(), StoreError> {
    let mut tx = app.store.begin().await?;
    let outcome = write(&mut tx, moment, found).await;
    store::finish(tx, outcome).await
}

async fn write(
    tx: &mut MySqlConnection,
    moment: DateTime<Utc>,
    found: &[Found],
) -> Result<(), StoreError> {
    let counts: Vec<_> = found.iter().map(|found| (found.rule.name, found.checked)).collect();
    let rows: Vec<NewViolation<'_>> = found.iter().flat_map(Found::rows).collect();
    let broken: Vec<&str> = rows.iter().map(|row| row.account).collect();
    // What a check of touched accounts found meanwhile is newer.
    invariant_violation::forget_until(tx, moment).await?;
    invariant_violation::insert(tx, moment, &rows, KEPT_MAX).await?;
    invariant_run::note(tx, Covered::All, moment, &counts).await?;
    due::mark(tx, &broken).await
}
