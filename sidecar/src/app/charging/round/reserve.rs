//! Reservations: made, committed, released. One that ran out is over, whether or not anybody noticed yet.

use chrono::TimeDelta;

use farebox_core::call::{
    CommitReply, CommitRequest, RESERVATION_TTL_MS, ReleaseReply, ReleaseRequest, ReserveReply,
    ReserveRequest,
};
use farebox_core::charge::Cost;
use farebox_core::grant::Split;
use farebox_core::money::Nanos;
use farebox_core::wire::{FieldError, LeaseKey};

use super::deduct::{Case, Cover};
use super::{Decided, Round};
use crate::app::books::{Charge, new_id};
use crate::app::charging::{CallError, Outcome};
use crate::app::rfc3339;
use crate::app::terms::Terms;
use crate::store::StoreError;
use crate::store::billing_record::Source;
use crate::store::column::time_text;
use crate::store::free_quota::QuotaKey;
use crate::store::reservation::{Basis, NewReservation, Reservation, State};

/// The price at which an amount is as many units: 1e-9 of the currency.
const ONE_NANO: Nanos = Nanos::new(1);

impl Round<'_> {
    /// Sets units or money aside, all of it or nothing.
    pub(super) fn reserve(&mut self, request: &ReserveRequest) -> Result<Decided, StoreError> {
        let ReserveRequest { user_id, service, units, amount, price, .. } = request;
        if !self.settings.is_metered(service) {
            return Ok(self.refuse_unknown());
        }
        let key = LeaseKey { account: user_id.clone(), service: service.clone(), price: *price };
        let case = self.case(&key);
        let (case, basis, wanted) = match amount {
            Some(amount) => (money_only(case), Basis::Amount, amount.get().unsigned_abs()),
            None => (case, Basis::Units, units.unwrap_or(0)),
        };
        let cost = match self.cover(&case, wanted)? {
            Cover::Enough(cost) => cost,
            Cover::Recalled => return Ok(Decided::Recalled),
            Cover::Refused(code, funds) => {
                let price = if basis == Basis::Amount { None } else { case.terms.price };
                return Ok(self.refuse(&case, code, funds, wanted).with_price(price));
            }
        };
        let quota = self.quota(user_id, service);
        let (units, price) = match basis {
            Basis::Units => (cost.units, case.terms),
            Basis::Amount => (Split::NONE, Terms::default()),
        };
        self.set_aside(quota, basis, Cost { units, amount: cost.amount }, price, request.ttl_ms)
    }

    fn set_aside(
        &mut self,
        quota: QuotaKey,
        basis: Basis,
        cost: Cost,
        terms: Terms,
        ttl_ms: Option<u64>,
    ) -> Result<Decided, StoreError> {
        let ttl = i64::try_from(ttl_ms.unwrap_or(RESERVATION_TTL_MS)).unwrap_or(i64::MAX);
        let expires_at = self.books.now + TimeDelta::milliseconds(ttl);
        let id = new_id();
        self.books.reserve(NewReservation {
            id: id.clone(),
            account: quota.account.clone(),
            service: quota.service,
            month: quota.month,
            basis,
            price: terms.price,
            price_version: terms.price_version,
            free_units: cost.units.free,
            paid_units: cost.units.paid,
            amount: cost.amount,
            expires_at: time_text(expires_at),
        })?;
        let (balance, available, currency) = self.money(&quota.account)?;
        Ok(Decided::Answer(Outcome::Reserved(ReserveReply {
            reservation_id: id,
            free_units: cost.units.free,
            paid_units: cost.units.paid,
            amount: cost.amount,
            price: terms.price,
            expires_at: rfc3339(expires_at),
            balance,
            available,
            currency,
        })))
    }

    /// Charges what the call took and gives the rest back.
    pub(super) fn commit(&mut self, request: &CommitRequest) -> Result<Decided, StoreError> {
        let id = &request.reservation_id;
        let Some(row) = self.books.reservation(id).cloned() else { return Ok(not_found(id)) };
        if row.is_overdue(self.books.now) {
            self.books.end_reservation(id, State::Expired)?;
            return Ok(ended(&Reservation { state: State::Expired, ..row }));
        }
        if row.state != State::Open {
            return Ok(ended(&row));
        }
        let (price, cost) = match taken(&row, request) {
            Ok(taken) => taken,
            Err(invalid) => return Ok(Decided::Failed(invalid.into())),
        };
        self.books.end_reservation(id, State::Committed)?;
        let charge = Charge {
            message: None,
            quota: QuotaKey {
                account: row.account.clone(),
                service: row.service.clone(),
                month: row.month.clone(),
            },
            price,
            price_version: row.price_version,
            source: Source::Reserve,
            lease: None,
            journal_line: None,
        };
        let record_id = self.books.charge_call(&charge, cost)?;
        self.books.note_record(id, record_id.clone())?;
        let (balance, available, currency) = self.money(&row.account)?;
        Ok(Decided::Answer(Outcome::Committed(CommitReply {
            reservation_id: id.clone(),
            record_id,
            free_units: cost.units.free,
            paid_units: cost.units.paid,
            amount: cost.amount,
            balance,
            available,
            currency,
        })))
    }

    /// Gives all of it back.
    pub(super) fn release(&mut self, request: &ReleaseRequest) -> Result<Decided, StoreError> {
        let id = &request.reservation_id;
        let Some(row) = self.books.reservation(id).cloned() else { return Ok(not_found(id)) };
        let is_overdue = row.is_overdue(self.books.now);
        let (units, amount) = match row.state {
            State::Committed => return Ok(ended(&row)),
            State::Open if !is_overdue => {
                self.books.end_reservation(id, State::Released)?;
                (row.units, row.amount)
            }
            State::Open => {
                self.books.end_reservation(id, State::Expired)?;
                (Split::NONE, Nanos::ZERO)
            }
            State::Released | State::Expired => (Split::NONE, Nanos::ZERO),
        };
        let (balance, available, currency) = self.money(&row.account)?;
        Ok(Decided::Answer(Outcome::Released(ReleaseReply {
            reservation_id: id.clone(),
            free_units: units.free,
            paid_units: units.paid,
            amount,
            balance,
            available,
            currency,
        })))
    }
}

/// A case that no free quota helps: one of no service, at the smallest price.
fn money_only(case: Case) -> Case {
    let month = String::new();
    let terms = Terms { price: Some(ONE_NANO), ..case.terms };
    Case { quota: QuotaKey { month, ..case.quota }, terms }
}

/// What of a reservation the call took, and at which price.
fn taken(row: &Reservation, request: &CommitRequest) -> Result<(Option<Nanos>, Cost), FieldError> {
    match row.basis {
        Basis::Units => {
            if let Some(amount) = request.amount {
                return Err(wrong(
                    "amount",
                    amount,
                    "must be left out: the reservation is of units",
                ));
            }
            let units = request.units.unwrap_or_else(|| row.units.total());
            if row.units.total() < units {
                return Err(wrong("units", units, "must be no more than were reserved"));
            }
            let units = row.units.take_free_first(units);
            // No more than what is held, so this does not overflow.
            let amount = row.price.and_then(|price| price.checked_mul(units.paid));
            Ok((row.price, Cost { units, amount: amount.unwrap_or(Nanos::ZERO) }))
        }
        Basis::Amount => {
            if let Some(units) = request.units {
                return Err(wrong(
                    "units",
                    units,
                    "must be left out: the reservation is of an amount",
                ));
            }
            let amount = request.amount.unwrap_or(row.amount);
            if row.amount < amount {
                return Err(wrong("amount", amount, "must be no more than was reserved"));
            }
            // One unit at its own price, unless it cost nothing.
            let paid = u64::from(amount != Nanos::ZERO);
            Ok((Some(amount), Cost { units: Split { free: 0, paid }, amount }))
        }
    }
}

fn wrong(field: &str, value: impl ToString, problem: &'static str) -> FieldError {
    FieldError { field: field.to_owned(), value: value.to_string(), problem }
}

fn not_found(id: &str) -> Decided {
    Decided::Failed(CallError::NotFound { what: "reservation", id: id.to_owned() })
}

fn ended(row: &Reservation) -> Decided {
    let id = &row.id;
    let problem = match row.state {
        State::Committed => match &row.record {
            Some(record) => {
                format!("reservation {id} was committed already, as billing record {record}")
            }
            None => format!("reservation {id} was committed already, for nothing"),
        },
        State::Released => format!("reservation {id} was released; deduct the call instead"),
        State::Expired | State::Open => {
            let at = rfc3339(row.expires_at);
            format!("reservation {id} ran out at {at} and was given back; deduct the call instead")
        }
    };
    Decided::Failed(CallError::Ended { problem })
}
