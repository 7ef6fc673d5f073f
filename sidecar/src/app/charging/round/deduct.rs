//! Deducts, and how a request ends for which there is not enough.

use farebox_core::call::{CheckReply, DeductReply, DeductRequest, Reason, Shortfall};
use farebox_core::charge::{self, Cost, PaidBy, Verdict};
use farebox_core::code::Code;
use farebox_core::grant::Funds;
use farebox_core::wire::LeaseKey;

use super::{Decided, Round};
use crate::app::books::Charge;
use crate::app::charging::{Outcome, Refusal};
use crate::app::funds::{self, Pool};
use crate::app::terms::Terms;
use crate::store::StoreError;
use crate::store::billing_record::Source;
use crate::store::free_quota::QuotaKey;

/// What a call is charged by.
pub(super) struct Case {
    pub(super) quota: QuotaKey,
    pub(super) terms: Terms,
}

/// What there is for a call.
pub(super) enum Cover {
    /// Enough.
    Enough(Cost),
    /// Enough, once gateways have given back what they do not use.
    Recalled,
    /// Not, and why; with what nothing holds.
    Refused(Code, Funds),
}

impl Round<'_> {
    /// Charges a call, all of it or nothing.
    pub(super) fn deduct(&mut self, request: &DeductRequest) -> Result<Decided, StoreError> {
        let DeductRequest { user_id, service, price, count, .. } = request;
        if !self.settings.is_metered(service) {
            return Ok(self.refuse_unknown());
        }
        let key = LeaseKey { account: user_id.clone(), service: service.clone(), price: *price };
        let case = self.case(&key);
        match self.cover(&case, *count)? {
            Cover::Enough(cost) => self.charge(&case, cost),
            Cover::Recalled => Ok(Decided::Recalled),
            Cover::Refused(code, funds) => Ok(self.refuse(&case, code, funds, *count)),
        }
    }

    /// Tells that a deduct would be charged, where what nothing holds is enough.
    pub(in crate::app::charging) fn tell_own(
        &self,
        key: &LeaseKey,
        count: u64,
    ) -> Result<Option<CheckReply>, StoreError> {
        let case = self.case(key);
        let funds = funds::own(&self.books, &case.quota, case.terms.price)?;
        let reply = self.check_reply(&case, funds, funds, count)?;
        Ok(reply.allowed.then_some(reply))
    }

    /// Tells what a deduct would come to.
    pub(in crate::app::charging) fn tell(
        &mut self,
        key: &LeaseKey,
        count: u64,
    ) -> Result<CheckReply, StoreError> {
        let case = self.case(key);
        let cover = self.cover(&case, count)?;
        let funds = funds::own(&self.books, &case.quota, case.terms.price)?;
        let reachable = match cover {
            Cover::Enough(_) | Cover::Refused(..) => funds,
            Cover::Recalled => self.pool(&case).added_to(funds),
        };
        self.check_reply(&case, funds, reachable, count)
    }

    fn check_reply(
        &self,
        case: &Case,
        funds: Funds,
        reachable: Funds,
        count: u64,
    ) -> Result<CheckReply, StoreError> {
        let is_frozen = self.books.is_frozen(&case.quota.account)?;
        let (allowed, reason, cost) = match charge::decide(reachable, count) {
            Verdict::Payable(Cost { units, amount }) if !is_frozen => {
                (true, PaidBy::of(units).into(), amount)
            }
            Verdict::Payable(_) | Verdict::Short => {
                let reason = match funds.price {
                    _ if is_frozen => Reason::AccountFrozen,
                    Some(_) => Reason::InsufficientBalance,
                    None => Reason::InsufficientQuota,
                };
                (false, reason, charge::cost_of(funds, count))
            }
        };
        Ok(CheckReply {
            allowed,
            reason,
            remaining_free: funds.free_units,
            available: funds.available,
            cost,
            price: funds.price,
            currency: self.books.balance(&case.quota.account)?.currency.clone(),
        })
    }

    fn pool(&self, case: &Case) -> Pool {
        Pool::of(&self.books, &case.quota, case.terms.price.is_some(), None)
    }

    pub(super) fn case(&self, key: &LeaseKey) -> Case {
        Case { quota: self.quota(&key.account, &key.service), terms: self.prices.terms(key) }
    }

    /// Looks for units that cover a call: what nothing holds, then what ran out, then what gateways hold unused. A frozen
    /// account has none.
    pub(super) fn cover(&mut self, case: &Case, units: u64) -> Result<Cover, StoreError> {
        let Case { quota, terms } = case;
        let account = &quota.account;
        let mut funds = funds::own(&self.books, quota, terms.price)?;
        if self.books.is_frozen(account)? {
            return Ok(Cover::Refused(Code::AccountFrozen, funds));
        }
        if charge::decide(funds, units) == Verdict::Short {
            if !self.claims.contains(account) {
                self.short.insert(account.clone());
            } else if self.books.end_overdue(account, None, self.settings)? {
                funds = funds::own(&self.books, quota, terms.price)?;
            }
        }
        if let Verdict::Payable(cost) = charge::decide(funds, units) {
            return Ok(Cover::Enough(cost));
        }
        let pool = self.pool(case);
        if charge::decide(pool.added_to(funds), units) == Verdict::Short {
            return Ok(Cover::Refused(charge::code_of_short(terms.price), funds));
        }
        pool.recall(&mut self.books)?;
        Ok(Cover::Recalled)
    }

    fn charge(&mut self, case: &Case, cost: Cost) -> Result<Decided, StoreError> {
        let Case { quota, terms } = case;
        let charge = Charge {
            message: None,
            quota: quota.clone(),
            price: terms.price,
            price_version: terms.price_version,
            source: Source::Deduct,
            lease: None,
            journal_line: None,
        };
        let record_id = self.books.charge_call(&charge, cost)?.unwrap_or_default();
        let (balance, available, currency) = self.money(&quota.account)?;
        Ok(Decided::Answer(Outcome::Deducted(DeductReply {
            record_id,
            free_units: cost.units.free,
            paid_units: cost.units.paid,
            amount: cost.amount,
            price: terms.price,
            balance,
            available,
            currency,
            free_quota: funds::free_quota(&self.books, quota, &self.month),
        })))
    }

    /// Says what there is and what it takes.
    pub(super) fn refuse(&self, case: &Case, code: Code, funds: Funds, units: u64) -> Decided {
        let Case { quota, terms } = case;
        Decided::Answer(Outcome::Refused(Refusal {
            code: code.number(),
            shortfall: Shortfall {
                remaining_free: funds.free_units,
                available: funds.available,
                cost: charge::cost_of(funds, units),
                price: terms.price,
                free_quota: funds::free_quota(&self.books, quota, &self.month),
            },
        }))
    }
}
