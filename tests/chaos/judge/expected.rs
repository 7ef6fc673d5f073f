//! What must be on record, and what may be: operation by operation, from what clients were told and witnesses say.

use farebox_core::money::Nanos;

use super::{Facts, exposed_since, is_left_out};
use crate::catalog::{BUDGETED, Service};
use crate::journal::{Entry, Outcome};
use crate::plan::OnLost;

/// What was served just after a gateway's end was still drawn before it: bytes on their way.
const ON_THE_WAY_MS: u64 = 1_000;

/// Between which two amounts a sum must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) least: Nanos,
    pub(super) most: Nanos,
}

/// How many units must and may be on record, and how much money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) least: u64,
    pub(super) most: u64,
    /// Of the least, how many a killed gateway may have lost.
    pub(super) losable: u64,
    /// Of the least, how many a killed gateway may not have reported, whoever bears that.
    pub(super) exposed: u64,
    pub(super) amount: Range,
    /// What the least costs at least, with what may have been lost.
    pub(super) due: Nanos,
}

/// Whether one operation is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charge {
    Must,
    /// It must be, unless its gateway died with it.
    Losable,
    May,
    MustNot,
}

impl Expected {
    /// One more operation: must it be charged, may it be?
    pub(super) fn with(mut self, facts: &Facts, entry: &Entry) -> Self {
        let (charge, units) = (charge(facts, entry), entry.units);
        if charge == Charge::MustNot {
            return self;
        }
        self.most += units;
        if charge != Charge::May {
            self.least += units;
        }
        if charge == Charge::Losable {
            self.exposed += units;
            self.losable += if is_charged_when_lost(facts, entry) { 0 } else { units };
        }
        let Range { least, most } = price(facts, entry);
        let plus = |sum: Nanos, more: Nanos| sum.checked_add(more).unwrap_or(Nanos::MAX);
        self.amount.most = plus(self.amount.most, most);
        if charge == Charge::Must
            || (charge == Charge::Losable && is_charged_when_lost(facts, entry))
        {
            self.amount.least = plus(self.amount.least, least);
        }
        if charge != Charge::May {
            self.due = plus(self.due, least);
        }
        self
    }

    /// Whether there is one right number of units, and of money.
    pub(super) fn is_exact(&self) -> bool {
        self.least == self.most && self.losable == 0 && self.amount.least == self.amount.most
    }
}

/// Whether the account bears what its gateway had not reported: what was drawn from a lease, of which it holds enough. Of
/// what may have been allowed without a lease nobody has heard.
fn is_charged_when_lost(facts: &Facts, entry: &Entry) -> bool {
    facts.on_lost == OnLost::Granted && !entry.service.may_be_allowed()
}

/// What the operation costs if it is charged: what somebody was told, or what its service can cost.
fn price(facts: &Facts, entry: &Entry) -> Range {
    let seen = facts.passes.get(&entry.id).and_then(|pass| pass.told);
    if let Some(told) = entry.told.or(seen) {
        return Range { least: told, most: told };
    }
    let (least, most) = entry.service.prices();
    let times = |price: Nanos| price.checked_mul(entry.units).unwrap_or(Nanos::MAX);
    Range { least: times(least), most: times(most) }
}

fn charge(facts: &Facts, entry: &Entry) -> Charge {
    let arrived = facts.arrivals.get(&entry.id);
    let pass = facts.passes.get(&entry.id);
    let must = match entry.service {
        Service::Coin
        | Service::Duo
        | Service::Mixed
        | Service::Open
        | Service::Grace
        | Service::Strict => arrived.is_some() || pass.is_some_and(|pass| pass.is_admitted),
        Service::Win | Service::Sure => {
            entry.outcome == Outcome::Ok || pass.is_some_and(|pass| pass.ended_well)
        }
        Service::Ask => entry.outcome == Outcome::Ok,
    };
    match must {
        true if entry.service.is_leased() && is_exposed(facts, entry, arrived) => Charge::Losable,
        true => Charge::Must,
        false if may_be_charged(facts, entry) => Charge::May,
        false => Charge::MustNot,
    }
}

/// Whether a gateway ended so soon after this call that its unit may never have been reported.
fn is_exposed(facts: &Facts, entry: &Entry, arrived: Option<&u64>) -> bool {
    let (Some(gateway), at) = (entry.gateway, arrived.copied().unwrap_or(entry.ended_ms)) else {
        return false;
    };
    let troubles = facts.troubles.get(gateway).map_or(&[][..], Vec::as_slice);
    let mut deaths = facts.deaths.iter().filter(|death| death.gateway == gateway);
    deaths.any(|death| {
        // A call for success is charged when its answer ends: it counts to its end. One that did not arrive counts from
        // its begin to its end.
        let last = if entry.service.is_for_success() { entry.ended_ms } else { at };
        let first = if arrived.is_some() { at } else { entry.begun_ms };
        exposed_since(troubles, death.begun_ms) <= last && first <= death.gone_ms + ON_THE_WAY_MS
    })
}

/// Whether the call's gateway was gone after it had begun.
pub(super) fn died_after(facts: &Facts, entry: &Entry) -> bool {
    let mut deaths = facts.deaths.iter();
    deaths.any(|death| Some(death.gateway) == entry.gateway && entry.begun_ms <= death.gone_ms)
}

/// Whether an operation that need not be charged may be, once: nobody told, or what would have undone it died with its
/// gateway.
fn may_be_charged(facts: &Facts, entry: &Entry) -> bool {
    let is_unanswered = entry.status == 0;
    // The gateway wrote how the call ended, or lived on without ever having had it.
    let is_settled = facts.passes.contains_key(&entry.id) || is_left_out(facts, entry);
    // Beyond its budget a gateway has calls on lease routes decided like those on strict ones.
    let service = match entry.service {
        Service::Win if entry.gateway == Some(BUDGETED) => Service::Sure,
        service if service.is_leased() && entry.gateway == Some(BUDGETED) => Service::Strict,
        service => service,
    };
    match service {
        Service::Win => is_unanswered && !is_settled,
        Service::Sure => (is_unanswered && !is_settled) || died_after(facts, entry),
        Service::Strict => {
            let was_undone = entry.outcome == Outcome::Unknown || entry.status == 503;
            (entry.outcome == Outcome::Unknown && !is_settled)
                || (was_undone && died_after(facts, entry))
        }
        Service::Coin | Service::Duo | Service::Mixed | Service::Open | Service::Grace => {
            entry.outcome == Outcome::Unknown && !is_settled
        }
        Service::Ask => entry.outcome == Outcome::Unknown,
    }
}
