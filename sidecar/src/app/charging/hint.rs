//! What a check told a moment ago, and what it lets the next one say: yes, never no.

use serde::{Deserialize, Serialize};

use farebox_core::call::{CheckReply, CheckRequest, Reason};
use farebox_core::charge::{self, PaidBy, Verdict};
use farebox_core::grant::Funds;
use farebox_core::id::ServiceName;
use farebox_core::money::Nanos;

/// What an account had for one service at the price of the book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hint {
    service: ServiceName,
    free_units: u64,
    available: Nanos,
    price: Option<Nanos>,
    currency: String,
}

impl Hint {
    /// What the database told. A price of the request's own is none that others are told, of a graduated one the next units
    /// may cost something else, and what a frozen account has says nothing about what it may use.
    pub(super) fn of(request: &CheckRequest, reply: &CheckReply) -> Option<Self> {
        let is_flat = request.price.is_none() && reply.price_units.is_none();
        (is_flat && reply.reason != Reason::AccountFrozen).then(|| Self {
            service: request.service.clone(),
            free_units: reply.remaining_free,
            available: reply.available,
            price: reply.price,
            currency: reply.currency.clone(),
        })
    }

    /// The answer, if it is yes. A no may have been overtaken by a recharge, or by units that came back.
    pub(super) fn tell(self, request: &CheckRequest) -> Option<CheckReply> {
        if self.service != request.service || request.price.is_some() {
            return None;
        }
        let Self { free_units, available, price, currency, .. } = self;
        match charge::decide(Funds { free_units, available, price }, request.count) {
            Verdict::Payable(cost) => Some(CheckReply {
                allowed: true,
                reason: PaidBy::of(cost.units).into(),
                remaining_free: free_units,
                available,
                cost: cost.amount,
                price,
                price_units: None,
                parts: Vec::new(),
                packages: None,
                currency,
            }),
            Verdict::Short => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(service: &str, count: u64) -> CheckRequest {
        let (user_id, service) = ("u".parse().unwrap(), service.parse().unwrap());
        CheckRequest { user_id, service, count, price: None }
    }

    #[test]
    fn a_hint_says_yes_for_its_own_service_and_never_no() {
        let nanos = |text: &str| text.parse::<Nanos>().unwrap();
        let told = CheckReply {
            allowed: true,
            reason: Reason::Free,
            remaining_free: 2,
            available: nanos("0.1"),
            cost: Nanos::ZERO,
            price: Some(nanos("0.1")),
            price_units: None,
            parts: Vec::new(),
            packages: None,
            currency: "CNY".to_owned(),
        };
        let hint = Hint::of(&request("asset", 1), &told).unwrap();
        let say = |request| {
            hint.clone().tell(&request).map(|reply| (reply.reason, reply.cost.to_string()))
        };
        assert_eq!(say(request("asset", 3)), Some((Reason::Mixed, "0.1".into())));
        assert_eq!(say(request("asset", 4)), None, "the database is asked");
        assert_eq!(say(request("payment", 1)), None);
        let own_price = CheckRequest { price: Some(nanos("0.01")), ..request("asset", 3) };
        assert_eq!(say(own_price.clone()), None);
        assert_eq!(Hint::of(&own_price, &told), None);
        let frozen = CheckReply { allowed: false, reason: Reason::AccountFrozen, ..told.clone() };
        assert_eq!(Hint::of(&request("asset", 1), &frozen), None);
        let graduated = CheckReply { price_units: Some(100), ..told };
        assert_eq!(Hint::of(&request("asset", 1), &graduated), None);
    }
}
