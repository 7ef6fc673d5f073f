//! Charges of strict calls that are to come back, until the sidecar has taken that in.
//!
//! A charge is named by the key of its deduct, so it can be undone without knowing whether it was made: what has not
//! arrived at the sidecar when the undo does will charge nothing.

use std::collections::VecDeque;
use std::rc::Rc;

use farebox_core::call::RefundRequest;
use farebox_core::id::AccountId;
use farebox_core::limits::CALL_ITEMS_MAX;
use serde::{Deserialize, Serialize};

/// The most charges that may wait in one VM; beyond them the oldest is given up.
pub const UNDOS_MAX: usize = 20_000;
/// How long the first failed message is left alone; the pause doubles from there…
const PAUSE_MS: u64 = 200;
/// …up to this.
const PAUSE_MS_MAX: u64 = 10_000;

/// A charge, by the name that its deduct had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The key of the deduct.
    pub key: String,
    /// Who pays.
    pub account: AccountId,
    /// The billing record, once the sidecar has named it: it is known for ever, the deduct's key for a day.
    pub record: Option<String>,
}

/// Charges on their way back.
#[derive(Debug, Default)]
pub struct Undos {
    queue: VecDeque<Rc<Charge>>,
    /// Those in the one message that may be on its way.
    sent: Vec<Rc<Charge>>,
    failures: u32,
    next_ms: u64,
}

/// What an answer came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Charges that are settled.
    pub done: u64,
    /// Of these, the keys that the sidecar does not want to undo.
    pub refused: Vec<String>,
    /// Charges that wait for another message.
    pub kept: u64,
}

#[derive(Serialize)]
struct Batch {
    items: Vec<RefundRequest>,
}

/// The batch's reply, as far as it matters here.
#[derive(Deserialize)]
struct BatchReply {
    results: Vec<ItemReply>,
}

#[derive(Deserialize)]
struct ItemReply {
    status: u32,
}

impl Undos {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.sent.is_empty()
    }

    /// How many wait, those on their way included.
    pub fn len(&self) -> u64 {
        u64::try_from(self.queue.len().saturating_add(self.sent.len())).unwrap_or(u64::MAX)
    }

    /// Adds a charge. Returns how many were given up for it.
    pub fn push(&mut self, charge: Rc<Charge>) -> u64 {
        self.queue.push_back(charge);
        self.drop_oldest()
    }

    fn drop_oldest(&mut self) -> u64 {
        let mut dropped = 0_u64;
        // What is on its way is left alone.
        while UNDOS_MAX < self.queue.len().saturating_add(self.sent.len())
            && self.queue.pop_front().is_some()
        {
            dropped = dropped.saturating_add(1);
        }
        dropped
    }

    /// The next message, when there is something to say and it may be said now.
    pub fn next_message(&mut self, now: u64) -> Option<Vec<u8>> {
        if !self.sent.is_empty() || self.queue.is_empty() || now < self.next_ms {
            return None;
        }
        let count = self.queue.len().min(CALL_ITEMS_MAX);
        self.sent = self.queue.drain(..count).collect();
        let items = self.sent.iter().map(|charge| RefundRequest {
            idempotency_key: format!("undo-{}", charge.key),
            record_id: charge.record.clone(),
            deduct_key: charge.record.is_none().then(|| charge.key.clone()),
            user_id: Some(charge.account.clone()),
            units: None,
        });
        serde_json::to_vec(&Batch { items: items.collect() }).ok()
    }

    /// The message was answered, or could not be sent: status 0.
    pub fn on_answer(&mut self, status: u32, body: &[u8], now: u64) -> Answered {
        let reply =
            if status == 200 { serde_json::from_slice::<BatchReply>(body).ok() } else { None };
        // A reply of another length is about another message.
        let statuses: Vec<u32> = reply
            .map(|reply| reply.results.iter().map(|item| item.status).collect())
            .unwrap_or_default();
        let is_whole = statuses.len() == self.sent.len();
        let mut answered = Answered::default();
        let mut kept = Vec::new();
        for (place, charge) in std::mem::take(&mut self.sent).into_iter().enumerate() {
            let status = statuses.get(place).filter(|_| is_whole).copied().unwrap_or(0);
            if !matches!(status, 200 | 400..500) {
                kept.push(charge);
                continue;
            }
            answered.done = answered.done.saturating_add(1);
            if status != 200 {
                answered.refused.push(charge.key.clone());
            }
        }
        answered.kept = u64::try_from(kept.len()).unwrap_or(u64::MAX);
        // Charges that fail while others are settled go behind those that wait, and hold nobody up.
        let is_progress = kept.is_empty() || 0 < answered.done;
        self.failures = if is_progress { 0 } else { self.failures.saturating_add(1) };
        self.next_ms = match (is_progress, kept.is_empty() || !self.queue.is_empty()) {
            (true, true) => 0,
            (true, false) => now.saturating_add(PAUSE_MS),
            (false, _) => now.saturating_add(self.pause_ms()),
        };
        if is_progress {
            self.queue.extend(kept);
        } else {
            kept.into_iter().rev().for_each(|charge| self.queue.push_front(charge));
        }
        answered
    }

    fn pause_ms(&self) -> u64 {
        let doublings = self.failures.saturating_sub(1).min(16);
        (PAUSE_MS << doublings).min(PAUSE_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn charge(number: usize) -> Rc<Charge> {
        Rc::new(Charge { key: format!("k{number}"), account: "u1".parse().unwrap(), record: None })
    }

    fn queue(count: usize) -> Undos {
        let mut undos = Undos::default();
        for number in 0..count {
            assert_eq!(undos.push(charge(number)), 0);
        }
        undos
    }

    fn keys(message: &[u8]) -> Vec<String> {
        let json: serde_json::Value = serde_json::from_slice(message).unwrap();
        let items = json["items"].as_array().unwrap();
        let requests = items.iter().map(|item| {
            let request: RefundRequest = serde_json::from_value(item.clone()).unwrap();
            request.validate().unwrap();
            request.deduct_key.unwrap()
        });
        requests.collect()
    }

    fn reply(statuses: &[u32]) -> Vec<u8> {
        let results: Vec<_> =
            statuses.iter().map(|status| serde_json::json!({ "status": status })).collect();
        serde_json::json!({ "results": results }).to_string().into_bytes()
    }

    #[test]
    fn one_message_at_a_time_takes_what_waits() {
        let mut undos = queue(CALL_ITEMS_MAX + 1);
        assert_eq!(keys(&undos.next_message(0).unwrap()).len(), CALL_ITEMS_MAX);
        assert_eq!(undos.next_message(0), None, "one is on its way");
        let answered = undos.on_answer(200, &reply(&vec![200; CALL_ITEMS_MAX]), 0);
        assert_eq!((answered.done, answered.kept), (1_000, 0));
        assert_eq!(keys(&undos.next_message(0).unwrap()), ["k1000"]);
        undos.on_answer(200, &reply(&[200]), 0);
        assert!(undos.is_empty());
    }

    #[test]
    fn each_item_is_done_or_kept_by_its_own_status() {
        let mut undos = queue(4);
        undos.next_message(0).unwrap();
        let answered = undos.on_answer(200, &reply(&[200, 503, 409, 500]), 1_000);
        let refused = vec!["k2".to_owned()];
        assert_eq!(answered, Answered { done: 2, refused, kept: 2 });
        assert_eq!(undos.next_message(1_199), None, "nothing else waits");
        assert_eq!(keys(&undos.next_message(1_200).unwrap()), ["k1", "k3"]);
    }

    #[test]
    fn charges_that_never_come_back_hold_nobody_up() {
        let mut undos = queue(CALL_ITEMS_MAX);
        undos.push(charge(CALL_ITEMS_MAX));
        undos.next_message(0).unwrap();
        let mut statuses = vec![500; CALL_ITEMS_MAX];
        statuses[0] = 200;
        undos.on_answer(200, &reply(&statuses), 0);
        // The one that was behind them goes first, and at once.
        let next = keys(&undos.next_message(0).unwrap());
        assert_eq!((next[0].as_str(), next.len()), ("k1000", CALL_ITEMS_MAX));
    }

    #[test]
    fn a_charge_whose_record_is_known_is_undone_by_it() {
        let mut undos = Undos::default();
        let record = Some("r1".to_owned());
        undos.push(Rc::new(Charge { record, ..(*charge(0)).clone() }));
        let json: serde_json::Value =
            serde_json::from_slice(&undos.next_message(0).unwrap()).unwrap();
        let expected = serde_json::json!({
            "items": [{ "idempotency_key": "undo-k0", "record_id": "r1", "user_id": "u1" }]
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn without_a_usable_answer_everything_is_sent_again_ever_more_rarely() {
        let mut undos = queue(2);
        let mut now = 0;
        let broken = [
            (0, Vec::new()),
            (503, reply(&[200, 200])),
            (200, b"{}".to_vec()),
            (401, Vec::new()),
            (200, reply(&[200])),
            (200, Vec::new()),
            (0, Vec::new()),
            (0, Vec::new()),
        ];
        let pauses = [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000];
        for ((status, body), pause) in broken.into_iter().zip(pauses) {
            assert_eq!(keys(&undos.next_message(now).unwrap()), ["k0", "k1"]);
            assert_eq!(undos.on_answer(status, &body, now).kept, 2);
            assert_eq!(undos.next_message(now + pause - 1), None);
            now += pause;
        }
        undos.next_message(now).unwrap();
        undos.on_answer(200, &reply(&[200, 200]), now);
        assert!(undos.is_empty());
        undos.push(charge(9));
        assert!(undos.next_message(now).is_some(), "the pause is over with the first success");
    }

    #[test]
    fn beyond_the_bound_the_oldest_that_is_not_on_its_way_is_given_up() {
        let mut undos = queue(UNDOS_MAX);
        undos.next_message(0).unwrap();
        assert_eq!(undos.push(charge(UNDOS_MAX)), 1);
        assert_eq!(undos.on_answer(0, &[], 0), Answered { kept: 1_000, ..Answered::default() });
        let first = keys(&undos.next_message(10_000).unwrap());
        assert_eq!(first[0], "k0");
        assert!(!first.contains(&"k1000".to_owned()), "it was the oldest in the queue");
    }
}
