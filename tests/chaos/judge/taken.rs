//! Leases that were taken back from silent gateways, with `on_lost: granted`: their units are charged although nobody has
//! reported them. That must stay what it is there for.

use super::{
    Breach, Charged, Expected, Facts, Kind, OnLost, Owner, TakenBack, Verdict, longest, was_cut_off,
};
use crate::catalog::BUDGETED;

pub(super) fn judge(
    facts: &Facts,
    owner: &Owner,
    expected: &Expected,
    charged: Charged,
    verdict: &mut Verdict,
) {
    verdict.granted_units += charged.lost_units;
    let gateway = owner.gateway.unwrap_or(BUDGETED);
    let has_died = facts.deaths.iter().any(|death| death.gateway == gateway);
    let was_silent = was_cut_off(facts, owner);
    let may_be_taken = facts.on_lost == OnLost::Granted && (has_died || was_silent);
    if 0 < charged.lost_units && !may_be_taken {
        let (units, policy) = (charged.lost_units, facts.on_lost.as_str());
        let text = format!(
            "{owner}: {units} units are charged as lost, with {policy}, and gateway {gateway} neither ended nor was cut off for long"
        );
        verdict.breaches.push(Breach { kind: Kind::DoubleCharge, text });
    }
    // What a gateway had the time to report must not stand there as lost: it would be charged by luck.
    let reported = charged.reported().units;
    let unreported = expected.least.saturating_sub(reported);
    let exposed = expected.exposed;
    if facts.on_lost == OnLost::Granted && !was_silent && exposed < unreported {
        let text = format!(
            "{owner}: {unreported} units that were served are not reported, and the end of gateway {gateway} explains {exposed}"
        );
        verdict.breaches.push(Breach { kind: Kind::Lost, text });
    }
}

/// Every lease that was taken back belonged to a gateway that had ended by then, or was cut off meanwhile.
pub(super) fn silence(facts: &Facts, verdict: &mut Verdict) {
    for TakenBack { lease, owner, silent } in &facts.taken_back {
        let gateway = owner.gateway.unwrap_or(BUDGETED);
        // It may have been heard of after its end: what was on its way then.
        let (from, to) = (silent.0.saturating_sub(facts.reclaim_ms), silent.1);
        let mut deaths = facts.deaths.iter().filter(|death| death.gateway == gateway);
        let has_died = deaths.any(|death| from <= death.gone_ms && death.begun_ms <= to);
        // A lease that nobody uses is spoken of when half of its time is over, and a busy account may be left out for a
        // while, so trouble may begin so much later.
        let troubles = facts.troubles.get(gateway).map_or(&[][..], Vec::as_slice);
        let meanwhile =
            troubles.iter().map(|(begun, healed)| (silent.0.max(*begun), to.min(*healed)));
        let meanwhile: Vec<_> = meanwhile.filter(|(begun, healed)| begun < healed).collect();
        if has_died || facts.reclaim_ms / 4 <= longest(&meanwhile) {
            continue;
        }
        let text = format!(
            "{owner}: lease {lease} was taken back after a silence from {from} to {to} ms, and gateway {gateway} neither ended nor was cut off for that long",
            from = silent.0
        );
        verdict.breaches.push(Breach { kind: Kind::Liveness, text });
    }
}
