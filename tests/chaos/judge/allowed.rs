//! What was allowed without a lease is charged as such, all of it, and only on routes that allow it.

use super::{Breach, Facts, Kind, Verdict};
use crate::catalog::Service;

pub(super) fn judge(facts: &Facts, verdict: &mut Verdict) {
    let may_be_allowed =
        |service: &str| [Service::Open, Service::Grace].iter().any(|open| open.name() == service);
    for (owner, charged) in &facts.charged {
        verdict.allowed_units += charged.allowed_units;
        if 0 < charged.allowed_units && !may_be_allowed(&owner.service) {
            let units = charged.allowed_units;
            let text = format!("{owner}: {units} units were allowed without a lease");
            verdict.breaches.push(Breach { kind: Kind::DoubleCharge, text });
        }
    }
    // A gateway that lives knows how many it allowed.
    for (gateway, allowed) in &facts.allowed {
        let mine = facts.charged.iter().filter(|(owner, _)| owner.gateway == Some(*gateway));
        let charged: u64 = mine.map(|(_, charged)| charged.allowed_units).sum();
        let kind = match charged.cmp(allowed) {
            std::cmp::Ordering::Less => Kind::Lost,
            std::cmp::Ordering::Equal => continue,
            std::cmp::Ordering::Greater => Kind::DoubleCharge,
        };
        let text = format!(
            "gateway {gateway} allowed {allowed} units without a lease, {charged} are charged as such"
        );
        verdict.breaches.push(Breach { kind, text });
    }
}
