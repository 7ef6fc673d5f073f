//! Calls that the sidecar decides one by one: deducts, and refunds by their keys.

use std::collections::BTreeMap;

use farebox_core::call::{DeductReply, DeductRequest, RefundReply, RefundRequest, Shortfall};
use farebox_core::charge::{Verdict, cost_of, decide};
use farebox_core::code::Code;
use farebox_core::grant::{Funds, Split};
use farebox_core::money::Nanos;
use farebox_core::wire::{LeaseKey, Want};
use serde_json::{Value as Json, json};

use super::{Charge, FakeSidecar, Kind, Reply};

/// What became of the deduct of a key.
#[derive(Debug, Clone)]
enum Known {
    /// It was answered; `taken` is what has not come back of it.
    Answered { content: Json, reply: Reply, key: LeaseKey, price: Nanos, taken: Split },
    /// It was undone before it came.
    Cancelled,
}

/// Deducts by (account, key), and refunds.
#[derive(Debug, Default)]
pub(super) struct Calls {
    known: BTreeMap<(String, String), Known>,
    refunds: Vec<Charge>,
}

impl FakeSidecar {
    /// Units of an account that came back.
    pub(super) fn refunded(&self, account: &str) -> u64 {
        let of_account =
            self.calls.refunds.iter().filter(|charge| charge.account.as_str() == account);
        of_account.map(|charge| charge.units).sum()
    }

    /// How many different deducts were decided.
    pub fn deducts(&self) -> usize {
        self.calls.known.values().filter(|known| matches!(known, Known::Answered { .. })).count()
    }

    /// Takes a deduct in. Units that leases hold unused are recalled, and the caller is to come back.
    pub fn deduct(&mut self, body: &[u8]) -> Reply {
        let Ok(request) = serde_json::from_slice::<DeductRequest>(body) else {
            return problem(Code::InvalidArgument, json!({}));
        };
        if request.validate().is_err() {
            return problem(Code::InvalidArgument, json!({}));
        }
        let place = (request.user_id.to_string(), request.idempotency_key.clone());
        // How long it may take is no part of the content.
        let content = json!(DeductRequest { wait_ms: None, ..request.clone() });
        match self.calls.known.get(&place) {
            Some(Known::Answered { content: known, reply, .. }) if *known == content => {
                return reply.clone();
            }
            Some(_) => return problem(Code::Conflict, json!({})),
            None => {}
        }
        let DeductRequest { user_id: account, service, count, price, .. } = request;
        let key = LeaseKey { account, service, price };
        let (reply, taken) = self.decide_deduct(&key, count);
        self.check();
        if reply.status == 503 {
            return reply;
        }
        let price = self.price_of(&key);
        let known = Known::Answered { content, reply: reply.clone(), key, price, taken };
        self.calls.known.insert(place, known);
        reply
    }

    fn decide_deduct(&mut self, key: &LeaseKey, count: u64) -> (Reply, Split) {
        if !self.prices.contains_key(&key.service) && !self.quotas.contains_key(&key.service) {
            return (problem(Code::UnknownService, json!({})), Split::NONE);
        }
        let funds = self.funds(key);
        let Verdict::Payable(cost) = decide(funds, count) else {
            return (self.refuse_deduct(key, count, funds), Split::NONE);
        };
        let price = self.price_of(key);
        let account = self.accounts.entry(key.account.clone()).or_default();
        account.quota(&key.service).used += cost.units.free;
        account.pay(price, cost.units.paid);
        let (balance, available) = (account.balance, account.available());
        let (account, service) = (key.account.clone(), key.service.clone());
        self.charges.push(Charge { account, service, units: count, kind: Kind::Deduct });
        let reply = DeductReply {
            record_id: format!("record-{}", self.charges.len()),
            record_ids: vec![],
            packages: None,
            free_units: cost.units.free,
            paid_units: cost.units.paid,
            amount: cost.amount,
            price: funds.price,
            balance,
            available,
            currency: "CNY".to_owned(),
            free_quota: self.free_quota_of(key),
        };
        (ok(&json!(reply)), cost.units)
    }

    fn refuse_deduct(&mut self, key: &LeaseKey, count: u64, funds: Funds) -> Reply {
        let want = Want { key: key.clone(), units: count, min: count, waiting: true, known: None };
        if self.recall_others(&want, None, funds) {
            return problem(Code::AccountBusy, json!({}));
        }
        let shortfall = Shortfall {
            remaining_free: funds.free_units,
            available: funds.available,
            cost: cost_of(funds, count),
            price: funds.price,
            free_quota: self.free_quota_of(key),
        };
        let has_price = funds.price.is_some();
        let code = if has_price { Code::InsufficientBalance } else { Code::InsufficientQuota };
        problem(code, json!(shortfall))
    }

    /// Takes a batch of refunds in.
    pub fn refund(&mut self, body: &[u8]) -> Reply {
        let Ok(batch) = serde_json::from_slice::<Json>(body) else {
            return problem(Code::InvalidArgument, json!({}));
        };
        let items = batch["items"].as_array().cloned().unwrap_or_default();
        let results: Vec<Json> = items.into_iter().map(|item| self.refund_one(item)).collect();
        self.check();
        ok(&json!({ "results": results }))
    }

    /// The key of the deduct that was charged on this record.
    fn key_of(&self, record: &str) -> String {
        let is_its = |known: &Known| match known {
            Known::Answered { reply, .. } => {
                let reply: Json = serde_json::from_slice(&reply.body).expect("a reply is JSON");
                reply["record_id"] == record
            }
            Known::Cancelled => false,
        };
        let found = self.calls.known.iter().find(|(_, known)| is_its(known));
        found.map(|((_, key), _)| key.clone()).expect("a gateway knows no record but its own")
    }

    fn refund_one(&mut self, item: Json) -> Json {
        let request = serde_json::from_value::<RefundRequest>(item).ok();
        let Some(request) = request.filter(|request| request.validate().is_ok()) else {
            return json!({ "status": 400 });
        };
        let by_record = request.record_id.map(|record| self.key_of(&record));
        let (Some(key), Some(user)) = (by_record.or(request.deduct_key), request.user_id) else {
            return json!({ "status": 400 });
        };
        let known = self.calls.known.entry((user.to_string(), key)).or_insert(Known::Cancelled);
        let mut back = Split::NONE;
        if let Known::Answered { key, price, taken, .. } = known {
            back = std::mem::replace(taken, Split::NONE);
            let account = self.accounts.entry(key.account.clone()).or_default();
            account.quota(&key.service).used -= back.free;
            let amount = price.checked_mul(back.paid).expect("amounts are small");
            account.balance = account.balance.checked_add(amount).expect("amounts are small");
            let (account, service) = (key.account.clone(), key.service.clone());
            let units = back.total();
            self.calls.refunds.push(Charge { account, service, units, kind: Kind::Deduct });
        }
        let account = self.accounts.entry(user).or_default();
        let reply = RefundReply {
            refund_id: None,
            record_id: None,
            free_units: back.free,
            paid_units: back.paid,
            amount: Nanos::ZERO,
            balance: account.balance,
            available: account.available(),
            currency: "CNY".to_owned(),
        };
        json!({ "status": 200, "result": reply })
    }
}

fn ok(body: &Json) -> Reply {
    Reply { status: 200, body: body.to_string().into_bytes() }
}

fn problem(code: Code, members: Json) -> Reply {
    let mut body = json!({ "code": code.number(), "status": code.http_status(), "title": "no" });
    if let (Json::Object(body), Json::Object(members)) = (&mut body, members) {
        body.extend(members);
    }
    Reply { status: u32::from(code.http_status()), body: body.to_string().into_bytes() }
}
