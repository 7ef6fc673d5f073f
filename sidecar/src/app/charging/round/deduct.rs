//! Deducts, and how a request ends for which there is not enough.

use farebox_core::call::{CheckReply, CostPart, DeductReply, DeductRequest, Reason, Shortfall};
use farebox_core::charge::{self, Bill, Cost, PaidBy, Part};
use farebox_core::code::Code;
use farebox_core::grant::Means;
use farebox_core::money::Nanos;
use farebox_core::package::Bought;
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
    Enough(Bill),
    /// Enough, once gateways have given back what they do not use.
    Recalled,
    /// Not, and why; with what nothing holds.
    Refused(Code, Means),
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
            Cover::Enough(bill) => self.charge(&case, &bill),
            Cover::Recalled => Ok(Decided::Recalled),
            Cover::Refused(code, means) => Ok(self.refuse(&case, code, &means, *count)),
        }
    }

    /// Tells that a deduct would be charged, where what nothing holds is enough.
    pub(in crate::app::charging) fn tell_own(
        &self,
        key: &LeaseKey,
        count: u64,
    ) -> Result<Option<CheckReply>, StoreError> {
        let case = self.case(key);
        let means = funds::own(&self.books, &case.quota, &case.terms)?;
        let reply = self.check_reply(&case, &means, &means, count)?;
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
        let means = funds::own(&self.books, &case.quota, &case.terms)?;
        let reachable = match cover {
            Cover::Enough(_) | Cover::Refused(..) => means.clone(),
            Cover::Recalled => self.pool(&case).added_to(&means, &case.terms),
        };
        self.check_reply(&case, &means, &reachable, count)
    }

    fn check_reply(
        &self,
        case: &Case,
        means: &Means,
        reachable: &Means,
        count: u64,
    ) -> Result<CheckReply, StoreError> {
        let is_frozen = self.books.is_frozen(&case.quota.account)?;
        let (allowed, reason, cost, parts, packages) = match charge::bill(reachable, count) {
            Some(Bill { cost: Cost { units, amount }, parts, packages }) if !is_frozen => {
                (true, PaidBy::of(units).into(), amount, parts, packages)
            }
            Some(_) | None => {
                let reason = match means.next() {
                    _ if is_frozen => Reason::AccountFrozen,
                    Some(_) => Reason::InsufficientBalance,
                    None => Reason::InsufficientQuota,
                };
                (false, reason, charge::cost_over(means, count), Vec::new(), 0)
            }
        };
        let part = |part: &Part| {
            let price = case.terms.tiers.get(part.rate).map_or(Nanos::ZERO, |tier| tier.price);
            CostPart { units: part.units, price, amount: part.amount }
        };
        let parts = if parts.len() < 2 { Vec::new() } else { parts.iter().map(part).collect() };
        let next = means.next();
        Ok(CheckReply {
            allowed,
            reason,
            remaining_free: means.free_units,
            available: means.available,
            cost,
            price: next.map(|rate| rate.price),
            price_units: next.and_then(|rate| rate.room),
            parts,
            packages: Bought::of(case.terms.package, packages),
            currency: self.books.balance(&case.quota.account)?.currency.clone(),
        })
    }

    fn pool(&self, case: &Case) -> Pool {
        Pool::of(&self.books, &case.quota, &case.terms, None)
    }

    pub(super) fn case(&self, key: &LeaseKey) -> Case {
        Case { quota: self.quota(&key.account, &key.service), terms: self.prices.terms(key) }
    }

    /// Looks for units that cover a call: what nothing holds, then what ran out, then what gateways hold unused. A frozen
    /// account has none.
    pub(super) fn cover(&mut self, case: &Case, units: u64) -> Result<Cover, StoreError> {
        let Case { quota, terms } = case;
        let account = &quota.account;
        let mut means = funds::own(&self.books, quota, terms)?;
        if self.books.is_frozen(account)? {
            return Ok(Cover::Refused(Code::AccountFrozen, means));
        }
        if charge::bill(&means, units).is_none() {
            if !self.claims.contains(account) {
                self.short.insert(account.clone());
            } else if self.books.end_overdue(account, None, self.settings)? {
                means = funds::own(&self.books, quota, terms)?;
            }
        }
        if let Some(bill) = charge::bill(&means, units) {
            return Ok(Cover::Enough(bill));
        }
        let pool = self.pool(case);
        if charge::bill(&pool.added_to(&means, terms), units).is_none() {
            let code = charge::code_of_short(means.next().map(|rate| rate.price));
            return Ok(Cover::Refused(code, means));
        }
        pool.recall(&mut self.books)?;
        Ok(Cover::Recalled)
    }

    fn charge(&mut self, case: &Case, bill: &Bill) -> Result<Decided, StoreError> {
        let Case { quota, terms } = case;
        let charge = Charge {
            message: None,
            quota: quota.clone(),
            unit_price: terms.first(),
            source: Source::Deduct,
            lease: None,
            journal_line: None,
        };
        let price = match bill.parts.first() {
            Some(part) => terms.tiers.get(part.rate).map(|tier| tier.price),
            None => terms.first().price,
        };
        let record_ids = self.books.charge_bill(&charge, terms, bill)?;
        let record_id = record_ids.first().cloned().unwrap_or_default();
        let record_ids = if record_ids.len() < 2 { Vec::new() } else { record_ids };
        let cost = bill.cost;
        let (balance, available, currency) = self.money(&quota.account)?;
        Ok(Decided::Answer(Outcome::Deducted(DeductReply {
            record_id,
            record_ids,
            free_units: cost.units.free,
            paid_units: cost.units.paid,
            amount: cost.amount,
            price,
            packages: Bought::of(terms.package, bill.packages),
            balance,
            available,
            currency,
            free_quota: funds::free_quota(&self.books, quota, &self.month),
        })))
    }

    /// Says what there is and what it takes.
    pub(super) fn refuse(&self, case: &Case, code: Code, means: &Means, units: u64) -> Decided {
        let quota = &case.quota;
        let price = means.next().map(|rate| rate.price);
        Decided::Answer(Outcome::Refused(Refusal {
            code: code.number(),
            shortfall: Shortfall {
                remaining_free: means.free_units,
                available: means.available,
                cost: charge::cost_over(means, units),
                price,
                free_quota: funds::free_quota(&self.books, quota, &self.month),
            },
        }))
    }
}
