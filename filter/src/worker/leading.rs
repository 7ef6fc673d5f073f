//! Ticks: waiting calls are looked after in every VM, and the leading VM reports for the whole process.

use std::collections::BTreeSet;

use farebox_core::limits::SYNC_ITEMS_MAX;
use farebox_core::wire::SyncReply;

use super::asking::{Question, report_again};
use super::strict::SENDS_MAX;
use super::{Next, Worker, turn_away};
use crate::answer::Reason;
use crate::control::{self, Lead};
use crate::host::Host;
use crate::sync::{self, Draft, Need, Sent};
use crate::table;

/// How long a process that held leases keeps talking to the sidecar, so that recalls reach it.
const TALK_MS: u64 = 5_000;
/// A process that has nothing to say says so this often, and a quarter of its leases' time once it knows that: the sidecar
/// has to tell one that stands idle from one that is gone. What it does not know of, because a grant never arrived, is then
/// not charged to anybody as lost; for that it has to be heard between one and a half and two of these times.
pub(super) const HEARTBEAT_MS: u64 = 2_000;
/// Never more seldom than this.
const HEARTBEAT_MAX_MS: u64 = 5_000;
/// Ticks while calls wait for units that are on their way back, or the budget is close.
const FAST_TICK_MS: u64 = 20;

impl Worker {
    /// Called every sync interval, in every VM.
    pub fn on_tick(&mut self, host: &impl Host) {
        let now = host.now_ms();
        self.sends_left = SENDS_MAX;
        if self.is_ending() {
            // Another configuration leads and reports; what this one shared is in shared data.
            return self.send_undos(host, now);
        }
        for call in self.waiting.expire(now) {
            if turn_away(host, &call, &Reason::Held) == Next::Continue {
                self.release(host, call.stream);
            }
        }
        self.ask(host, now);
        self.look_after_strict(host, now);
        self.send_undos(host, now);
        self.settle_moved(host, now);
        self.note_tick(now);
        let roster = self.show_life(host, now);
        let lead = control::lead(host, self.name, now);
        self.note_lead(lead);
        if lead != Lead::No {
            self.call_roll(host, &roster, now);
            self.report(host, now);
        }
        self.set_pace(host, now);
    }

    /// Ticks come faster while calls wait for units that are on their way back, and for the leader while little of the
    /// budget is left.
    pub(super) fn set_pace(&mut self, host: &impl Host, now: u64) {
        let fast = !self.waiting.is_empty() || self.strict.has_due() || self.hurries(now);
        if fast != self.ticks_fast {
            self.ticks_fast = fast;
            let period = if fast { FAST_TICK_MS } else { self.config.sync_interval_ms };
            host.tick_every_ms(period.min(self.config.sync_interval_ms));
        }
    }

    /// The leader's part: one message for the whole process.
    fn report(&mut self, host: &impl Host, now: u64) {
        if now < self.next_report_ms {
            if self.hurries(now) {
                self.report_usage(host, now);
            }
            return;
        }
        // Ticks may come early by a little, and while calls wait they come more often.
        let slack = self.config.sync_interval_ms >> 2;
        self.next_report_ms =
            now.saturating_add(self.config.sync_interval_ms).saturating_sub(slack);
        if let Some(sent) = self.unanswered.take() {
            if self.may_repeat(&sent, now) {
                // The gauges stay true while nothing can be reported.
                self.measure(host, control::changed(host), now);
                let question = Question { sent, keys: Vec::new(), is_report: true };
                return self.dispatch(host, question, now);
            }
            report_again(host, sent.sets());
        }
        let sets = self.sweep();
        let mut draft = self.collect(host, sets, now);
        self.swept();
        self.note_exposures(host, std::mem::take(&mut draft.exposures));
        self.publish_lent(host, now);
        self.refill(host, &mut draft, now);
        if draft.holds_leases {
            self.talk_until_ms = now.saturating_add(TALK_MS);
        }
        if self.said_at_ms == 0 {
            self.said_at_ms = now;
        }
        let is_silent = self.said_at_ms.saturating_add(self.heartbeat_ms) <= now;
        if !draft.is_empty() || !self.orphans.is_empty() || now < self.talk_until_ms || is_silent {
            self.send(host, draft, Vec::new(), true, now);
        }
    }

    /// The time that leases stand, as far as a reply tells it, says how often this process has to be heard of.
    pub(super) fn note_ttl(&mut self, reply: &SyncReply) {
        let granted = reply.grants.iter().map(|grant| grant.ttl_ms);
        let renewed = reply.acks.iter().filter(|ack| ack.open).map(|ack| ack.ttl_ms);
        if let Some(ttl_ms) = granted.chain(renewed).max() {
            self.heartbeat_ms = (ttl_ms >> 2).min(HEARTBEAT_MAX_MS);
        }
    }

    /// A report before its time, of what was used since the last one: one at a time, and none that says nothing.
    fn report_usage(&mut self, host: &impl Host, now: u64) {
        if self.unanswered.is_some() || self.questions.values().any(|question| question.is_report) {
            return;
        }
        let mut draft = self.collect(host, Vec::new(), now);
        self.note_exposures(host, std::mem::take(&mut draft.exposures));
        self.publish_lent(host, now);
        if !draft.is_empty() {
            self.send(host, draft, Vec::new(), true, now);
        }
    }

    /// Asks ahead of need, as far as the budget goes. Without a budget, the draft asks already.
    fn refill(&mut self, host: &impl Host, draft: &mut Draft, now: u64) {
        for (set, key) in std::mem::take(&mut draft.refills) {
            if self.may_refill() {
                // A lease that cannot be refilled is asked for by the next call that lacks units.
                let _declined = sync::ask(host, set, &key, Need::Ahead, self.timing(now), draft);
            }
        }
    }

    /// A message is sent again as it was while its questions are still noted; later its contents go into a new one.
    fn may_repeat(&self, sent: &Sent, now: u64) -> bool {
        let noted_until = sent.asked_at.saturating_add(self.timing(now).answer_within_ms);
        now.saturating_add(self.config.sidecar.timeout_ms) <= noted_until
    }

    fn collect(&mut self, host: &impl Host, swept: Vec<usize>, now: u64) -> Draft {
        let timing = self.timing(now);
        let mut draft = Draft::default();
        let mut sets: BTreeSet<usize> = control::take_changed(host).into_iter().collect();
        sets.append(&mut self.recalled);
        sets.extend(swept);
        for set in sets {
            // A set holds few records, so a message that has room for all of them is never cut inside a set.
            if draft.len().saturating_add(table::WAYS_MAX) <= SYNC_ITEMS_MAX {
                sync::collect(host, set, timing, &mut draft);
            } else {
                control::mark_changed(host, set);
                draft.exposures.insert(set, sync::exposure(host, set, now));
            }
        }
        draft
    }
}
