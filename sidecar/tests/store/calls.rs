//! Calls that are charged one by one.

use std::time::Duration;

use farebox_core::call::{
    CheckReply, CheckRequest, CommitRequest, DeductReply, DeductRequest, RefundReply,
    RefundRequest, ReleaseRequest, ReserveReply, ReserveRequest,
};
use farebox_sidecar::app::{App, CallError, Outcome, Request};
use tokio::time::Instant;

use crate::fixture::{Fixture, nanos};

mod boundaries;
mod crowds;
mod faults;
mod locks;
mod mixed;
mod model;
mod months;
mod purge;
mod random;
mod stories;

/// Decides one request.
pub(crate) async fn call(app: &App, request: Request) -> Result<Outcome, CallError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    app.call(vec![request], deadline).await.pop().unwrap()
}

/// What a request was answered, in short.
pub(crate) async fn told(app: &App, request: Request) -> String {
    say(call(app, request).await)
}

/// An answer in short.
pub(crate) fn say(answer: Result<Outcome, CallError>) -> String {
    match answer {
        Ok(Outcome::Deducted(reply)) => {
            let DeductReply { free_units, paid_units, amount, balance, .. } = reply;
            format!("{free_units} free, {paid_units} paid for {amount}, leaves {balance}")
        }
        Ok(Outcome::Reserved(reply)) => {
            let ReserveReply { free_units, paid_units, amount, available, .. } = reply;
            format!("holds {free_units} free, {paid_units} paid, {amount}, leaves {available}")
        }
        Ok(Outcome::Committed(reply)) => {
            format!(
                "{} free, {} paid for {}, leaves {}",
                reply.free_units, reply.paid_units, reply.amount, reply.available
            )
        }
        Ok(Outcome::Released(reply)) => {
            format!("back {} free, {} paid, {}", reply.free_units, reply.paid_units, reply.amount)
        }
        Ok(Outcome::Refunded(reply)) => {
            let RefundReply { free_units, paid_units, amount, balance, .. } = reply;
            format!("back {free_units} free, {paid_units} paid for {amount}, leaves {balance}")
        }
        Ok(Outcome::Refused(refusal)) => {
            let short = refusal.shortfall;
            format!(
                "{}: {} free and {} do not cover {}",
                refusal.code, short.remaining_free, short.available, short.cost
            )
        }
        Ok(Outcome::Cancelled) => "cancelled".to_owned(),
        Err(err) => err.to_string(),
    }
}

pub(crate) fn deduct(key: &str, account: &str, service: &str, count: u64) -> Request {
    Request::Deduct(DeductRequest {
        idempotency_key: key.to_owned(),
        user_id: account.parse().unwrap(),
        service: service.parse().unwrap(),
        count,
        price: None,
        wait_ms: None,
    })
}

fn reserve(key: &str, account: &str, service: &str) -> ReserveRequest {
    ReserveRequest {
        idempotency_key: key.to_owned(),
        user_id: account.parse().unwrap(),
        service: service.parse().unwrap(),
        units: None,
        amount: None,
        price: None,
        ttl_ms: None,
        wait_ms: None,
    }
}

pub(crate) fn reserve_units(key: &str, account: &str, service: &str, units: u64) -> Request {
    Request::Reserve(ReserveRequest { units: Some(units), ..reserve(key, account, service) })
}

pub(crate) fn reserve_amount(key: &str, account: &str, service: &str, amount: &str) -> Request {
    let amount = Some(nanos(amount));
    Request::Reserve(ReserveRequest { amount, ..reserve(key, account, service) })
}

pub(crate) fn commit(reservation: &str, units: Option<u64>) -> Request {
    Request::Commit(CommitRequest { reservation_id: reservation.to_owned(), units, amount: None })
}

pub(crate) fn commit_amount(reservation: &str, amount: &str) -> Request {
    let amount = Some(nanos(amount));
    Request::Commit(CommitRequest { reservation_id: reservation.to_owned(), units: None, amount })
}

pub(crate) fn release(reservation: &str) -> Request {
    Request::Release(ReleaseRequest { reservation_id: reservation.to_owned() })
}

pub(crate) fn refund(key: &str, record: &str, units: Option<u64>) -> Request {
    Request::Refund(RefundRequest {
        idempotency_key: key.to_owned(),
        record_id: Some(record.to_owned()),
        deduct_key: None,
        user_id: None,
        units,
    })
}

pub(crate) fn undo(deduct_key: &str, account: &str) -> Request {
    Request::Refund(RefundRequest {
        idempotency_key: format!("undo-{deduct_key}"),
        record_id: None,
        deduct_key: Some(deduct_key.to_owned()),
        user_id: Some(account.parse().unwrap()),
        units: None,
    })
}

impl Fixture {
    pub(crate) async fn told(&self, request: Request) -> String {
        told(&self.app, request).await
    }

    /// Deducts; the record's id.
    pub(crate) async fn record(&self, request: Request) -> String {
        match call(&self.app, request).await {
            Ok(Outcome::Deducted(reply)) => reply.record_id,
            Ok(Outcome::Committed(reply)) => reply.record_id.unwrap(),
            other => panic!("not charged: {other:?}"),
        }
    }

    /// Reserves; the reservation's id.
    pub(crate) async fn reservation(&self, request: Request) -> String {
        match call(&self.app, request).await {
            Ok(Outcome::Reserved(reply)) => reply.reservation_id,
            other => panic!("not reserved: {other:?}"),
        }
    }

    pub(crate) async fn check(
        &self,
        account: &str,
        service: &str,
        count: u64,
    ) -> Result<CheckReply, CallError> {
        let request = CheckRequest {
            user_id: account.parse().unwrap(),
            service: service.parse().unwrap(),
            count,
            price: None,
        };
        self.app.check(&[request]).await.pop().unwrap()
    }

    /// What a check says, in short.
    pub(crate) async fn checked(&self, account: &str, service: &str, count: u64) -> String {
        match self.check(account, service, count).await {
            Ok(reply) => {
                let reason = serde_json::to_value(reply.reason).unwrap();
                format!(
                    "{} by {}, {} free and {} for {}",
                    if reply.allowed { "yes" } else { "no" },
                    reason.as_str().unwrap(),
                    reply.remaining_free,
                    reply.available,
                    reply.cost
                )
            }
            Err(err) => err.to_string(),
        }
    }
}
