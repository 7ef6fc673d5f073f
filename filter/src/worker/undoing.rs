//! Charges of strict calls that come back: sent to the sidecar at once, and again until it has taken them in.

use std::rc::Rc;

use farebox_core::call::REFUND_PATH;

use super::Worker;
use super::asking::{ANSWER_SLACK_MS, log_answer};
use crate::host::{Host, Severity};
use crate::stats::Stat;
use crate::undo::{Charge, UNDOS_MAX, Undos};

/// How long a configuration that Envoy has taken away lives on for charges that are to come back.
const FAREWELL_MS_MAX: u64 = 300_000;

/// Charges on their way back, and the message that carries them.
#[derive(Debug, Default)]
pub(super) struct Undoing {
    undos: Undos,
    token: Option<u32>,
    /// Envoy answers every message within its timeout; this one counts as lost if it should not.
    lost_at_ms: u64,
    /// Envoy has taken the configuration away; when it ends at the latest.
    ends_at_ms: Option<u64>,
}

impl Worker {
    /// Has a charge come back, whether it was made or not.
    pub(super) fn undo(&mut self, host: &impl Host, charge: Rc<Charge>) {
        host.count(Stat::UndoQueued, 1);
        let dropped = self.undos.undos.push(charge);
        if 0 < dropped {
            host.count(Stat::UndoDropped, dropped);
            let text = format!(
                "farebox: more than {UNDOS_MAX} charges of failed calls wait to be undone; {dropped} stay charged"
            );
            host.log(Severity::Error, &text);
        }
        self.send_undos(host, host.now_ms());
    }

    /// Sends what waits, unless a message is on its way.
    pub(super) fn send_undos(&mut self, host: &impl Host, now: u64) {
        if self.undos.token.is_some() && self.undos.lost_at_ms <= now {
            self.undos.token = None;
            self.undos.undos.on_answer(0, &[], now);
        }
        let Some(body) = self.undos.undos.next_message(now) else { return };
        let answer_within_ms = self.config.sidecar.timeout_ms.saturating_add(ANSWER_SLACK_MS);
        self.undos.lost_at_ms = now.saturating_add(answer_within_ms);
        self.undos.token = host.call_sidecar(REFUND_PATH, &body, None);
        if self.undos.token.is_none() {
            self.undos.undos.on_answer(0, &[], now);
        }
    }

    pub(super) fn on_undo_answer(
        &mut self,
        host: &impl Host,
        token: u32,
        status: u32,
        body: &[u8],
        now: u64,
    ) {
        if self.undos.token != Some(token) {
            return;
        }
        self.undos.token = None;
        let answered = self.undos.undos.on_answer(status, body, now);
        host.count(Stat::UndoDone, answered.done);
        if 0 < answered.kept {
            log_answer(host, status, body);
        }
        for key in &answered.refused {
            let text = format!("farebox: the sidecar does not undo the charge {key}");
            host.log(Severity::Error, &text);
        }
        self.send_undos(host, now);
    }

    /// Envoy takes the configuration away, after its last stream. Whether it can go at once: charges that are to come back
    /// keep it.
    pub fn end(&mut self, host: &impl Host) -> bool {
        // What a redirect left between two passes may be such a charge.
        self.shut_down(host);
        if self.undos.undos.is_empty() {
            return true;
        }
        self.undos.ends_at_ms = Some(host.now_ms().saturating_add(FAREWELL_MS_MAX));
        false
    }

    /// Whether Envoy has taken the configuration away.
    pub(super) fn is_ending(&self) -> bool {
        self.undos.ends_at_ms.is_some()
    }

    /// Whether a configuration that stayed has nothing left to do; says so once.
    pub fn has_ended(&mut self, host: &impl Host) -> bool {
        let Some(at) = self.undos.ends_at_ms else { return false };
        let is_over = at <= host.now_ms();
        if !is_over && !self.undos.undos.is_empty() {
            return false;
        }
        let left = self.undos.undos.len();
        if 0 < left {
            host.count(Stat::UndoDropped, left);
            let text = format!(
                "farebox: the sidecar did not take in for {FAREWELL_MS_MAX} ms that {left} charges come back; they stay charged"
            );
            host.log(Severity::Error, &text);
        }
        self.undos.undos = Undos::default();
        self.undos.ends_at_ms = None;
        true
    }
}
