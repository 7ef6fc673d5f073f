//! What is looked at while faults happen: the invariants, and what gateways have not reported.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use farebox_core::money::Nanos;
use farebox_tests::StackError;
use serde::Serialize;
use serde_json::Value;

use crate::catalog::{BUDGETED, budget};
use crate::inflict::Log;
use crate::journal::Journal;
use crate::judge::{Breach, Kind};
use crate::plan::GATEWAYS;
use crate::site::Site;

/// How often the invariants are asked for.
const ASK_EVERY: Duration = Duration::from_secs(3);

/// How many of the questions of a round must be answered: the database is away for a part of it, never for most of it.
const ANSWERED_PERCENT: u64 = 30;

/// How often gateways are asked what they have not reported, and how long that may take: a stopped one never answers.
const MEASURE_EVERY: Duration = Duration::from_millis(500);

const UNREPORTED: &str = "wasmcustom.farebox_unreported_units";
const AT_RISK: &str = "wasmcustom.farebox_at_risk_nanos";
const LENT: &str = "wasmcustom.farebox_lent_nanos";
const ALLOWED: &str = "wasmcustom.farebox_blind_units";
const BY_BUDGET: &str = "wasmcustom.farebox_budget_strict";

/// How many of the moments in which more than the budget was lent are kept; the first ones say enough.
const ABOVE_MAX: usize = 1_000;

/// How often the invariants were asked for and answered, and how often nobody answered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Asked {
    pub(crate) answered: u64,
    pub(crate) away: u64,
}

/// What was seen.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// How often the invariants were asked for in each round, and after the last one.
    pub(crate) asked: Vec<Asked>,
    pub(crate) breaches: Vec<Breach>,
    /// The largest number of units that one gateway had not reported.
    pub(crate) unreported: u64,
    /// The most money that such units of one gateway were worth.
    pub(crate) at_risk_nanos: u64,
    /// The most money that was lent to the gateway with a budget, and when it was more than that.
    pub(crate) lent_nanos: u64,
    pub(crate) above_budget: Vec<(u64, Nanos)>,
    /// Calls that were decided one by one because the budget was spent, as far as seen.
    pub(crate) by_budget: u64,
}

/// The watcher's notes.
pub(crate) type Notes = Arc<Mutex<Seen>>;

/// Watches until told to stop.
pub(crate) async fn watch(
    site: Arc<Site>,
    journal: Arc<Journal>,
    notes: Notes,
    stop: Arc<AtomicBool>,
) {
    let asking = async {
        while !stop.load(Ordering::Relaxed) {
            ask(&site, &notes);
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    let measuring = async {
        while !stop.load(Ordering::Relaxed) {
            for number in 0..site.gateways.len() {
                let units = stat(&site, number, UNREPORTED).await.unwrap_or(0);
                let nanos = stat(&site, number, AT_RISK).await.unwrap_or(0);
                note(&notes, |seen| {
                    seen.unreported = seen.unreported.max(units);
                    seen.at_risk_nanos = seen.at_risk_nanos.max(nanos);
                });
            }
            look_at_budget(&site, &journal, &notes).await;
            tokio::time::sleep(MEASURE_EVERY).await;
        }
    };
    tokio::join!(asking, measuring);
}

async fn look_at_budget(site: &Site, journal: &Journal, notes: &Notes) {
    let by_budget = stat(site, BUDGETED, BY_BUDGET).await.unwrap_or(0);
    let nanos = stat(site, BUDGETED, LENT).await.unwrap_or(0);
    let (lent, at) = (Nanos::new(i64::try_from(nanos).unwrap_or(i64::MAX)), journal.now_ms());
    note(notes, |seen| {
        seen.by_budget = seen.by_budget.max(by_budget);
        seen.lent_nanos = seen.lent_nanos.max(nanos);
        if budget() < lent && seen.above_budget.len() < ABOVE_MAX {
            seen.above_budget.push((at, lent));
        }
    });
}

/// How many units each gateway that never ended has allowed without a lease.
pub(crate) async fn allowed(site: &Site, log: &Log) -> Result<BTreeMap<usize, u64>> {
    let deaths = log.deaths();
    let mut allowed = BTreeMap::new();
    for gateway in
        (0..GATEWAYS).filter(|gateway| deaths.iter().all(|death| death.gateway != *gateway))
    {
        let units = stat(site, gateway, ALLOWED).await;
        allowed
            .insert(gateway, units.with_context(|| format!("no {ALLOWED} of gateway {gateway}"))?);
    }
    Ok(allowed)
}

/// Has the invariants checked, on one snapshot; whether they were answered at all.
pub(crate) fn ask(site: &Site, notes: &Notes) -> bool {
    let printed = tokio::task::block_in_place(|| site.observe(&["invariants", "--json"]));
    let violations = match printed {
        Ok(_) => Some(Vec::new()),
        Err(err) => match err.downcast_ref() {
            Some(StackError::Command { output, .. }) => violations(output),
            _ => None,
        },
    };
    let answered = violations.is_some();
    note(notes, |seen| {
        if let Some(round) = seen.asked.last_mut() {
            round.answered += u64::from(answered);
            round.away += u64::from(!answered);
        }
        let breach = |text| Breach { kind: Kind::Invariant, text };
        seen.breaches.extend(violations.unwrap_or_default().into_iter().map(breach));
    });
    answered
}

/// What is asked for from now on belongs to another round.
pub(crate) fn next_round(notes: &Notes) {
    note(notes, |seen| seen.asked.push(Asked::default()));
}

/// Rounds in which the invariants were answered so rarely that they say nothing about the faults.
pub(crate) fn unwatched(rounds: &[Asked]) -> Vec<Breach> {
    let is_watched = |round: &Asked| {
        let asked = round.answered + round.away;
        0 < round.answered && asked * ANSWERED_PERCENT <= round.answered * 100
    };
    let unwatched = (1..).zip(rounds).filter(|(_, round)| !is_watched(round));
    unwatched
        .map(|(number, Asked { answered, away })| {
            let text = format!(
                "the invariants were answered {answered} times in round {number} and not {away} times; at least {ANSWERED_PERCENT} % must be"
            );
            Breach { kind: Kind::Unwatched, text }
        })
        .collect()
}

fn note(notes: &Notes, change: impl FnOnce(&mut Seen)) {
    if let Ok(mut seen) = notes.lock() {
        change(&mut seen);
    }
}

/// The violations in what `farebox invariants --json` printed; none when that is something else, such as "no database".
fn violations(printed: &str) -> Option<Vec<String>> {
    // What the program complains about follows the JSON.
    let mut values = serde_json::Deserializer::from_str(printed).into_iter::<Value>();
    let rules = values.next()?.ok()?;
    let rules = rules.as_array()?;
    let rows = |rule: &Value| rule["violations"].as_array().cloned().unwrap_or_default();
    Some(
        rules
            .iter()
            .flat_map(rows)
            .map(|row| row.as_str().unwrap_or_default().to_owned())
            .collect(),
    )
}

/// A statistic of a gateway's filter; none while it is away.
pub(crate) async fn stat(site: &Site, gateway: usize, name: &str) -> Option<u64> {
    let path = format!("/stats?filter=^{name}$");
    let asked = site.gateways[gateway].envoy.admin(&path);
    let lines = tokio::time::timeout(MEASURE_EVERY, asked).await.ok()??;
    lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::{Asked, unwatched, violations};

    #[test]
    fn violations_are_told_from_other_failures() {
        let broken = r#"[{"id":"M1","violations":["a"]},{"id":"M5","violations":[]}]
farebox: 1 row breaks a rule"#;
        assert_eq!(violations(broken), Some(vec!["a".to_owned()]));
        assert_eq!(violations("farebox: the database cannot be reached"), None);
    }

    #[test]
    fn a_round_without_answers_does_not_pass() {
        let count = |answered, away| unwatched(&[Asked { answered, away }]).len();
        assert_eq!(
            [count(5, 0), count(3, 7), count(2, 8), count(0, 5), count(0, 0)],
            [0, 0, 1, 1, 1]
        );
    }
}
