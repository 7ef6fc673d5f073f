//! Callbacks: those that still have to arrive, and what was answered to the others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::behaviour::CallbackBehaviour;
use crate::currency;
use crate::state::Payment;

/// How many attempts of one callback are kept for looking at.
const ATTEMPTS_MAX: usize = 20;

/// The pause after the first attempt; it doubles up to the longest.
const FIRST_PAUSE_MS: u64 = 100;
const LONGEST_PAUSE_MS: u64 = 3_000;

/// All callbacks by number.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outbox {
    callbacks: BTreeMap<u64, Callback>,
    /// Numbers that nobody sends yet.
    #[serde(skip)]
    fresh: Vec<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Callback {
    /// `webhook-id`: the same in all copies and repeats, so that the receiver may tell them.
    pub(crate) webhook_id: String,
    pub(crate) url: String,
    pub(crate) body: String,
    /// Signs instead of the service's own secrets.
    pub(crate) secret: Option<String>,
    pub(crate) state: Delivery,
    pub(crate) next_at_ms: u64,
    pub(crate) attempts: Vec<Attempt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Delivery {
    Waiting,
    Delivered,
    Refused,
    /// Sent once by hand.
    Handmade,
}

/// One try and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) at_ms: u64,
    /// The receiver's HTTP status, unless the network failed.
    pub(crate) status: Option<u16>,
    /// What the receiver said, or what failed.
    pub(crate) answer: String,
}

/// The body of a callback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Body {
    pub(crate) payment_order_id: String,
    pub(crate) order_id: String,
    pub(crate) amount: String,
    pub(crate) currency: String,
    pub(crate) status: String,
}

impl Body {
    /// What is true of a payment.
    pub(crate) fn of(payment: &Payment) -> Self {
        Self {
            payment_order_id: payment.payment_id.clone(),
            order_id: payment.order.order_id.clone(),
            amount: currency::decimal(payment.order.amount_minor, &payment.order.currency),
            currency: payment.order.currency.clone(),
            status: payment.status.name().to_owned(),
        }
    }

    fn changed(self, told: &CallbackBehaviour) -> Self {
        let or = |told: &Option<String>, truth: String| told.clone().unwrap_or(truth);
        Self {
            payment_order_id: or(&told.payment_id_override, self.payment_order_id),
            order_id: or(&told.order_id_override, self.order_id),
            amount: or(&told.amount_override, self.amount),
            currency: or(&told.currency_override, self.currency),
            status: or(&told.status_override, self.status),
        }
    }
}

// === impl Outbox ===

impl Outbox {
    /// Queues the callback about a payment's present status, as told.
    pub(crate) fn announce(&mut self, payment: &Payment, told: &CallbackBehaviour, now_ms: u64) {
        if !told.send {
            return;
        }
        let body = Body::of(payment).changed(told);
        let callback = Callback {
            webhook_id: format!("msg_{}_{}", payment.payment_id, self.next_number()),
            url: payment.order.notify_url.clone(),
            // Texts alone always make JSON.
            body: serde_json::to_string(&body).unwrap_or_default(),
            secret: told.secret_override.clone(),
            state: Delivery::Waiting,
            next_at_ms: now_ms.saturating_add(told.delay_ms),
            attempts: Vec::new(),
        };
        for _ in 0..told.copies {
            let number = self.keep(callback.clone());
            self.fresh.push(number);
        }
    }

    /// Keeps a callback without sending it.
    pub(crate) fn keep(&mut self, callback: Callback) -> u64 {
        let number = self.next_number();
        self.callbacks.insert(number, callback);
        number
    }

    fn next_number(&self) -> u64 {
        self.callbacks.last_key_value().map_or(1, |(last, _)| last + 1)
    }

    /// The callbacks that nobody sends yet; each is given once.
    pub(crate) fn take_fresh(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.fresh)
    }

    /// After a restart, whatever did not arrive has to be sent again.
    pub(crate) fn all_waiting_are_fresh(&mut self) {
        let waiting = |callback: &Callback| callback.state == Delivery::Waiting;
        let numbers = self.callbacks.iter().filter(|(_, callback)| waiting(callback));
        self.fresh = numbers.map(|(number, _)| *number).collect();
    }

    /// The callback of this number when it still has to arrive.
    pub(crate) fn waiting(&self, number: u64) -> Option<&Callback> {
        self.callbacks.get(&number).filter(|callback| callback.state == Delivery::Waiting)
    }

    /// All callbacks, oldest first.
    pub(crate) fn callbacks(&self) -> impl Iterator<Item = &Callback> {
        self.callbacks.values()
    }

    /// Notes what came of an attempt, and when the next one is due, if any.
    pub(crate) fn attempted(&mut self, number: u64, attempt: Attempt) {
        let Some(callback) = self.callbacks.get_mut(&number) else { return };
        callback.state = delivery_after(attempt.status);
        let doubled = 1_u64.checked_shl(u32::try_from(callback.attempts.len()).unwrap_or(63));
        let pause = FIRST_PAUSE_MS.saturating_mul(doubled.unwrap_or(u64::MAX));
        callback.next_at_ms = attempt.at_ms.saturating_add(pause.min(LONGEST_PAUSE_MS));
        if callback.attempts.len() == ATTEMPTS_MAX {
            callback.attempts.remove(0);
        }
        callback.attempts.push(attempt);
    }
}

/// Any 2xx is an arrival; an answer that no repeat can change ends the trying.
fn delivery_after(status: Option<u16>) -> Delivery {
    match status {
        Some(200..=299) => Delivery::Delivered,
        Some(408 | 425 | 429) => Delivery::Waiting,
        Some(400..=499) => Delivery::Refused,
        Some(_) | None => Delivery::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_definite_answer_ends_the_trying() {
        for (status, expected) in [
            (Some(200), Delivery::Delivered),
            (Some(204), Delivery::Delivered),
            (Some(401), Delivery::Refused),
            (Some(422), Delivery::Refused),
            (Some(408), Delivery::Waiting),
            (Some(429), Delivery::Waiting),
            (Some(302), Delivery::Waiting),
            (Some(503), Delivery::Waiting),
            (None, Delivery::Waiting),
        ] {
            assert_eq!(delivery_after(status), expected, "{status:?}");
        }
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let callback = Callback {
            webhook_id: "msg_1".to_owned(),
            url: String::new(),
            body: String::new(),
            secret: None,
            state: Delivery::Waiting,
            next_at_ms: 0,
            attempts: Vec::new(),
        };
        let mut outbox = Outbox::default();
        let number = outbox.keep(callback);
        let mut pauses = Vec::new();
        for _ in 0..80 {
            let attempt = Attempt { at_ms: 1_000, status: Some(503), answer: String::new() };
            outbox.attempted(number, attempt);
            pauses.push(outbox.waiting(number).unwrap().next_at_ms - 1_000);
        }
        assert_eq!(pauses[..7], [100, 200, 400, 800, 1_600, 3_000, 3_000]);
        assert!(pauses[7..].iter().all(|pause| *pause == LONGEST_PAUSE_MS));
    }
}
