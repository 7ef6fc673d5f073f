//! Refunds: units of a charge go back to where they came from, and a deduct whose outcome is unknown is undone.

use farebox_core::call::{RefundReply, RefundRequest};
use farebox_core::grant::Split;
use farebox_core::id::AccountId;
use farebox_core::money::Nanos;
use farebox_core::wire::FieldError;

use super::{ANY_CONTENT, Decided, Known, Round};
use crate::app::charging::request::deduct_key;
use crate::app::charging::{CallError, Outcome};
use crate::store::StoreError;

impl Round<'_> {
    pub(super) fn refund(
        &mut self,
        request: &RefundRequest,
        account: &AccountId,
    ) -> Result<Decided, StoreError> {
        match (&request.record_id, &request.deduct_key) {
            (Some(record), _) => self.refund_record(request, record, account),
            (None, Some(key)) => self.undo(key, account),
            (None, None) => Ok(not_found("")),
        }
    }

    /// Gives back what is asked for, no more than is left.
    fn refund_record(
        &mut self,
        request: &RefundRequest,
        record: &str,
        account: &AccountId,
    ) -> Result<Decided, StoreError> {
        let Some(charge) = self.books.charged(record) else { return Ok(not_found(record)) };
        if charge.account != *account
            || request.user_id.as_ref().is_some_and(|user| user != account)
        {
            return Ok(not_found(record));
        }
        if charge.month.is_none() {
            return Ok(ended(format!(
                "billing record {record} was made by billing-service, which did not say what paid for it; \
                 use `farebox account credit`"
            )));
        }
        if charge.is_package {
            return Ok(ended(format!(
                "billing record {record} is of packages, which go back when none of their units is used or held; \
                 refund the calls that used them"
            )));
        }
        let parts = self.books.parts_of(record);
        let left = self.left(&parts);
        if left == Split::NONE {
            return Ok(ended(format!("all of billing record {record} went back already")));
        }
        let units = request.units.unwrap_or_else(|| left.total());
        if left.total() < units {
            let problem = "must be no more than was charged and has not come back yet";
            let value = format!("{units}, and {} are left", left.total());
            let field = "units".to_owned();
            return Ok(Decided::Failed(FieldError { field, value, problem }.into()));
        }
        self.give_back(record, &parts, units, account)
    }

    /// Undoes a deduct: all of it goes back, and one that has not come yet will charge nothing.
    fn undo(&mut self, key: &str, account: &AccountId) -> Result<Decided, StoreError> {
        let key = deduct_key(key);
        let (record, parts) = match self.known.get(&key) {
            None => {
                self.keep(key, &ANY_CONTENT, &Outcome::Cancelled);
                return self.nothing_back(None, account);
            }
            Some(Known { outcome: Outcome::Deducted(reply), .. }) => {
                let only = || vec![reply.record_id.clone()];
                let parts = Some(reply.record_ids.clone()).filter(|ids| !ids.is_empty());
                (reply.record_id.clone(), parts.unwrap_or_else(only))
            }
            Some(_) => return self.nothing_back(None, account),
        };
        match self.books.charged(&record) {
            // Decided in this round, and not written yet.
            None if self.new.iter().any(|answer| answer.key == key) => Ok(Decided::NextRound),
            None => Ok(not_found(&record)),
            Some(charge) if charge.account != *account => Ok(not_found(&record)),
            // It began with this deduct, after the accounts of this round were locked.
            Some(_) if !self.books.has(account) => Ok(Decided::NextRound),
            Some(_) => {
                let left = self.left(&parts);
                if left == Split::NONE {
                    return self.nothing_back(Some(record), account);
                }
                self.give_back(&record, &parts, left.total(), account)
            }
        }
    }

    /// What has not come back yet of these charges.
    fn left(&self, records: &[String]) -> Split {
        let charges = records.iter().filter_map(|record| self.books.charged(record));
        let left = charges.map(|charge| charge.units.minus(charge.refunded));
        left.fold(Split::NONE, Split::plus)
    }

    /// Gives units of a call's charges back, from the last price on, paid ones first; free ones stand with the first.
    fn give_back(
        &mut self,
        record: &str,
        parts: &[String],
        units: u64,
        account: &AccountId,
    ) -> Result<Decided, StoreError> {
        let (mut refund_id, mut amount, mut back) = (None, Nanos::ZERO, Split::NONE);
        for part in parts.iter().rev() {
            let left = self.left(std::slice::from_ref(part));
            let of_part = left.take_paid_first(units.saturating_sub(back.total()));
            if of_part != Split::NONE {
                let (refund, more) = self.books.refund_charge(part, of_part)?;
                refund_id = Some(refund);
                amount = amount.checked_add(more).unwrap_or(amount);
                back = back.plus(of_part);
            }
        }
        let units = back;
        let (balance, available, currency) = self.money(account)?;
        Ok(Decided::Answer(Outcome::Refunded(RefundReply {
            refund_id,
            record_id: Some(record.to_owned()),
            free_units: units.free,
            paid_units: units.paid,
            amount,
            balance,
            available,
            currency,
        })))
    }

    fn nothing_back(
        &self,
        record_id: Option<String>,
        account: &AccountId,
    ) -> Result<Decided, StoreError> {
        let (balance, available, currency) = self.money(account)?;
        Ok(Decided::Answer(Outcome::Refunded(RefundReply {
            refund_id: None,
            record_id,
            free_units: 0,
            paid_units: 0,
            amount: Nanos::ZERO,
            balance,
            available,
            currency,
        })))
    }
}

fn not_found(id: &str) -> Decided {
    Decided::Failed(CallError::NotFound { what: "billing record", id: id.to_owned() })
}

fn ended(problem: String) -> Decided {
    Decided::Failed(CallError::Ended { problem })
}
