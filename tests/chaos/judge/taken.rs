//! Leases that were taken back from silent gateways, with `on_lost: granted`: their units are charged although nobody has
//! reported them. That must stay what it is there for.

use super::{Breach, Charged, Expected, Facts, Kind, OnLost, Owner, Verdict, longest};
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
    let has_died = facts.deaths.iter().any(|(dead, _)| *dead == gateway);
    let was_silent =
        facts.troubles.get(gateway).is_some_and(|troubles| facts.reclaim_ms <= longest(troubles));
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
