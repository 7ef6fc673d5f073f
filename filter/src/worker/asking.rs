//! Questions for units: asked for calls that wait, answered by the sidecar, or by the route's rule when it is away.

use std::collections::BTreeSet;

use farebox_core::limits::SYNC_ITEMS_MAX;
use farebox_core::wire::{LeaseKey, SYNC_PATH, SyncReply, SyncRequest};

use super::{Draw, Next, Worker, draw, turn_away};
use crate::answer::Reason;
use crate::control::{self, Control};
use crate::host::{Host, Severity};
use crate::stats::Stat;
use crate::sync::{self, Declined, Draft, Need, Sent, Timing};
use crate::table;
use crate::waiting::{Phase, Waiter};

/// Questions of one VM that may be on their way at once; later ones are gathered into the next.
const QUESTIONS_MAX: usize = 8;
/// Keys in one question. Each may bring the reports of its whole set along, and a message has room for all of them.
const KEYS_MAX: usize = SYNC_ITEMS_MAX / table::WAYS_MAX / 2;
/// How long the sidecar counts as away after a call to it failed.
pub(super) const AWAY_MS: u64 = 500;
/// How much later than its timeout the answer to a question may be taken in.
pub(super) const ANSWER_SLACK_MS: u64 = 250;
/// How long a call waits before it asks again after a reply that neither granted nor refused.
pub(super) const RETRY_MS: u64 = 50;

/// A message on its way, and who waits for its answer.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) sent: Sent,
    /// The calls of these keys wait for it; empty for the leader's report.
    pub(super) keys: Vec<LeaseKey>,
    pub(super) is_report: bool,
}

impl Worker {
    /// Asks for the units of all keys whose question is due.
    pub(super) fn ask(&mut self, host: &impl Host, now: u64) {
        while self.questions.len() < QUESTIONS_MAX {
            let keys = self.waiting.due(now, KEYS_MAX);
            if keys.is_empty() {
                return;
            }
            self.ask_for(host, keys, now);
        }
    }

    fn ask_for(&mut self, host: &impl Host, keys: Vec<LeaseKey>, now: u64) {
        let Some(seed) = self.seed(host) else { return self.fail(host, &keys, now) };
        // A question is asked once, so no answer arrives after its time is over.
        let answer_within_ms = self.config.sidecar.timeout_ms.saturating_add(ANSWER_SLACK_MS);
        let timing = Timing { answer_within_ms, ..self.timing(now) };
        let mut draft = Draft::default();
        for _ in 0..KEYS_MAX {
            let Some(set) = self.recalled.pop_first() else { break };
            sync::collect(host, set, timing, &mut draft);
        }
        let mut asked = Vec::with_capacity(keys.len());
        for key in keys {
            if self.ask_for_key(host, table::set_of(seed, &key), &key, timing, &mut draft) {
                asked.push(key);
            }
        }
        if !draft.is_empty() {
            self.send(host, draft, asked, false, now);
        }
    }

    /// Asks for the units of one key. Returns whether there is anything to ask; calls that do not fit into the budget are
    /// decided by themselves.
    fn ask_for_key(
        &mut self,
        host: &impl Host,
        set: usize,
        key: &LeaseKey,
        timing: Timing,
        draft: &mut Draft,
    ) -> bool {
        while let Some(group) = self.waiting.group(key) {
            let first = group.waiters.front().map_or(1, |waiter| waiter.call.rule.units);
            let need = Need::Waiting(first, group.units());
            match sync::ask(host, set, key, need, timing, draft) {
                Ok(()) => {
                    self.waiting.set_phase(key, Phase::Asked);
                    return true;
                }
                Err(Declined::NoRoom) => {
                    self.give_up(host, key, timing.now, &Reason::Overloaded);
                    return false;
                }
                Err(Declined::Budget) if self.sends_left == 0 => {
                    self.waiting.set_phase(key, Phase::Later(timing.now.saturating_add(1)));
                    return false;
                }
                Err(Declined::Budget) => {
                    self.sends_left = self.sends_left.saturating_sub(1);
                    if let Some(Waiter { call, until_ms, trace }) = self.waiting.pop_waiter(key) {
                        host.count(Stat::BudgetStrict, 1);
                        self.decide_strictly(host, call, trace, until_ms, timing.now);
                    }
                }
            }
        }
        false
    }

    pub(super) fn send(
        &mut self,
        host: &impl Host,
        mut draft: Draft,
        keys: Vec<LeaseKey>,
        is_report: bool,
        now: u64,
    ) {
        let header = control::load(host).zip(control::next_seq(host));
        let Some((control, seq)) = header else { return self.fail(host, &keys, now) };
        let room = SYNC_ITEMS_MAX.saturating_sub(draft.reports.len());
        draft.reports.extend(self.orphans.values().take(room).cloned());
        let sent = Sent::new(draft, self.header(&control, seq), now);
        self.said_at_ms = now;
        self.dispatch(host, Question { sent, keys, is_report }, now);
    }

    fn header(&self, control: &Control, seq: u64) -> SyncRequest {
        SyncRequest {
            gateway: self.gateway.clone(),
            instance: control.instance_hex(),
            epoch: control.epoch,
            seq,
            reports: Vec::new(),
            wants: Vec::new(),
            journal: Vec::new(),
        }
    }

    pub(super) fn dispatch(&mut self, host: &impl Host, question: Question, now: u64) {
        let body = serde_json::to_vec(&question.sent.request).unwrap_or_default();
        // Several calls may wait for one question: it belongs to the trace of the first that has one.
        let waiting = question.keys.iter().filter_map(|key| self.waiting.group(key));
        let trace =
            waiting.flat_map(|group| &group.waiters).find_map(|waiter| waiter.trace.as_ref());
        match host.call_sidecar(SYNC_PATH, &body, trace) {
            Some(token) => {
                self.questions.insert(token, question);
            }
            None => self.on_no_answer(host, question, true, now),
        }
    }

    /// The sidecar answered, or Envoy did in its place: status 0 for a reset.
    pub fn on_answer(&mut self, host: &impl Host, token: u32, status: u32, body: &[u8]) {
        let now = host.now_ms();
        let Some(question) = self.questions.remove(&token) else {
            self.on_undo_answer(host, token, status, body, now);
            self.on_deduct_answer(host, token, status, body, now);
            return self.set_pace(host, now);
        };
        let reply =
            if status == 200 { serde_json::from_slice::<SyncReply>(body).ok() } else { None };
        match reply {
            Some(reply) => self.on_reply(host, question, &reply, now),
            None => {
                log_answer(host, status, body);
                if status == 409 {
                    // Another epoch, or a number that the sidecar knows with another body: begin anew.
                    control::set_epoch(host, 0);
                }
                // A message that was understood and refused would be refused again.
                let repeats = !(400..500).contains(&status);
                self.on_no_answer(host, question, repeats, now);
            }
        }
        self.ask(host, now);
        self.set_pace(host, now);
    }

    fn on_reply(&mut self, host: &impl Host, question: Question, reply: &SyncReply, now: u64) {
        host.count(Stat::SyncOk, 1);
        self.heard(now);
        self.note_ttl(reply);
        let Some(seed) = self.seed(host) else { return };
        if question.sent.request.epoch != reply.epoch {
            control::set_epoch(host, reply.epoch);
        }
        let applied = sync::apply(host, seed, &question.sent, reply, self.timing(now));
        if question.is_report {
            self.measure(host, question.sent.sets(), now);
            self.publish_lent(host, now);
        }
        // What goes back whole is said until it was heard: nobody here remembers it otherwise.
        self.orphans.retain(|lease, _| reply.acks.iter().all(|ack| ack.lease != *lease));
        // One that was told again and found a place now is no orphan any more.
        let told = |lease: &u64| reply.grants.iter().any(|grant| grant.lease == *lease);
        self.orphans.retain(|lease, _| !told(lease));
        self.orphans.extend(applied.orphans.into_iter().map(|report| (report.lease, report)));
        self.recalled.extend(applied.recalled);
        report_again(host, question.sent.sets_left_out(reply));
        for key in &question.keys {
            self.waiting.set_phase(key, next_phase(key, reply, &applied.unplaced, now));
            self.serve(host, seed, key, now);
        }
    }

    /// Serves the calls of a key in order, as far as units go.
    fn serve(&mut self, host: &impl Host, seed: u64, key: &LeaseKey, now: u64) {
        while let Some(call) = self.waiting.first(key) {
            let outcome = draw(host, seed, call, now);
            if matches!(outcome, Draw::Lacking) {
                return;
            }
            let Some(call) = self.waiting.pop(key) else { return };
            let next = match outcome {
                Draw::Done { source, drawn } => {
                    self.admit(host, &call, source, drawn);
                    Next::Continue
                }
                Draw::Refused(record) => self.refused(host, &call, &record, now),
                Draw::Stuck | Draw::Lacking => self.unreachable(host, &call, now),
            };
            if next == Next::Continue {
                self.release(host, call.stream);
            }
        }
    }

    fn on_no_answer(&mut self, host: &impl Host, question: Question, repeats: bool, now: u64) {
        host.count(Stat::SyncFailed, 1);
        self.away_until_ms = now.saturating_add(AWAY_MS);
        let Question { sent, keys, is_report } = question;
        let given_up =
            if is_report && repeats { self.unanswered.replace(sent) } else { Some(sent) };
        if let Some(sent) = given_up {
            report_again(host, sent.sets());
        }
        self.fail(host, &keys, now);
    }

    /// The calls of these keys go by their rules without the sidecar.
    fn fail(&mut self, host: &impl Host, keys: &[LeaseKey], now: u64) {
        for key in keys {
            self.give_up(host, key, now, &Reason::Unreachable);
        }
    }

    fn give_up(&mut self, host: &impl Host, key: &LeaseKey, now: u64, reason: &Reason) {
        let seed = self.seed(host);
        while let Some(call) = self.waiting.pop(key) {
            // Another worker may have brought units meanwhile.
            let next = match seed.map(|seed| draw(host, seed, &call, now)) {
                Some(Draw::Done { source, drawn }) => {
                    self.admit(host, &call, source, drawn);
                    Next::Continue
                }
                Some(Draw::Refused(_) | Draw::Lacking | Draw::Stuck) | None => match reason {
                    Reason::Unreachable => self.unreachable(host, &call, now),
                    reason => turn_away(host, &call, reason),
                },
            };
            if next == Next::Continue {
                self.release(host, call.stream);
            }
        }
    }
}

/// Has the leader's next message tell what a message told in vain.
pub(super) fn report_again(host: &impl Host, sets: impl IntoIterator<Item = usize>) {
    let sets: BTreeSet<usize> = sets.into_iter().collect();
    sets.into_iter().for_each(|set| control::mark_changed(host, set));
}

/// Writes an answer that is of no use to the log.
pub(super) fn log_answer(host: &impl Host, status: u32, body: &[u8]) {
    let text = String::from_utf8_lossy(body.get(..300).unwrap_or(body));
    host.log(Severity::Warn, &format!("farebox: the sidecar answered {status}: {text}"));
}

/// When the calls of a key that the reply did not help are asked for again.
fn next_phase(key: &LeaseKey, reply: &SyncReply, unplaced: &BTreeSet<u64>, now: u64) -> Phase {
    let later = |delay_ms: u64| Phase::Later(now.saturating_add(delay_ms));
    if let Some(refusal) = reply.refusals.iter().find(|refusal| refusal.soon && refusal.key == *key)
    {
        return later(refusal.retry_after_ms);
    }
    let placed =
        reply.grants.iter().any(|grant| grant.key == *key && !unplaced.contains(&grant.lease));
    // Units that came and went already are asked for at once; without any, asking at once would be a busy loop.
    if placed { Phase::Due } else { later(RETRY_MS) }
}
