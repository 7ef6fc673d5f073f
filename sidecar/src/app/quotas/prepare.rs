//! The rows of the month to come, made ahead of it, so that its first calls find theirs. One sidecar does it at a time.
//!
//! It is a help and nothing depends on it: whoever has no row gets one with the first call. A row that was made ahead counts
//! as none until it is used ([`crate::store::free_quota::Quota::is_prepared`]), so it freezes no free quota that is changed
//! before, whichever sidecar made it with whatever configuration. For the same reason accounts are neither locked nor written.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::mysql::MySqlConnection;

use super::given;
use crate::app::App;
use crate::app::books::new_id;
use crate::calendar::{Coming, coming_month};
use crate::metrics;
use crate::store::free_quota::prepared::{self, Prepared};
use crate::store::free_quota_run::{self, Run};
use crate::store::retry::retry;
use crate::store::user_balance::list;
use crate::store::{self, StoreError, job_lease};

const JOB: &str = "quotas";

/// How long the job stays with a sidecar that stopped doing it: a few of its rounds.
const JOB_TTL: Duration = Duration::from_secs(180);

/// From how many days before its beginning a month is prepared. Each of these days has a pass of its own: the first one does
/// the work while there is time to repair what keeps it from being done, the others add who came later.
const AHEAD_DAYS: u64 = 3;

/// The most rows of one transaction, so that a call of the new month waits only briefly for a row that is being made; and the
/// most accounts that one looks at.
const ROWS_PER_ROUND: usize = 4_000;
const ACCOUNTS_PER_ROUND: usize = 2_000;

/// What a round did.
#[derive(Debug, Default)]
struct Round {
    rows: u64,
    is_last: bool,
}

/// Makes the rows of the month to come for the accounts that use the same services in this one; how many. Does nothing while
/// there is time, when today's pass is done, or while another sidecar does it. No round begins once `go_on` says no.
pub(in crate::app) async fn run(app: &App, go_on: impl Fn() -> bool) -> Result<u64, StoreError> {
    let Some(token) = app.acquire_job(JOB, JOB_TTL).await? else { return Ok(0) };
    let mut rows = 0;
    while go_on() {
        let round = retry(JOB, || async {
            let mut tx = app.store.begin().await?;
            let outcome = round(app, &mut tx, token).await;
            store::finish(tx, outcome).await
        })
        .await?;
        metrics::quotas_prepared(round.rows);
        rows += round.rows;
        if round.is_last {
            break;
        }
    }
    Ok(rows)
}

async fn round(app: &App, tx: &mut MySqlConnection, token: i64) -> Result<Round, StoreError> {
    // Keeps the job, and requires that it is still this sidecar's, until the round is written.
    if job_lease::acquire(tx, JOB, &app.owner, JOB_TTL).await? != Some(token) {
        return Err(StoreError::Fenced { job: JOB });
    }
    let now = store::now(tx).await?;
    let Some(month) = coming_month(now, AHEAD_DAYS, app.settings.time_zone) else {
        return Ok(Round { is_last: true, ..Round::default() });
    };
    let run = free_quota_run::find(tx, &month.next).await?;
    if !is_due(&run, &month) {
        return Ok(Round { is_last: true, ..Round::default() });
    }
    let given = given(&app.settings);
    let limit = (ROWS_PER_ROUND / given.len().max(1)).clamp(1, ACCOUNTS_PER_ROUND);
    let after = run.after.unwrap_or_default();
    let accounts = list::names(tx, &after, limit).await?;
    let is_last = accounts.len() < limit;
    let services: Vec<&str> = given.iter().map(|(service, _)| service.as_str()).collect();
    let months = (month.current.as_str(), month.next.as_str());
    let missing = prepared::missing(tx, &accounts, &services, months).await?;
    let rows: Vec<Prepared<'_>> = missing
        .iter()
        .filter_map(|(account, service)| {
            let (_, total) = given.iter().find(|(name, _)| name.as_str() == service)?;
            Some(Prepared { id: new_id(), account, service, total: *total })
        })
        .collect();
    let rows = prepared::insert(tx, &rows, &month.next).await?;
    let run = match accounts.into_iter().next_back() {
        Some(last) if !is_last => Run { after: Some(last), finished_at: run.finished_at },
        _ => Run { after: None, finished_at: Some(now) },
    };
    free_quota_run::note(tx, &month.next, &run, rows).await?;
    Ok(Round { rows, is_last })
}

/// Whether a pass is to be begun or gone on with: one that was broken off yesterday is finished first.
fn is_due(run: &Run, month: &Coming) -> bool {
    run.after.is_some() || run.finished_at.is_none_or(|finished| finished < month.day_began)
}

/// When the last pass came to its end, and for how long today's has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::app) struct Progress {
    pub(in crate::app) finished_at: Option<DateTime<Utc>>,
    pub(in crate::app) unfinished: Duration,
}

/// How far the month to come is prepared.
pub(in crate::app) async fn progress(
    connection: &mut MySqlConnection,
    app: &App,
    now: DateTime<Utc>,
) -> Result<Progress, StoreError> {
    let finished_at = free_quota_run::last_finished(connection).await?;
    let unfinished = match coming_month(now, AHEAD_DAYS, app.settings.time_zone) {
        Some(month) if is_due(&free_quota_run::find(connection, &month.next).await?, &month) => {
            (now - month.day_began).to_std().unwrap_or_default()
        }
        _ => Duration::ZERO,
    };
    Ok(Progress { finished_at, unfinished })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_day_has_a_pass_and_one_that_was_broken_off_is_finished_first() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let run = |after: Option<&str>, finished: Option<&str>| Run {
            after: after.map(str::to_owned),
            finished_at: finished.map(at),
        };
        let month = coming_month(at("2026-11-30T10:00:00Z"), 3, chrono_tz::UTC).unwrap();
        for (run, expected) in [
            (run(None, None), true),
            (run(Some("u"), None), true),
            (run(None, Some("2026-11-29T23:59:59.999Z")), true),
            (run(None, Some("2026-11-30T00:00:00Z")), false),
            (run(Some("u"), Some("2026-11-29T10:00:00Z")), true),
        ] {
            assert_eq!(is_due(&run, &month), expected, "{run:?}");
        }
    }
}
