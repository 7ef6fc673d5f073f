//! Strict routes, and calls for which the budget has no room: the sidecar decides about each, which is paused until then.
//!
//! A call sends one deduct under a key of its own, and the same one again when the answer says nothing. Whenever a call
//! ends without an answer, its charge is undone under that key, whether it was made or not.

use std::collections::BTreeMap;
use std::rc::Rc;

use farebox_core::call::DEDUCT_PATH;

use super::asking::{ANSWER_SLACK_MS, AWAY_MS, RETRY_MS, log_answer};
use super::ticket::Source;
use super::{Next, Worker, turn_away};
use crate::answer::Reason;
use crate::deduct::{self, Outcome};
use crate::host::Host;
use crate::stats::Stat;
use crate::trace::Trace;
use crate::undo::Charge;
use crate::waiting::Call;

/// Strict calls that are sent per tick, beside those that just arrive. When Envoy has no room for a message it says so within
/// the sender's callback, or within what follows from it: see `backlog`.
pub(super) const SENDS_MAX: usize = 32;

/// A paused call.
#[derive(Debug)]
struct Deduct {
    call: Call,
    charge: Rc<Charge>,
    /// The trace that its messages belong to.
    trace: Option<Trace>,
    /// When it arrived.
    since_ms: u64,
    /// No message is sent after this moment.
    until_ms: u64,
    /// The message on its way.
    token: Option<u32>,
    /// A message got no answer that says whether it charged.
    is_unsure: bool,
}

/// The paused calls of strict routes in one VM.
#[derive(Debug, Default)]
pub(super) struct Strict {
    calls: BTreeMap<u32, Deduct>,
    /// The stream that waits for an answer, by token.
    tokens: BTreeMap<u32, u32>,
    /// When a call is to be sent again, by stream.
    due: BTreeMap<u32, u64>,
}

impl Strict {
    /// How many calls are paused.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether any is to be sent again.
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    fn remove(&mut self, stream: u32) -> Option<Deduct> {
        let deduct = self.calls.remove(&stream)?;
        self.due.remove(&stream);
        if let Some(token) = deduct.token {
            self.tokens.remove(&token);
        }
        Some(deduct)
    }
}

impl Worker {
    /// A call of a strict route arrives.
    pub(super) fn deduct(
        &mut self,
        host: &impl Host,
        call: Call,
        trace: Option<Trace>,
        now: u64,
    ) -> Next {
        if now < self.away_until_ms {
            return self.unreachable(host, &call, now);
        }
        if self.is_crowded(host) {
            return turn_away(host, &call, &Reason::Overloaded);
        }
        self.arriving = Some((call.stream, Next::Pause));
        let until_ms = now.saturating_add(self.config.max_wait_ms);
        self.decide_strictly(host, call, trace, until_ms, now);
        self.arriving.take().map_or(Next::Pause, |(_, next)| next)
    }

    /// Has the sidecar decide about one call, which is paused or just arriving.
    pub(super) fn decide_strictly(
        &mut self,
        host: &impl Host,
        call: Call,
        trace: Option<Trace>,
        until_ms: u64,
        now: u64,
    ) {
        let key = format!("{:016x}{:016x}", host.random(), host.random());
        let deduct = Deduct {
            since_ms: now,
            until_ms,
            token: None,
            is_unsure: false,
            charge: Rc::new(Charge { key, account: call.key.account.clone(), record: None }),
            trace,
            call,
        };
        self.send_deduct(host, deduct, now);
    }

    fn send_deduct(&mut self, host: &impl Host, mut deduct: Deduct, now: u64) {
        // The sidecar answers that it waited in vain before Envoy gives the message up.
        let patience = self.config.sidecar.timeout_ms.saturating_mul(4).checked_div(5).unwrap_or(0);
        let wait_ms = patience.min(deduct.until_ms.saturating_sub(now));
        let Call { stream, key, rule, .. } = &deduct.call;
        let message = deduct::message(&deduct.charge.key, key, rule.units, wait_ms);
        let stream = *stream;
        match host.call_sidecar(DEDUCT_PATH, &message, deduct.trace.as_ref()) {
            Some(token) => {
                deduct.token = Some(token);
                self.strict.tokens.insert(token, stream);
                self.strict.calls.insert(stream, deduct);
            }
            // Nothing was sent, and the next call may fare better: the cluster's limits are reached, or it is not there.
            None => self.give_up_deduct(host, &deduct, now),
        }
    }

    pub(super) fn on_deduct_answer(
        &mut self,
        host: &impl Host,
        token: u32,
        status: u32,
        body: &[u8],
        now: u64,
    ) {
        let Some(stream) = self.strict.tokens.get(&token).copied() else { return };
        let Some(mut deduct) = self.strict.remove(stream) else { return };
        deduct.token = None;
        match deduct::outcome(status, body, deduct.call.rule.units) {
            Outcome::Charged(drawn, record) => {
                self.decided(host, now);
                let charge = Charge { record: Some(record), ..(*deduct.charge).clone() };
                self.admit(host, &deduct.call, Source::Deduct(Rc::new(charge)), drawn);
                self.release(host, stream);
            }
            Outcome::Short(funds) => {
                self.decided(host, now);
                self.refuse_strict(host, &deduct, &Reason::Funds(funds));
            }
            Outcome::Busy(reason) => {
                self.decided(host, now);
                self.wait_or_refuse(host, deduct, &reason, now);
            }
            Outcome::Unknown { repeats, is_away } => {
                host.count(Stat::DeductFailed, 1);
                log_answer(host, status, body);
                let is_first = !std::mem::replace(&mut deduct.is_unsure, true);
                if is_first && repeats && now < deduct.until_ms {
                    return self.send_deduct(host, deduct, now);
                }
                // Others got their answers meanwhile: it is about this account then.
                if is_away && self.heard_ms < deduct.since_ms {
                    self.away_until_ms = now.saturating_add(AWAY_MS);
                }
                self.give_up_deduct(host, &deduct, now);
            }
        }
    }

    fn decided(&mut self, host: &impl Host, now: u64) {
        host.count(Stat::DeductOk, 1);
        self.heard(now);
    }

    fn wait_or_refuse(&mut self, host: &impl Host, deduct: Deduct, reason: &Reason, now: u64) {
        let again_ms = now.saturating_add(RETRY_MS);
        if again_ms < deduct.until_ms {
            self.strict.due.insert(deduct.call.stream, again_ms);
            self.strict.calls.insert(deduct.call.stream, deduct);
            return;
        }
        if deduct.is_unsure {
            // An earlier message may still be under way inside the sidecar.
            self.undo(host, Rc::clone(&deduct.charge));
        }
        self.refuse_strict(host, &deduct, reason);
    }

    fn refuse_strict(&mut self, host: &impl Host, deduct: &Deduct, reason: &Reason) {
        if turn_away(host, &deduct.call, reason) == Next::Continue {
            self.release(host, deduct.call.stream);
        }
    }

    /// Nobody decides about the call: whatever was charged comes back, and its rule says what happens.
    fn give_up_deduct(&mut self, host: &impl Host, deduct: &Deduct, now: u64) {
        if deduct.is_unsure {
            self.undo(host, Rc::clone(&deduct.charge));
        }
        if self.unreachable(host, &deduct.call, now) == Next::Continue {
            self.release(host, deduct.call.stream);
        }
    }

    /// The call's stream has ended while it was paused: it is not resumed, and not charged.
    pub(super) fn forget_deduct(&mut self, host: &impl Host, stream: u32) {
        if let Some(deduct) = self.strict.remove(stream)
            && (deduct.token.is_some() || deduct.is_unsure)
        {
            self.undo(host, deduct.charge);
        }
    }

    /// Sends the calls again whose time has come, and gives those up that Envoy has forgotten.
    pub(super) fn look_after_strict(&mut self, host: &impl Host, now: u64) {
        let due = self.strict.due.iter().filter(|(_, at)| **at <= now);
        let due = due.map(|(stream, _)| *stream).take(self.sends_left);
        for stream in due.collect::<Vec<u32>>() {
            self.sends_left = self.sends_left.saturating_sub(1);
            if let Some(deduct) = self.strict.remove(stream) {
                self.send_deduct(host, deduct, now);
            }
        }
        // Envoy answers every message within its timeout; this only bounds the wait if it should not.
        let grace_ms = self.config.sidecar.timeout_ms.saturating_add(ANSWER_SLACK_MS);
        let is_lost = |deduct: &Deduct| deduct.until_ms.saturating_add(grace_ms) <= now;
        let lost = self.strict.calls.iter().filter(|(_, deduct)| is_lost(deduct));
        for stream in lost.map(|(stream, _)| *stream).collect::<Vec<u32>>() {
            if let Some(mut deduct) = self.strict.remove(stream) {
                deduct.is_unsure = true;
                self.give_up_deduct(host, &deduct, now);
            }
        }
    }
}
