//! Reservations: made, committed, released. One that ran out is over, whether or not anybody noticed yet.

use chrono::TimeDelta;

use farebox_core::call::{
    CommitReply, CommitRequest, RESERVATION_TTL_MS, ReleaseReply, ReleaseRequest, ReserveReply,
    ReserveRequest,
};
use farebox_core::charge::{self, Bill, Cost};
use farebox_core::grant::{Ask, Choice, Decision, Means, Split, choose};
use farebox_core::money::Nanos;
use farebox_core::package::Bought;
use farebox_core::wire::{FieldError, LeaseKey};

use super::deduct::{Case, Cover};
use super::{Decided, Round};
use crate::app::books::{Charge, new_id};
use crate::app::charging::{CallError, Outcome};
use crate::app::funds;
use crate::app::rfc3339;
use crate::app::terms::{Terms, Tier, UnitPrice};
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
        let (code, lacking) = match self.cover(&case, wanted)? {
            Cover::Enough(bill) => match self.at_one_price(&case, &bill, wanted)? {
                Ok((cost, unit_price)) => {
                    let quota = self.quota(user_id, service);
                    let (units, unit_price) = match basis {
                        Basis::Units => (cost.units, unit_price),
                        Basis::Amount => (Split::NONE, UnitPrice::default()),
                    };
                    let cost = Cost { units, amount: cost.amount };
                    let bought = self.buy_for(&quota, &case, bill.packages)?;
                    return self.set_aside(quota, basis, cost, unit_price, bought, request.ttl_ms);
                }
                Err(means) => {
                    let price = means.next().map(|rate| rate.price);
                    (charge::code_of_short(price), means)
                }
            },
            Cover::Recalled => return Ok(Decided::Recalled),
            Cover::Refused(code, means) => (code, means),
        };
        let refused = self.refuse(&case, code, &lacking, wanted);
        Ok(if basis == Basis::Amount { refused.with_price(None) } else { refused })
    }

    /// A reservation has one price, as a lease has: where the call's units have several, that of the first tier that has room
    /// for all of them. What there is, when it does not pay for them.
    fn at_one_price(
        &self,
        case: &Case,
        bill: &Bill,
        units: u64,
    ) -> Result<Result<(Cost, UnitPrice), Means>, StoreError> {
        let price = |rate: usize| case.terms.tiers.get(rate).map(Tier::unit_price);
        if let [] | [_] = bill.parts.as_slice() {
            let price = bill.parts.first().and_then(|part| price(part.rate));
            // Packages are charged by themselves; their units cost nothing.
            let amount = if 0 < bill.packages { Nanos::ZERO } else { bill.cost.amount };
            let cost = Cost { amount, ..bill.cost };
            return Ok(Ok((cost, price.unwrap_or_else(|| case.terms.first()))));
        }
        let means = funds::own(&self.books, &case.quota, &case.terms)?;
        let (rate, decision) = choose(&means, Choice::First, Ask { units, min: units }, 1);
        let unit_price = rate.and_then(price).unwrap_or_default();
        let Decision::Grant { units, .. } = decision else { return Ok(Err(means)) };
        let amount = unit_price.price.and_then(|price| price.checked_mul(units.paid));
        Ok(Ok((Cost { units, amount: amount.unwrap_or(Nanos::ZERO) }, unit_price)))
    }

    /// Buys the packages that a reservation takes.
    fn buy_for(
        &mut self,
        quota: &QuotaKey,
        case: &Case,
        packages: u64,
    ) -> Result<Option<Bought>, StoreError> {
        if 0 < packages {
            let charge = Charge {
                message: None,
                quota: quota.clone(),
                unit_price: case.terms.first(),
                source: Source::Package,
                lease: None,
                journal_line: None,
            };
            self.books.buy(&charge, packages)?;
        }
        Ok(Bought::of(case.terms.package, packages))
    }

    fn set_aside(
        &mut self,
        quota: QuotaKey,
        basis: Basis,
        cost: Cost,
        unit_price: UnitPrice,
        packages: Option<Bought>,
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
            price: unit_price.price,
            price_version: unit_price.version,
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
            price: unit_price.price,
            packages,
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
            unit_price: UnitPrice { price, version: row.price_version },
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
    let terms = Terms { until: case.terms.until, ..Terms::flat(ONE_NANO, None) };
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
