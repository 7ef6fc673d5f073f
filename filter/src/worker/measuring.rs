//! What the process was lent and has not reported: the leader adds it up for the gauges and for the budget.

use std::collections::BTreeMap;

use super::Worker;
use crate::control::{self, Lead};
use crate::host::Host;
use crate::risk::{self, Exposure, Stage};
use crate::stats::Stat;
use crate::sync;
use crate::table;

/// The whole slot table is looked through this often.
const SWEEP_MS: u64 = 2_000;
/// How often the sum is taken again because a worker asked for units meanwhile.
const SUMS_MAX: usize = 8;

/// The leader's view of all records.
#[derive(Debug, Default)]
pub(super) struct Measures {
    /// Whether this worker led at its last tick.
    leads: bool,
    /// What the records of each set stand for; sets without any are left out.
    of_sets: BTreeMap<usize, Exposure>,
    sweep_from: usize,
    /// Whether every set that holds anything is known since this worker leads.
    is_whole: bool,
    /// How close the budget was at the last sum.
    stage: Stage,
    /// Until when usage is reported sooner.
    hurries_until_ms: u64,
}

impl Worker {
    /// A worker that takes the lead from another one has to look at everything first.
    pub(super) fn note_lead(&mut self, lead: Lead) {
        let leads = lead != Lead::No;
        if leads && !self.measures.leads {
            self.measures = Measures { is_whole: lead == Lead::First, ..Measures::default() };
        }
        self.measures.leads = leads;
    }

    /// The next part of the slot table to be looked through: what the list of changes does not name is found here.
    pub(super) fn sweep(&mut self) -> Vec<usize> {
        let ticks = SWEEP_MS.checked_div(self.config.sync_interval_ms).unwrap_or(1).max(1);
        let count = usize::try_from(ticks).map_or(table::SETS, |ticks| table::SETS.div_ceil(ticks));
        let from = self.measures.sweep_from;
        let to = from.saturating_add(count).min(table::SETS);
        self.measures.sweep_from = if to == table::SETS { 0 } else { to };
        (from..to).collect()
    }

    /// The collected sets are measured; when the sweep has come round, all are.
    pub(super) fn swept(&mut self) {
        self.measures.is_whole |= self.measures.sweep_from == 0;
    }

    /// Looks at sets again.
    pub(super) fn measure(
        &mut self,
        host: &impl Host,
        sets: impl IntoIterator<Item = usize>,
        now: u64,
    ) {
        let measured = sets.into_iter().map(|set| (set, sync::exposure(host, set, now)));
        self.note_exposures(host, measured);
    }

    /// Takes over what sets were found to stand for, and shows the sums.
    pub(super) fn note_exposures(
        &mut self,
        host: &impl Host,
        sets: impl IntoIterator<Item = (usize, Exposure)>,
    ) {
        self.measures.of_sets.extend(sets);
        self.measures.of_sets.retain(|_, exposure| *exposure != Exposure::default());
        let total = self.total();
        host.gauge(Stat::UnreportedUnits, total.unreported_units);
        host.gauge(Stat::AtRiskNanos, total.at_risk);
        // Nobody may read too early that nothing is lent any more.
        if self.measures.is_whole {
            host.gauge(Stat::LentUnits, total.lent_units);
            host.gauge(Stat::LentNanos, total.lent);
        }
    }

    fn total(&self) -> Exposure {
        self.measures.of_sets.values().copied().fold(Exposure::default(), Exposure::plus)
    }

    /// Replaces the shared amount by what all records come to.
    ///
    /// Who asks for units first notes them, then puts the set on the list of changes, then adds to the amount. So the
    /// amount is read first here, then that list: what was added before is in the sum, and what is added later keeps the
    /// sum from being written.
    pub(super) fn publish_lent(&mut self, host: &impl Host, now: u64) {
        let Some(budget) = self.config.max_at_risk else { return };
        for _ in 0..SUMS_MAX {
            let lent = risk::lent(host);
            self.measures.stage = budget.stage(lent.amount);
            if !self.measures.is_whole {
                return;
            }
            self.measure(host, control::changed(host), now);
            let sum = self.total().counted();
            self.measures.stage = budget.stage(sum);
            if risk::replace(host, lent, sum) {
                break;
            }
        }
        if Stage::Sooner <= self.measures.stage && 0 < self.total().unreported_units {
            let interval_ms = self.config.sync_interval_ms;
            self.measures.hurries_until_ms = now.saturating_add(interval_ms.saturating_mul(2));
        }
    }

    /// Whether units may be asked for ahead of need.
    pub(super) fn may_refill(&self) -> bool {
        self.measures.stage < Stage::Smaller
    }

    /// Whether usage is to be reported sooner, so that acknowledgements make room in the budget.
    pub(super) fn hurries(&self, now: u64) -> bool {
        self.measures.leads && now < self.measures.hurries_until_ms
    }
}
