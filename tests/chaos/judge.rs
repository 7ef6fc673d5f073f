//! The judge: a simple model of what must be, against what is. Pure: journal, witnesses and books in, breaches out.
//!
//! `docs/chaos.md` states the bounds and why they are what they are.

use std::collections::BTreeMap;
use std::fmt;

use farebox_core::money::Nanos;
use serde::Serialize;

use crate::catalog::{BUDGETED, SIDECAR_TIMEOUT_MS, SYNC_INTERVAL_MS};
use crate::journal::{Entry, Outcome};
use crate::passes::Pass;
use crate::plan::OnLost;

mod allowed;
mod budget;
mod expected;
mod path;
mod taken;

use expected::{Expected, Range};

pub(crate) use path::{longest, on_path};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// More was charged than was served, and than unknown outcomes explain.
    DoubleCharge,
    /// More was lent to a gateway than its budget, or lost with it.
    AtRisk,
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
    /// The invariants were not answered often enough to mean anything.
    Unwatched,
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

/// Whose a sum is: a user's for a service; where the books tell it, through one gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) user: String,
    pub(crate) service: String,
    pub(crate) gateway: Option<usize>,
}

/// What the books have of one of them.
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
    /// The part of it for usage that was allowed without a lease.
    pub(crate) owed_allowed: Nanos,
    /// Of units and money: what leases of silent gateways held, nobody having reported it.
    pub(crate) lost_units: u64,
    pub(crate) lost_amount: Nanos,
    /// Of the units: what was allowed without a lease.
    pub(crate) allowed_units: u64,
}

/// What the books have of one user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) balance: Nanos,
    pub(crate) receivable: Nanos,
}

/// A stretch of time, in milliseconds since the campaign began.
pub(crate) type Stretch = (u64, u64);

/// The end of a gateway without draining.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Death {
    pub(crate) gateway: usize,
    /// When it began: from then on it may have reported nothing any more.
    pub(crate) begun_ms: u64,
    /// When the process was gone: until then it may have served.
    pub(crate) gone_ms: u64,
}

/// A lease that its gateway had named, and that was taken back because nobody heard of it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TakenBack {
    pub(crate) lease: u64,
    pub(crate) owner: Owner,
    /// When it was last heard of, and when it was due.
    pub(crate) silent: Stretch,
}

/// Everything that is known after a campaign.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) entries: Vec<Entry>,
    /// When the upstream saw which call.
    pub(crate) arrivals: BTreeMap<u64, u64>,
    /// Which calls passed a gateway, as it wrote down.
    pub(crate) passes: BTreeMap<u64, Pass>,
    pub(crate) charged: BTreeMap<Owner, Charged>,
    pub(crate) accounts: BTreeMap<String, Account>,
    /// Money that came, less money that went back, by user.
    pub(crate) money_in: BTreeMap<String, Nanos>,
    /// Which gateways were ended without draining.
    pub(crate) deaths: Vec<Death>,
    /// Leases that were taken back.
    pub(crate) taken_back: Vec<TakenBack>,
    /// When the way from each gateway to its books was broken.
    pub(crate) troubles: Vec<Vec<Stretch>>,
    /// The longest such stretch that leases outlive.
    pub(crate) reclaim_ms: u64,
    /// Who bears what killed gateways had not reported.
    pub(crate) on_lost: OnLost,
    /// What each gateway that never ended says that it allowed without a lease.
    pub(crate) allowed: BTreeMap<usize, u64>,
    /// When the gateway with a budget was lent more than that, and how much.
    pub(crate) above_budget: Vec<(u64, Nanos)>,
    /// When prices changed.
    pub(crate) price_changes: Vec<Stretch>,
}

/// What the judge found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) breaches: Vec<Breach>,
    /// Sums of units and money by user, service and, for leases, gateway; and those of which everything was known: they
    /// were compared exactly.
    pub(crate) sums: usize,
    pub(crate) exact_sums: usize,
    /// The same of what did not go through a gateway that was killed.
    pub(crate) steady_sums: usize,
    pub(crate) exact_steady_sums: usize,
    /// Units that were served and not charged, and how many may have been.
    pub(crate) lost_units: u64,
    pub(crate) lost_units_bound: u64,
    /// Units that were charged and not served: calls that were cut between charge and upstream.
    pub(crate) unserved_units: u64,
    pub(crate) unserved_units_bound: u64,
    /// Units that were charged because their leases were taken back from silent gateways.
    pub(crate) granted_units: u64,
    /// Units that were allowed without a lease.
    pub(crate) allowed_units: u64,
    /// What was lost with the gateway that has a budget: not charged, or charged without being reported.
    pub(crate) budget_lost: Nanos,
    /// Money owed for usage that came after its lease had been taken back.
    pub(crate) owed_late: Nanos,
}

impl Owner {
    fn of(entry: &Entry) -> Self {
        // Calls that the sidecar decides have no gateway in the books.
        let is_told = |gateway: &usize| entry.service.is_leased() && *gateway != BUDGETED;
        let gateway = entry.gateway.filter(is_told);
        Self { user: entry.user.clone(), service: entry.service.name().to_owned(), gateway }
    }
}

impl Charged {
    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        let plus = Nanos::checked_add;
        Some(Self {
            units: self.units + other.units,
            amount: plus(self.amount, other.amount)?,
            owed: plus(self.owed, other.owed)?,
            owed_late: plus(self.owed_late, other.owed_late)?,
            owed_allowed: plus(self.owed_allowed, other.owed_allowed)?,
            lost_units: self.lost_units + other.lost_units,
            lost_amount: plus(self.lost_amount, other.lost_amount)?,
            allowed_units: self.allowed_units + other.allowed_units,
        })
    }

    /// Without what was taken back: what somebody asked for or reported.
    fn reported(self) -> Self {
        let units = self.units.saturating_sub(self.lost_units);
        let amount = self.amount.checked_sub(self.lost_amount).unwrap_or(Nanos::ZERO);
        Self { units, amount, ..self }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.user, self.service)?;
        self.gateway.map_or(Ok(()), |gateway| write!(f, ", gateway {gateway}"))
    }
}

impl Verdict {
    fn count(&mut self, facts: &Facts, owner: &Owner, is_exact: bool) {
        let is_killed = |gateway| facts.deaths.iter().any(|death| death.gateway == gateway);
        let calls = facts.entries.iter().filter(|entry| Owner::of(entry) == *owner);
        let is_steady = !calls.filter_map(|entry| entry.gateway).any(is_killed);
        self.sums += 1;
        self.exact_sums += usize::from(is_exact);
        self.steady_sums += usize::from(is_steady);
        self.exact_steady_sums += usize::from(is_steady && is_exact);
    }
}

/// Whether a call surely did not pass its gateway: the gateway wrote nothing of it, and did not die with it.
fn is_left_out(facts: &Facts, entry: &Entry) -> bool {
    !expected::died_after(facts, entry)
        && !facts.passes.get(&entry.id).is_some_and(|pass| pass.is_admitted)
}

/// Judges a campaign.
pub(crate) fn judge(facts: &Facts) -> Verdict {
    let mut verdict = Verdict::default();
    let mut sums: BTreeMap<Owner, Vec<&Entry>> = BTreeMap::new();
    for entry in &facts.entries {
        sums.entry(Owner::of(entry)).or_default().push(entry);
    }
    // What nobody asked for must not be on record either.
    for owner in facts.charged.keys() {
        sums.entry(owner.clone()).or_default();
    }
    for (owner, mine) in &sums {
        judge_sum(facts, owner, mine, &mut verdict);
    }
    for user in facts.accounts.keys() {
        money(facts, user, &mut verdict);
    }
    contradictions(facts, &mut verdict);
    allowed::judge(facts, &mut verdict);
    budget::judge(facts, &mut verdict);
    taken::silence(facts, &mut verdict);
    verdict
}

/// A message comes within an interval and a round trip. One that leaves an account out, because somebody has it locked, is
/// followed by the next one, which has it.
const UNREPORTED_MS: u64 = 2 * (SYNC_INTERVAL_MS + SIDECAR_TIMEOUT_MS);

/// When a gateway that ended at `death` may have drawn units that it did not report: two intervals and round trips before
/// it, and, where its way to the books was broken by then, since that began.
pub(crate) fn exposed_since(troubles: &[Stretch], death: u64) -> u64 {
    let before = UNREPORTED_MS;
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

fn judge_sum(facts: &Facts, owner: &Owner, mine: &[&Entry], verdict: &mut Verdict) {
    let charged = facts.charged.get(owner).copied().unwrap_or_default();
    let expected = mine.iter().fold(Expected::default(), |sum, entry| sum.with(facts, entry));
    verdict.count(facts, owner, expected.is_exact() && charged.lost_units == 0);
    taken::judge(facts, owner, &expected, charged, verdict);
    budget::count(facts, owner, &expected, charged, verdict);
    let reported = charged.reported();
    verdict.unserved_units += reported.units.saturating_sub(expected.least);
    let lost = expected.least.saturating_sub(charged.units);
    verdict.lost_units += lost;
    verdict.lost_units_bound += expected.losable;
    verdict.unserved_units_bound += expected.most - expected.least;
    let hint = format!("`farebox account show {}`", owner.user);
    if expected.losable < lost {
        let text = format!(
            "{owner}: {} units were to be charged, {} are on record, {lost} are missing; killed gateways may have lost {}; {hint}",
            expected.least, charged.units, expected.losable
        );
        verdict.breaches.push(Breach { kind: Kind::Lost, text });
    }
    if expected.most < reported.units {
        let text = format!(
            "{owner}: {} units are on record, {} were to be charged, and unknown outcomes explain up to {}; {hint}",
            reported.units, expected.least, expected.most
        );
        verdict.breaches.push(Breach { kind: Kind::DoubleCharge, text });
    }
    let Range { least, most } = expected.amount;
    let (kind, what) = match charged.amount {
        amount if amount < least => (Kind::Lost, "less"),
        _ if most < reported.amount => (Kind::DoubleCharge, "more"),
        _ => return,
    };
    let amount = charged.amount;
    let text = format!(
        "{owner}: {amount} was charged, {what} than it must be ({least} to {most}); {hint}"
    );
    verdict.breaches.push(Breach { kind, text });
}

fn money(facts: &Facts, user: &str, verdict: &mut Verdict) {
    let account = facts.accounts.get(user).copied().unwrap_or_default();
    let mine = || facts.charged.iter().filter(|(owner, _)| owner.user == user);
    let sum = |of: fn(&Charged) -> Nanos| {
        mine().map(|(_, charged)| of(charged)).try_fold(Nanos::ZERO, Nanos::checked_add)
    };
    let charged = sum(|charged| charged.amount);
    // What a route allows is allowed to those without money too.
    let owed = sum(|charged| charged.owed.checked_sub(charged.owed_allowed).unwrap_or(Nanos::MAX));
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
    let came_late = mine().filter(|(_, charged)| charged.owed_late != Nanos::ZERO);
    let is_excused = came_late.into_iter().all(|(owner, _)| was_cut_off(facts, owner));
    let is_overspent = owed != Some(owed_late) || !is_excused;
    if is_overspent {
        let text = format!(
            "{user}: units worth {owed:?} were spent without money for them, {owed_late} of it reported after the lease was taken back; `farebox account show {user}`"
        );
        verdict.breaches.push(Breach { kind: Kind::Overspend, text });
    }
}

/// Whether faults kept the reports of a sum's gateway away for so long that leases were taken back.
fn was_cut_off(facts: &Facts, owner: &Owner) -> bool {
    let troubles = facts.troubles.get(owner.gateway.unwrap_or(BUDGETED));
    troubles.is_some_and(|troubles| facts.reclaim_ms <= longest(troubles))
}

/// A call that was refused did not reach the upstream; one that was served did.
fn contradictions(facts: &Facts, verdict: &mut Verdict) {
    for entry in facts.entries.iter().filter(|entry| entry.gateway.is_some()) {
        let arrived = facts.arrivals.contains_key(&entry.id);
        let passed = facts.passes.get(&entry.id).is_some_and(|pass| pass.is_admitted);
        let told = match entry.outcome {
            Outcome::Ok if !arrived => "answered 200, but the upstream never saw it",
            // Of a route that charges for success, a failed answer of the upstream stands as refused.
            Outcome::Refused if arrived && !entry.service.is_for_success() => {
                "refused, but the upstream saw it"
            }
            Outcome::Refused if passed && !entry.service.is_for_success() => {
                "refused, but its gateway let it through"
            }
            Outcome::Refused | Outcome::Unknown if arrived && is_left_out(facts, entry) => {
                "the upstream saw it, but its gateway has not let it through"
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
