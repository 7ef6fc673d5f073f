//! The judge: a simple model of what must be, against what is. Pure: journal, witnesses and books in, breaches out.
//!
//! `docs/chaos.md` states the bounds and why they are what they are.

use std::collections::BTreeMap;

use farebox_core::money::Nanos;
use serde::Serialize;

use crate::catalog::{PRICE_MAX, SERVICES, SIDECAR_TIMEOUT_MS, SYNC_INTERVAL_MS, Service};
use crate::journal::{Entry, Outcome};

mod path;

pub(crate) use path::{longest, on_path};

/// What was served just after a gateway's end was still drawn before it: bytes on their way.
const ON_THE_WAY_MS: u64 = 1_000;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// More was charged than was served, and than unknown outcomes explain.
    DoubleCharge,
    /// Served and not charged, beyond the bound.
    Lost,
    /// More was spent than there was.
    Overspend,
    /// An account has more than came in.
    DoubleCredit,
    /// An account has less than came in.
    LostCredit,
    /// The same key got two answers; or a call that was refused was served.
    Contradiction,
    /// A rule over the rows is broken.
    Invariant,
    /// Somebody who has money was not served in time.
    Liveness,
    /// Something did not come to rest after the traffic.
    Drain,
}

/// A breach, with what to look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Breach {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

/// What the books have of one user and service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Charged {
    /// Units, less those that came back.
    pub(crate) units: u64,
    /// Money, less what came back.
    pub(crate) amount: Nanos,
    /// What no money was there for.
    pub(crate) owed: Nanos,
    /// The part of it for usage that arrived after its lease had been taken back.
    pub(crate) owed_late: Nanos,
}

/// What the books have of one user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) balance: Nanos,
    pub(crate) receivable: Nanos,
}

/// A stretch of time, in milliseconds since the campaign began.
pub(crate) type Stretch = (u64, u64);

/// Everything that is known after a campaign.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) entries: Vec<Entry>,
    /// When the upstream saw which call.
    pub(crate) arrivals: BTreeMap<u64, u64>,
    pub(crate) charged: BTreeMap<(String, String), Charged>,
    pub(crate) accounts: BTreeMap<String, Account>,
    /// Money that came, less money that went back, by user.
    pub(crate) money_in: BTreeMap<String, Nanos>,
    /// When which gateway was ended without draining.
    pub(crate) deaths: Vec<(usize, u64)>,
    /// When the way from each gateway to its books was broken.
    pub(crate) troubles: Vec<Vec<Stretch>>,
    /// The longest such stretch that leases outlive.
    pub(crate) reclaim_ms: u64,
}

/// What the judge found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) breaches: Vec<Breach>,
    /// Pairs of user and service, and those of which every outcome was known: their sums were compared exactly.
    pub(crate) pairs: usize,
    pub(crate) exact_pairs: usize,
    /// Units that were served and not charged, and how many may have been.
    pub(crate) lost_units: u64,
    pub(crate) lost_units_bound: u64,
    /// Units that were charged and not served: calls that were cut between charge and upstream.
    pub(crate) unserved_units: u64,
    pub(crate) unserved_units_bound: u64,
    /// Money owed for usage that came after its lease had been taken back.
    pub(crate) owed_late: Nanos,
}

/// How many units must and may be on record, and how much money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Expected {
    least: u64,
    most: u64,
    /// Of the least, how many a killed gateway may have lost.
    losable: u64,
    /// What clients were told that they pay, and for how many units.
    told: Nanos,
    told_units: u64,
}

/// Judges a campaign.
pub(crate) fn judge(facts: &Facts) -> Verdict {
    let mut verdict = Verdict::default();
    for user in facts.accounts.keys() {
        for service in SERVICES {
            pair(facts, user, service, &mut verdict);
        }
        money(facts, user, &mut verdict);
    }
    contradictions(facts, &mut verdict);
    verdict
}

/// When a gateway that ended at `death` may have drawn units that it did not report: one interval and one round trip
/// before it, and, where its way to the books was broken by then, since that began.
pub(crate) fn exposed_since(troubles: &[Stretch], death: u64) -> u64 {
    let before = SYNC_INTERVAL_MS + SIDECAR_TIMEOUT_MS;
    let mut since = death.saturating_sub(before);
    loop {
        let reaching = troubles.iter().filter(|(from, to)| *from < death && since <= *to);
        let earlier = reaching.map(|(from, _)| from.saturating_sub(before)).min();
        match earlier.filter(|earlier| *earlier < since) {
            Some(earlier) => since = earlier,
            None => return since,
        }
    }
}

fn expected(facts: &Facts, user: &str, service: Service) -> Expected {
    let mine = facts.entries.iter().filter(|entry| entry.user == user && entry.service == service);
    mine.fold(Expected::default(), |sum, entry| sum.with(facts, entry))
}

impl Expected {
    /// One more operation: must it be charged, may it be?
    fn with(mut self, facts: &Facts, entry: &Entry) -> Self {
        let arrived = facts.arrivals.get(&entry.id);
        let done = entry.outcome == Outcome::Ok;
        let must = match entry.service {
            Service::Coin | Service::Duo | Service::Mixed | Service::Strict => arrived.is_some(),
            Service::Win | Service::Sure | Service::Ask => done,
        };
        if must {
            self.least += entry.units;
            self.most += entry.units;
            if entry.service.is_leased() && is_exposed(facts, entry, arrived) {
                self.losable += entry.units;
            }
        } else if may_be_charged(facts, entry) {
            self.most += entry.units;
        }
        if let Some(told) = entry.told.filter(|_| done) {
            self.told = self.told.checked_add(told).unwrap_or(Nanos::MAX);
            self.told_units += entry.units;
        }
        self
    }
}

/// Whether a gateway ended so soon after this call that its unit may never have been reported.
fn is_exposed(facts: &Facts, entry: &Entry, arrived: Option<&u64>) -> bool {
    let (Some(gateway), at) = (entry.gateway, arrived.copied().unwrap_or(entry.ended_ms)) else {
        return false;
    };
    let troubles = facts.troubles.get(gateway).map_or(&[][..], Vec::as_slice);
    let mut deaths = facts.deaths.iter().filter(|(dead, _)| *dead == gateway);
    deaths.any(|&(_, death)| {
        // A call for success is charged when its answer ends: it counts to its end.
        let last = if entry.service.is_for_success() { entry.ended_ms } else { at };
        exposed_since(troubles, death) <= last && at <= death + ON_THE_WAY_MS
    })
}

/// Whether a call that need not be charged may be, once: nobody told, or what would have undone it died with its gateway.
fn may_be_charged(facts: &Facts, entry: &Entry) -> bool {
    let died_after = || {
        let mut deaths = facts.deaths.iter();
        deaths.any(|&(dead, death)| Some(dead) == entry.gateway && entry.begun_ms <= death)
    };
    let answered = entry.status != 0;
    match entry.service {
        Service::Win => !answered,
        Service::Sure => !answered || died_after(),
        Service::Strict => {
            entry.outcome == Outcome::Unknown || (entry.status == 503 && died_after())
        }
        Service::Coin | Service::Duo | Service::Mixed | Service::Ask => {
            entry.outcome == Outcome::Unknown
        }
    }
}

fn pair(facts: &Facts, user: &str, service: Service, verdict: &mut Verdict) {
    let key = (user.to_owned(), service.name().to_owned());
    let charged = facts.charged.get(&key).copied().unwrap_or_default();
    let expected = expected(facts, user, service);
    verdict.pairs += 1;
    let lost = expected.least.saturating_sub(charged.units);
    verdict.lost_units += lost;
    verdict.lost_units_bound += expected.losable;
    verdict.unserved_units += charged.units.saturating_sub(expected.least);
    verdict.unserved_units_bound += expected.most - expected.least;
    let who = format!("{user}, {}", service.name());
    let hint = format!("`farebox explain {user}`");
    if expected.losable < lost {
        let text = format!(
            "{who}: {} units were to be charged, {} are on record, {lost} are missing; killed gateways may have lost {}; {hint}",
            expected.least, charged.units, expected.losable
        );
        verdict.breaches.push(Breach { kind: Kind::Lost, text });
    }
    if expected.most < charged.units {
        let text = format!(
            "{who}: {} units are on record, {} were to be charged, and unknown outcomes explain up to {}; {hint}",
            charged.units, expected.least, expected.most
        );
        verdict.breaches.push(Breach { kind: Kind::DoubleCharge, text });
    }
    if expected.least == expected.most && expected.losable == 0 {
        verdict.exact_pairs += 1;
    }
    amounts(&who, expected, charged, verdict);
}

/// What clients were told that they pay against what they paid. Where every outcome is known and nothing could be lost, the
/// two sums are the same.
fn amounts(who: &str, expected: Expected, charged: Charged, verdict: &mut Verdict) {
    let at_most = |units: u64| PRICE_MAX.checked_mul(units).unwrap_or(Nanos::MAX);
    let untold = expected.most.saturating_sub(expected.told_units);
    let least = expected.told.checked_sub(at_most(expected.losable)).unwrap_or(Nanos::ZERO);
    let most = expected.told.checked_add(at_most(untold)).unwrap_or(Nanos::MAX);
    let (kind, what) = match charged.amount {
        amount if amount < least => (Kind::Lost, "less"),
        amount if most < amount => (Kind::DoubleCharge, "more"),
        _ => return,
    };
    let text = format!(
        "{who}: {} was charged, {what} than the {} that callers were told ({} units of them not told, {} losable)",
        charged.amount, expected.told, untold, expected.losable
    );
    verdict.breaches.push(Breach { kind, text });
}

fn money(facts: &Facts, user: &str, verdict: &mut Verdict) {
    let account = facts.accounts.get(user).copied().unwrap_or_default();
    let mine = || facts.charged.iter().filter(|((owner, _), _)| owner == user);
    let sum = |of: fn(&Charged) -> Nanos| {
        mine().map(|(_, charged)| of(charged)).try_fold(Nanos::ZERO, Nanos::checked_add)
    };
    let (charged, owed) = (sum(|charged| charged.amount), sum(|charged| charged.owed));
    let owed_late = sum(|charged| charged.owed_late).unwrap_or_default();
    let came = facts.money_in.get(user).copied().unwrap_or_default();
    let due = charged.and_then(|charged| came.checked_sub(charged));
    let has = account.balance.checked_sub(account.receivable);
    if has != due {
        let kind = if due < has { Kind::DoubleCredit } else { Kind::LostCredit };
        let (balance, receivable) = (account.balance, account.receivable);
        let text = format!(
            "{user}: {came} came in and {charged:?} was charged, but the balance is {balance}, {receivable} owed"
        );
        verdict.breaches.push(Breach { kind, text });
    }
    verdict.owed_late = verdict.owed_late.checked_add(owed_late).unwrap_or(Nanos::MAX);
    let silent = facts.troubles.iter().any(|troubles| facts.reclaim_ms <= longest(troubles));
    let is_overspent = owed != Some(owed_late) || (owed_late != Nanos::ZERO && !silent);
    if is_overspent {
        let text = format!(
            "{user}: units worth {owed:?} were spent without money for them, {owed_late} of it reported after the lease was taken back; `farebox explain {user}`"
        );
        verdict.breaches.push(Breach { kind: Kind::Overspend, text });
    }
}

/// A call that was refused did not reach the upstream; one that was served did.
fn contradictions(facts: &Facts, verdict: &mut Verdict) {
    for entry in facts.entries.iter().filter(|entry| entry.gateway.is_some()) {
        let arrived = facts.arrivals.contains_key(&entry.id);
        let told = match entry.outcome {
            Outcome::Ok if !arrived => "answered 200, but the upstream never saw it",
            // Of a route that charges for success, a failed answer of the upstream stands as refused.
            Outcome::Refused if arrived && !entry.service.is_for_success() => {
                "refused, but the upstream saw it"
            }
            Outcome::Ok | Outcome::Refused | Outcome::Unknown => continue,
        };
        let Entry { id, user, service, status, .. } = entry;
        let text = format!("call {id} of {user}, {}: {told} (status {status})", service.name());
        verdict.breaches.push(Breach { kind: Kind::Contradiction, text });
    }
}

#[cfg(test)]
mod tests;
