//! Ticks: waiting calls are looked after in every VM, and the leading VM reports for the whole process.

use std::collections::BTreeSet;

use farebox_core::limits::SYNC_ITEMS_MAX;

use super::asking::Question;
use super::{Next, Worker, turn_away};
use crate::answer::Reason;
use crate::control;
use crate::host::Host;
use crate::stats::Stat;
use crate::sync::{self, Draft, Sent};
use crate::table;

/// How long a process that held leases keeps talking to the sidecar, so that recalls reach it.
const TALK_MS: u64 = 5_000;
/// The whole slot table is looked through this often.
const SWEEP_MS: u64 = 2_000;
/// Ticks while calls wait for units that are on their way back.
const FAST_TICK_MS: u64 = 20;

impl Worker {
    /// Called every sync interval, in every VM.
    pub fn on_tick(&mut self, host: &impl Host) {
        let now = host.now_ms();
        for call in self.waiting.expire(now) {
            if turn_away(host, &call, &Reason::Held) == Next::Continue {
                self.release(host, call.stream);
            }
        }
        self.ask(host, now);
        self.look_after_strict(host, now);
        self.send_undos(host, now);
        self.settle_moved(host, now);
        self.set_pace(host);
        if control::lead(host, self.name, now) {
            self.report(host, now);
        }
    }

    /// Ticks come faster while calls wait for units that are on their way back.
    pub(super) fn set_pace(&mut self, host: &impl Host) {
        let fast = !self.waiting.is_empty() || self.strict.has_due();
        if fast != self.ticks_fast {
            self.ticks_fast = fast;
            let period = if fast { FAST_TICK_MS } else { self.config.sync_interval_ms };
            host.tick_every_ms(period.min(self.config.sync_interval_ms));
        }
    }

    /// The leader's part: one message for the whole process.
    fn report(&mut self, host: &impl Host, now: u64) {
        if now < self.next_report_ms {
            return;
        }
        // Ticks may come early by a little, and while calls wait they come more often.
        let slack = self.config.sync_interval_ms >> 2;
        self.next_report_ms =
            now.saturating_add(self.config.sync_interval_ms).saturating_sub(slack);
        if let Some(sent) = self.unanswered.take()
            && self.may_repeat(&sent, now)
        {
            self.measure(host);
            return self.dispatch(host, Question { sent, keys: Vec::new(), is_report: true }, now);
        }
        let draft = self.collect(host, now);
        self.note_unreported(host, draft.unreported.clone());
        if draft.holds_leases {
            self.talk_until_ms = now.saturating_add(TALK_MS);
        }
        if !draft.is_empty() || !self.orphans.is_empty() || now < self.talk_until_ms {
            self.send(host, draft, Vec::new(), true, now);
        }
    }

    /// Keeps the gauge of unreported units true while nothing can be reported.
    fn measure(&mut self, host: &impl Host) {
        let changed = control::changed(host);
        self.note_unreported(
            host,
            changed.into_iter().map(|set| (set, sync::unreported(host, set))),
        );
    }

    pub(super) fn note_unreported(
        &mut self,
        host: &impl Host,
        sets: impl IntoIterator<Item = (usize, u64)>,
    ) {
        self.unreported.extend(sets);
        self.unreported.retain(|_, units| 0 < *units);
        let total = self.unreported.values().fold(0_u64, |sum, units| sum.saturating_add(*units));
        host.gauge(Stat::UnreportedUnits, total);
    }

    /// A message is sent again as it was while its questions are still noted; later its contents go into a new one.
    fn may_repeat(&self, sent: &Sent, now: u64) -> bool {
        let noted_until = sent.asked_at.saturating_add(self.timing(now).answer_within_ms);
        now.saturating_add(self.config.sidecar.timeout_ms) <= noted_until
    }

    fn collect(&mut self, host: &impl Host, now: u64) -> Draft {
        let timing = self.timing(now);
        let mut draft = Draft::default();
        let mut sets: BTreeSet<usize> = control::take_changed(host).into_iter().collect();
        sets.append(&mut self.recalled);
        sets.extend(self.sweep());
        for set in sets {
            // A set holds few records, so a message that has room for all of them is never cut inside a set.
            if draft.len().saturating_add(table::WAYS_MAX) <= SYNC_ITEMS_MAX {
                sync::collect(host, set, timing, &mut draft);
            } else {
                control::mark_changed(host, set);
            }
        }
        draft
    }

    /// The next part of the slot table to be looked through: what the list of changes does not name is found here.
    fn sweep(&mut self) -> Vec<usize> {
        let ticks = SWEEP_MS.checked_div(self.config.sync_interval_ms).unwrap_or(1).max(1);
        let count = usize::try_from(ticks).map_or(table::SETS, |ticks| table::SETS.div_ceil(ticks));
        let from = self.sweep_from;
        let to = from.saturating_add(count).min(table::SETS);
        self.sweep_from = if to == table::SETS { 0 } else { to };
        (from..to).collect()
    }
}
