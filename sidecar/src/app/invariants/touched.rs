//! A check of the accounts that changed since they were last checked, in rounds. One sidecar does it at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::mysql::MySqlConnection;
use tokio::time::Instant;

use super::{Found, KEPT_MAX};
use crate::app::App;
use crate::metrics;
use crate::store::invariant::{self, Scope};
use crate::store::invariant_run::{self, Covered};
use crate::store::invariant_violation::{self, NewViolation};
use crate::store::retry::retry;
use crate::store::user_balance::due::{self, Checked, Due};
use crate::store::{self, StoreError, job_lease};

const JOB: &str = "invariants";

/// How long the job stays with a sidecar that stopped doing it: a few of its rounds.
const JOB_TTL: Duration = Duration::from_secs(180);

/// The most accounts, and the most ledger entries of theirs, that one round reads. An account with more entries has a round of
/// its own.
const ACCOUNTS_PER_ROUND: usize = 200;
const ENTRIES_PER_ROUND: i64 = 50_000;

/// The most rounds of a run: the rest is due in the next one.
const ROUNDS_MAX: u32 = 50;

/// No round begins later than this after the first, so that runs do not pile up.
const LAST_START: Duration = Duration::from_secs(45);

/// An account that changes all the time is due again after so many times what its round took: checking it costs the
/// database no more than a twentieth of one connection's time, however many rows it has.
const PAUSE_FACTOR: u32 = 20;

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Accounts that were checked.
    pub accounts: u64,
    /// Rows that break a rule, one sentence each.
    pub violations: Vec<String>,
    /// Whether accounts were left for the next run.
    pub is_full: bool,
}

/// A run's results, by rule.
#[derive(Default)]
struct Run {
    touched: Touched,
    checked: BTreeMap<&'static str, u64>,
    /// Accounts that somebody had locked: they stay due, and the others' turn comes all the same.
    left: BTreeSet<String>,
}

/// Checks accounts that are due; `None` while another sidecar does it.
pub(in crate::app) async fn check(app: &App) -> Result<Option<Touched>, StoreError> {
    let Some(token) = app.acquire_job(JOB, JOB_TTL).await? else { return Ok(None) };
    let (started, moment) = (Instant::now(), now(app).await?);
    let mut run = Run::default();
    for _ in 0..ROUNDS_MAX {
        if !round(app, token, moment, &mut run).await? {
            run.touched.is_full = !run.left.is_empty();
            note(app, token, moment, &run).await?;
            return Ok(Some(run.touched));
        }
        if LAST_START <= started.elapsed() {
            break;
        }
    }
    run.touched.is_full = true;
    note(app, token, moment, &run).await?;
    Ok(Some(run.touched))
}

async fn now(app: &App) -> Result<DateTime<Utc>, StoreError> {
    store::now(&mut *app.store.acquire().await?).await
}

/// Checks some of the accounts that were due at `moment`; whether there were any.
async fn round(
    app: &App,
    token: i64,
    moment: DateTime<Utc>,
    run: &mut Run,
) -> Result<bool, StoreError> {
    let started = Instant::now();
    let Seen { at, accounts, found } = read(app, moment, &run.left).await?;
    if accounts.is_empty() {
        return Ok(false);
    }
    found.iter().for_each(Found::alert);
    let broken: BTreeSet<&str> =
        found.iter().flat_map(Found::rows).map(|row| row.account).collect();
    let checked: Vec<Checked> = accounts
        .iter()
        .map(|due| Checked {
            account: due.account.clone(),
            change_seq: due.change_seq,
            is_broken: broken.contains(due.account.as_str()).into(),
        })
        .collect();
    let pause = started.elapsed().saturating_mul(PAUSE_FACTOR);
    let left = retry(JOB, || async {
        let mut tx = app.store.begin().await?;
        let outcome = write(&mut tx, token, at, &found, &checked, pause).await;
        store::finish(tx, outcome).await
    })
    .await?;
    run.add(accounts.len(), found);
    run.left.extend(left);
    Ok(true)
}

/// Accounts and what breaks a rule in them, at one moment.
struct Seen {
    at: DateTime<Utc>,
    accounts: Vec<Due>,
    found: Vec<Found>,
}

async fn read(
    app: &App,
    moment: DateTime<Utc>,
    left: &BTreeSet<String>,
) -> Result<Seen, StoreError> {
    let mut connection = app.store.acquire().await?;
    let mut tx = store::begin_snapshot(&mut connection).await?;
    let at = store::now(&mut tx).await?;
    let mut due = due::find(&mut tx, moment, ACCOUNTS_PER_ROUND + left.len()).await?;
    due.retain(|due| !left.contains(&due.account));
    let accounts = fitting(due);
    let names: Vec<String> = accounts.iter().map(|due| due.account.clone()).collect();
    let mut found = Vec::new();
    if !names.is_empty() {
        for rule in invariant::rules() {
            let (checked, violations) = invariant::check(&mut tx, rule, Scope::Of(&names)).await?;
            found.push(Found { rule, checked, violations });
        }
    }
    // Nothing was written: only the snapshot ends.
    tx.rollback().await?;
    Ok(Seen { at, accounts, found })
}

/// The first accounts, as many as one round may read the rows of.
fn fitting(due: Vec<Due>) -> Vec<Due> {
    let mut entries = 0_i64;
    let mut fits = |due: &Due| {
        let is_first = entries == 0;
        entries = entries.saturating_add(due.entry_seq.max(1));
        is_first || entries <= ENTRIES_PER_ROUND
    };
    due.into_iter().take_while(|due| fits(due)).collect()
}

async fn write(
    tx: &mut MySqlConnection,
    token: i64,
    at: DateTime<Utc>,
    found: &[Found],
    checked: &[Checked],
    pause: Duration,
) -> Result<Vec<String>, StoreError> {
    job_lease::require(tx, JOB, token).await?;
    let accounts: Vec<String> = checked.iter().map(|row| row.account.clone()).collect();
    let rows: Vec<NewViolation<'_>> = found.iter().flat_map(Found::rows).collect();
    invariant_violation::forget(tx, &accounts).await?;
    invariant_violation::insert(tx, at, &rows, KEPT_MAX).await?;
    due::note_checked(tx, checked, pause).await
}

/// Stores that the run took place, also one that found nothing to check: it is over then.
async fn note(app: &App, token: i64, moment: DateTime<Utc>, run: &Run) -> Result<(), StoreError> {
    let checked = |name| run.checked.get(name).copied().unwrap_or(0);
    let counts: Vec<_> = invariant::rules().map(|rule| (rule.name, checked(rule.name))).collect();
    retry(JOB, || async {
        let mut tx = app.store.begin().await?;
        let outcome = match job_lease::require(&mut tx, JOB, token).await {
            Ok(()) => invariant_run::note(&mut tx, Covered::Touched, moment, &counts).await,
            Err(err) => Err(err),
        };
        store::finish(tx, outcome).await
    })
    .await
}

impl Run {
    fn add(&mut self, accounts: usize, found: Vec<Found>) {
        self.touched.accounts += accounts as u64;
        for Found { rule, checked, violations } in found {
            *self.checked.entry(rule.name).or_default() += checked;
            metrics::invariant_checked(rule.name, checked);
            self.touched.violations.extend(violations.into_iter().map(|row| row.text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(entry_seq: i64) -> Due {
        Due { account: String::new(), change_seq: 1, entry_seq }
    }

    #[test]
    fn a_round_is_bounded_by_entries_and_an_account_of_any_size_has_one() {
        let sizes = |entries: &[i64]| fitting(entries.iter().copied().map(due).collect()).len();
        assert_eq!(sizes(&[]), 0);
        assert_eq!(sizes(&[0, 1, 2]), 3);
        assert_eq!(sizes(&[ENTRIES_PER_ROUND - 1, 1, 1]), 2);
        assert_eq!(sizes(&[i64::MAX, 1]), 1);
        assert_eq!(sizes(&[1, i64::MAX, 1]), 1);
    }
}
