//! Deducts, refunds and reservations, asked of sidecars under keys: an answer that got lost is asked for again, and some are
//! asked for twice on purpose.

use farebox_core::call::{COMMIT_PATH, DEDUCT_PATH, REFUND_PATH, RESERVE_PATH};
use farebox_core::money::Nanos;
use farebox_tests::Answer;
use serde_json::{Value, json};

use super::{Actor, REPEATS, answered};
use crate::catalog::Service;
use crate::journal::{Entry, Outcome};

/// How many answers out of a hundred are asked for once more.
const TWICE_PERCENT: u64 = 25;

/// The sidecar that did not answer.
fn other(sidecar: usize, sidecars: usize) -> usize {
    (sidecar + 1) % sidecars
}

/// A request whose answer is not known yet.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    id: u64,
    path: &'static str,
    body: Value,
    units: u64,
    begun_ms: u64,
}

impl Actor {
    fn asked(&self, path: &'static str, units: u64, body: impl Fn(u64) -> Value) -> Asked {
        let id = self.journal.number();
        Asked { id, path, body: body(id), units, begun_ms: self.journal.now_ms() }
    }

    /// Asks until there is an answer, a few times; then keeps the question.
    async fn settle(&mut self, asked: Asked) -> Option<Answer> {
        for _ in 0..REPEATS {
            let sidecar = self.dice.index(self.sidecars.len());
            if let Some(answer) = self.ask(&asked, sidecar).await {
                if self.dice.chance(TWICE_PERCENT) {
                    self.ask_twice(&asked, &answer, sidecar).await;
                }
                self.note(&asked, Some(&answer));
                return Some(answer);
            }
        }
        self.open.push(asked);
        None
    }

    /// Asks again after the faults; whether there was an answer.
    pub(crate) async fn ask_again(&self, asked: &Asked) -> bool {
        for sidecar in 0..self.sidecars.len() {
            if let Some(answer) = self.ask(asked, sidecar).await {
                self.note(asked, Some(&answer));
                return true;
            }
        }
        false
    }

    /// Gives a question up: its outcome stays unknown.
    pub(crate) fn give_up(&self, asked: &Asked) {
        self.note(asked, None);
    }

    /// An answer that decides: 503 says that nothing was decided, or not whether.
    async fn ask(&self, asked: &Asked, sidecar: usize) -> Option<Answer> {
        let answer = answered(self.sidecars[sidecar].ask(asked.path, &asked.body)).await?;
        (answer.status.as_u16() < 500).then_some(answer)
    }

    /// The same key once more, at the other sidecar, must give the same answer.
    async fn ask_twice(&self, asked: &Asked, first: &Answer, sidecar: usize) {
        let other = other(sidecar, self.sidecars.len());
        let Some(second) = self.ask(asked, other).await else { return };
        self.journal.duplicate();
        if second.body != first.body {
            let (id, path) = (asked.id, asked.path);
            self.journal.contradiction(format!(
                "{path} call-{id}: first {}, then {}",
                first.body, second.body
            ));
        }
    }

    /// Into the journal. Units that come back are the charge of a deduct that was undone.
    fn note(&self, asked: &Asked, answer: Option<&Answer>) {
        let outcome = match answer {
            None => Outcome::Unknown,
            Some(answer) if answer.status.is_success() => Outcome::Ok,
            Some(_) => Outcome::Refused,
        };
        let amount = answer.and_then(|answer| answer.json()["amount"].as_str()?.parse().ok());
        if asked.path == REFUND_PATH {
            self.journal.count("refund by key", outcome);
            // A deduct whose refund is not known may stand.
            if outcome != Outcome::Unknown {
                return;
            }
        }
        if asked.path == RESERVE_PATH {
            return self.journal.count("reserve", outcome);
        }
        self.journal.add(Entry {
            id: asked.id,
            user: self.user.clone(),
            service: Service::Ask,
            gateway: None,
            units: asked.units,
            begun_ms: asked.begun_ms,
            ended_ms: self.journal.now_ms(),
            outcome,
            told: amount.or(Some(Nanos::ZERO)).filter(|_| outcome == Outcome::Ok),
            status: answer.map_or(0, |answer| answer.status.as_u16()),
        });
    }

    fn deduct_body(&self, id: u64, units: u64) -> Value {
        json!({ "idempotency_key": format!("call-{id}"), "user_id": self.user, "service": "ask", "count": units, "wait_ms": 500 })
    }

    pub(super) async fn deduct(&mut self) {
        let units = self.dice.between((1, 3));
        let asked = self.asked(DEDUCT_PATH, units, |id| self.deduct_body(id, units));
        self.settle(asked).await;
    }

    /// Asks one sidecar for one unit, or again what is still open; whether it was charged.
    pub(crate) async fn deduct_at(&self, sidecar: usize, open: &mut Option<Asked>) -> bool {
        let new = || self.asked(DEDUCT_PATH, 1, |id| self.deduct_body(id, 1));
        let asked = open.take().unwrap_or_else(new);
        let Some(answer) = self.ask(&asked, sidecar).await else {
            *open = Some(asked);
            return false;
        };
        self.note(&asked, Some(&answer));
        answer.status.is_success()
    }

    /// A deduct that is undone by its key, whatever became of it: it ends as nothing, and is not in the journal as a charge.
    pub(super) async fn deduct_and_refund(&mut self) {
        let deduct = self.asked(DEDUCT_PATH, 1, |id| self.deduct_body(id, 1));
        let sidecar = self.dice.index(self.sidecars.len());
        self.ask(&deduct, sidecar).await;
        let refund = self.asked(REFUND_PATH, 1, |id| {
            json!({ "idempotency_key": format!("undo-{id}"), "user_id": self.user, "deduct_key": format!("call-{}", deduct.id) })
        });
        self.settle(refund).await;
    }

    /// Sets three units aside and commits two of them, or forgets them.
    pub(super) async fn reserve(&mut self) {
        let reserve = self.asked(RESERVE_PATH, 0, |id| {
            json!({ "idempotency_key": format!("job-{id}"), "user_id": self.user, "service": "ask", "units": 3, "ttl_ms": 4_000, "wait_ms": 500 })
        });
        let sidecar = self.dice.index(self.sidecars.len());
        let answer = self.ask(&reserve, sidecar).await;
        self.note(&reserve, answer.as_ref());
        let made = answer.filter(|answer| answer.status.is_success());
        let Some(id) =
            made.and_then(|made| made.json()["reservation_id"].as_str().map(str::to_owned))
        else {
            return;
        };
        if self.dice.chance(70) {
            let commit =
                self.asked(COMMIT_PATH, 2, |_| json!({ "reservation_id": id, "units": 2 }));
            self.settle(commit).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::other;

    #[test]
    fn each_sidecar_is_asked_what_the_other_one_answered() {
        assert_eq!([0, 1].map(|sidecar| other(sidecar, 2)), [1, 0]);
    }
}
