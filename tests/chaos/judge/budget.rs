//! The gateway with a budget (`max_at_risk`): no more is lent to it, and no more is lost with it.

use farebox_core::money::Nanos;

use super::{Breach, Charged, Expected, Facts, Kind, OnLost, Owner, Verdict};
use crate::catalog::{BUDGETED, CLIENTS, LEASE_TTL_MS, RISE, SERVICES, Service, budget, users};

/// Leases at new prices come with the next grants; those at old ones have run out after this.
const REPRICED_MS: u64 = 2 * LEASE_TTL_MS;

/// The most that may be lent at a moment: the budget, and more where the documentation says so. A key whose price the
/// process does not know yet is asked for with the units of one call; what was asked for at one price may be granted at a
/// higher one.
fn limit(facts: &Facts, at: u64) -> Nanos {
    let first = Service::Coin.prices().1.checked_mul(CLIENTS * users().len() as u64);
    let changes = || facts.price_changes.iter().map(|(from, to)| *from..=*to + REPRICED_MS);
    let rise = if changes().any(|change| change.contains(&at)) { RISE } else { 1 };
    let lent = budget().checked_mul(rise);
    lent.zip(first).and_then(|(lent, first)| lent.checked_add(first)).unwrap_or(Nanos::MAX)
}

/// Counts what was lost with it: served and not charged, or charged without being reported.
pub(super) fn count(
    facts: &Facts,
    owner: &Owner,
    expected: &Expected,
    charged: Charged,
    verdict: &mut Verdict,
) {
    let is_leased = |service: &Service| service.is_leased() && service.name() == owner.service;
    if owner.gateway.is_some() || !SERVICES.iter().any(is_leased) {
        return;
    }
    let lost = match facts.on_lost {
        OnLost::Reported => {
            expected.due.checked_sub(charged.amount).filter(|lost| Nanos::ZERO < *lost)
        }
        OnLost::Granted => Some(charged.lost_amount),
    };
    let sum = verdict.budget_lost.checked_add(lost.unwrap_or(Nanos::ZERO));
    verdict.budget_lost = sum.unwrap_or(Nanos::MAX);
}

pub(super) fn judge(facts: &Facts, verdict: &mut Verdict) {
    let mut breach = |text| verdict.breaches.push(Breach { kind: Kind::AtRisk, text });
    let above = facts.above_budget.iter().find(|(at, lent)| limit(facts, *at) < *lent);
    if let Some((at, lent)) = above {
        breach(format!(
            "gateway {BUDGETED} was lent {lent} at {at} ms; {} is the most at that time",
            limit(facts, *at)
        ));
    }
    let deaths = facts.deaths.iter().filter(|death| death.gateway == BUDGETED);
    let limits = deaths.map(|death| limit(facts, death.begun_ms));
    let most = limits.fold(Nanos::ZERO, |sum, more| sum.checked_add(more).unwrap_or(Nanos::MAX));
    let lost = verdict.budget_lost;
    if most < lost {
        breach(format!("{lost} was lost with gateway {BUDGETED}, {most} is the most for its ends"));
    }
}
