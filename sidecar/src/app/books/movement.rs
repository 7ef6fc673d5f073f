//! Units and money that move: held, charged, released, credited. Pure: rows change in memory only.

use farebox_core::charge::{self, PaidBy, Part};
use farebox_core::grant::Split;
use farebox_core::id::{AccountId, GatewayId, ServiceName};
use farebox_core::ledger::{Book, Entry};
use farebox_core::money::Nanos;
use farebox_core::order::RefundSplit;

use crate::app::books::{Books, new_id, out_of_range, quota_key};
use crate::app::funds;
use crate::app::terms::{Terms, Tier, UnitPrice};
use crate::negative::{self, Guard};
use crate::store::StoreError;
use crate::store::billing_record::{NewRecord, Source};
use crate::store::column::time_text;
use crate::store::free_quota::QuotaKey;
use crate::store::lease::{State, StoredLease};
use crate::store::ledger_entry::NewLeg;

/// The message that reported usage.
#[derive(Debug, Clone, Copy)]
pub(in crate::app) struct Reference<'a> {
    pub(in crate::app) gateway: &'a GatewayId,
    pub(in crate::app) epoch: u64,
    pub(in crate::app) seq: u64,
}

/// What usage is charged for.
#[derive(Debug, Clone)]
pub(in crate::app) struct Charge<'a> {
    /// `None` for a call that was charged by a request of its own.
    pub(in crate::app) message: Option<Reference<'a>>,
    pub(in crate::app) quota: QuotaKey,
    pub(in crate::app) unit_price: UnitPrice,
    pub(in crate::app) source: Source,
    pub(in crate::app) lease: Option<u64>,
    pub(in crate::app) journal_line: Option<u64>,
}

impl<'a> Charge<'a> {
    /// A charge for usage of a lease.
    pub(in crate::app) fn of_lease(
        lease: &StoredLease,
        source: Source,
        message: Option<Reference<'a>>,
    ) -> Self {
        Self {
            message,
            quota: quota_key(lease),
            unit_price: price_of(lease),
            source,
            lease: Some(lease.id),
            journal_line: None,
        }
    }
}

/// What the paid units of a lease cost.
pub(in crate::app) fn price_of(lease: &StoredLease) -> UnitPrice {
    let version = lease.price_version;
    UnitPrice { price: version.map(|_| lease.price), version }
}

pub(super) fn sum(
    left: Nanos,
    right: Nanos,
    what: &'static str,
    account: &AccountId,
) -> Result<Nanos, StoreError> {
    left.checked_add(right).ok_or_else(|| out_of_range(what, account))
}

fn difference(
    left: Nanos,
    right: Nanos,
    what: &'static str,
    account: &AccountId,
) -> Result<Nanos, StoreError> {
    left.checked_sub(right).ok_or_else(|| out_of_range(what, account))
}

pub(super) fn cost_of(
    price: Option<Nanos>,
    units: u64,
    account: &AccountId,
) -> Result<Nanos, StoreError> {
    let price = price.unwrap_or(Nanos::ZERO);
    price.checked_mul(units).ok_or_else(|| out_of_range("cost", account))
}

impl Books {
    /// Sets units of a price aside for a lease.
    pub(in crate::app) fn hold(
        &mut self,
        quota: &QuotaKey,
        UnitPrice { price, version }: UnitPrice,
        units: Split,
    ) -> Result<(), StoreError> {
        if negative::is_off(Guard::Holds) {
            return Ok(());
        }
        let account = &quota.account;
        let cost = cost_of(price, units.paid, account)?;
        self.change_tier(quota, version, |tier| tier.hold(units.paid))?;
        let balance = self.balance_mut(account)?;
        balance.held = sum(balance.held, cost, "held balance", account)?;
        if 0 < units.free {
            let row = self.quota_mut(quota)?;
            row.held = row
                .held
                .checked_add(units.free)
                .ok_or_else(|| out_of_range("held units", account))?;
        }
        Ok(())
    }

    /// Gives units that were set aside back to the account.
    pub(in crate::app) fn release(
        &mut self,
        quota: &QuotaKey,
        UnitPrice { price, version }: UnitPrice,
        units: Split,
    ) -> Result<(), StoreError> {
        if negative::is_off(Guard::Holds) {
            return Ok(());
        }
        let account = &quota.account;
        let cost = cost_of(price, units.paid, account)?;
        self.change_tier(quota, version, |tier| tier.release(units.paid))?;
        let balance = self.balance_mut(account)?;
        balance.held = difference(balance.held, cost, "held balance", account)?;
        if 0 < units.free {
            let row = self.quota_mut(quota)?;
            row.held = row
                .held
                .checked_sub(units.free)
                .ok_or_else(|| out_of_range("held units", account))?;
        }
        Ok(())
    }

    /// Ends a lease: what it still holds goes back to the account.
    pub(in crate::app) fn end_lease(&mut self, id: u64, state: State) -> Result<(), StoreError> {
        let lease = self.lease_mut(id)?;
        let released = lease.units.close();
        lease.state = state;
        lease.recall = false;
        let (quota, price) = (quota_key(lease), price_of(lease));
        self.release(&quota, price, released)
    }

    /// Charges units that a lease holds; the record's id, unless there was nothing to charge.
    pub(in crate::app) fn charge_held(
        &mut self,
        charge: &Charge<'_>,
        units: Split,
    ) -> Result<Option<String>, StoreError> {
        let unit_price = charge.unit_price;
        self.release(&charge.quota, unit_price, units)?;
        let cost = cost_of(unit_price.price, units.paid, &charge.quota.account)?;
        self.charge(charge, units, cost, Nanos::ZERO)
    }

    /// Charges units that nothing was set aside for: free quota, then balance and credit limit, and the rest is owed.
    pub(in crate::app) fn charge_unheld(
        &mut self,
        charge: &Charge<'_>,
        units: u64,
    ) -> Result<(), StoreError> {
        self.charge_owing(charge, self.free_first(charge, units))
    }

    /// As [`Self::charge_unheld`], at the prices of the tiers that have room.
    pub(in crate::app) fn charge_unheld_over(
        &mut self,
        charge: &Charge<'_>,
        terms: &Terms,
        units: u64,
    ) -> Result<(), StoreError> {
        let units = self.free_first(charge, units);
        let means = funds::own(self, &charge.quota, terms)?;
        let Some(split) = charge::split(&means, units.paid) else {
            return self.charge_owing(charge, units);
        };
        for (unit_price, units) in by_price(terms, units, &split.parts) {
            self.charge_owing(&Charge { unit_price, ..charge.clone() }, units)?;
        }
        Ok(())
    }

    fn free_first(&self, charge: &Charge<'_>, units: u64) -> Split {
        let remaining = self.quota(&charge.quota).map_or(0, |quota| quota.remaining());
        let free = units.min(remaining);
        Split { free, paid: units.saturating_sub(free) }
    }

    fn charge_owing(&mut self, charge: &Charge<'_>, split: Split) -> Result<(), StoreError> {
        let account = &charge.quota.account;
        self.buy_needed(charge, split.paid)?;
        let cost = cost_of(charge.unit_price.price, split.paid, account)?;
        let paid = cost.min(self.available(account)?.max(Nanos::ZERO));
        let owed = difference(cost, paid, "owed amount", account)?;
        self.charge(charge, split, cost, owed).map(drop)
    }

    /// Books a charge: quota, balance, receivable, record, ledger. The record's id, unless there was nothing to charge.
    pub(super) fn charge(
        &mut self,
        charge: &Charge<'_>,
        units: Split,
        amount: Nanos,
        owed: Nanos,
    ) -> Result<Option<String>, StoreError> {
        if units == Split::NONE {
            return Ok(None);
        }
        let QuotaKey { account, service, .. } = &charge.quota;
        if 0 < units.free {
            let row = self.quota_mut(&charge.quota)?;
            row.used = row
                .used
                .checked_add(units.free)
                .ok_or_else(|| out_of_range("used units", account))?;
        }
        let is_package = charge.source == Source::Package;
        if !is_package {
            let version = charge.unit_price.version;
            self.change_tier(&charge.quota, version, |tier| tier.charge(units.paid))?;
        }
        let paid = difference(amount, owed, "charge", account)?;
        let balance = self.balance_mut(account)?;
        balance.receivable = sum(balance.receivable, owed, "receivable", account)?;
        let record = new_record(charge, units, amount, owed, time_text(self.now));
        if amount != Nanos::ZERO {
            let entry = charge_entry(service, paid, owed, account)?;
            self.post(
                account,
                &entry,
                EntryFor { kind: "charge", ref_type: "billing_record", ref_id: &record.id },
            )?;
        }
        let id = record.id.clone();
        self.tally.charge(&record.service, record.payment, used_units(is_package, units), paid);
        self.usage.charged(account, service, used_units(is_package, units), amount, owed)?;
        self.records.push(record);
        Ok(Some(id))
    }

    /// Adds money to a balance, or takes some that is free.
    pub(in crate::app) fn adjust(
        &mut self,
        account: &AccountId,
        amount: Nanos,
        key: &str,
    ) -> Result<(), StoreError> {
        let entry = Entry::adjustment(amount).ok_or_else(|| out_of_range("adjustment", account))?;
        self.post(account, &entry, EntryFor { kind: "adjustment", ref_type: "credit", ref_id: key })
    }

    /// Adds money that was paid for an order. The ledger takes one such entry per order, whatever calls this.
    pub(in crate::app) fn recharge(
        &mut self,
        account: &AccountId,
        amount: Nanos,
        order_id: &str,
    ) -> Result<(), StoreError> {
        let entry = Entry::recharge(amount).ok_or_else(|| out_of_range("recharge", account))?;
        let entry_for = EntryFor { kind: "recharge", ref_type: "recharge_order", ref_id: order_id };
        self.post(account, &entry, entry_for)
    }

    /// Takes money that goes back to its payer; what the balance does not have is owed from now on.
    pub(in crate::app) fn refund(
        &mut self,
        account: &AccountId,
        split: RefundSplit,
        refund_id: &str,
    ) -> Result<(), StoreError> {
        let RefundSplit { taken, owed } = split;
        let entry = Entry::refund(taken, owed).ok_or_else(|| out_of_range("refund", account))?;
        let balance = self.balance_mut(account)?;
        balance.receivable = sum(balance.receivable, owed, "receivable", account)?;
        let entry_for = EntryFor { kind: "refund", ref_type: "recharge_refund", ref_id: refund_id };
        self.post(account, &entry, entry_for)
    }

    /// Gives the account back what a refund took that failed. What it owed may have been paid meanwhile, so all of it comes
    /// as money, of which [`Self::collect`] then takes what is still owed.
    pub(in crate::app) fn return_refund(
        &mut self,
        account: &AccountId,
        amount: Nanos,
        refund_id: &str,
    ) -> Result<(), StoreError> {
        let entry = Entry::recharge(amount).ok_or_else(|| out_of_range("refund", account))?;
        let entry_for =
            EntryFor { kind: "refund_reversal", ref_type: "recharge_refund", ref_id: refund_id };
        self.post(account, &entry, entry_for)
    }

    /// Pays what the account owes as far as free money goes, after money came in by `ref_type` and `ref_id`; how much.
    pub(in crate::app) fn collect(
        &mut self,
        account: &AccountId,
        ref_type: &'static str,
        ref_id: &str,
    ) -> Result<Nanos, StoreError> {
        let collected =
            self.balance(account)?.receivable.min(self.available(account)?.max(Nanos::ZERO));
        if collected == Nanos::ZERO {
            return Ok(collected);
        }
        let balance = self.balance_mut(account)?;
        balance.receivable = difference(balance.receivable, collected, "receivable", account)?;
        let entry =
            Entry::collection(collected).ok_or_else(|| out_of_range("collection", account))?;
        self.post(account, &entry, EntryFor { kind: "collection", ref_type, ref_id })?;
        Ok(collected)
    }

    /// Writes an entry's legs; a leg of the user's book moves the balance and carries its running total.
    pub(super) fn post(
        &mut self,
        account: &AccountId,
        entry: &Entry,
        entry_for: EntryFor<'_>,
    ) -> Result<(), StoreError> {
        let entry_id = new_id();
        let created_at = time_text(self.now);
        for leg in entry.legs() {
            let balance = self.balance_mut(account)?;
            let running = if leg.book == Book::User {
                balance.balance = sum(balance.balance, leg.amount, "balance", account)?;
                balance.entry_seq = balance.entry_seq.saturating_add(1);
                Some((balance.entry_seq, balance.balance))
            } else {
                None
            };
            let leg = NewLeg {
                entry_id: entry_id.clone(),
                account: account.clone(),
                book: leg.book.as_text(),
                amount: leg.amount,
                currency: balance.currency.clone(),
                kind: entry_for.kind,
                ref_type: entry_for.ref_type,
                ref_id: entry_for.ref_id.to_owned(),
                user_seq: running.map(|(seq, _)| seq),
                balance_after: running.map(|(_, after)| after),
                created_at: created_at.clone(),
            };
            self.legs.push(leg);
        }
        Ok(())
    }
}

/// A call's units, price by price; free ones go with the first.
pub(super) fn by_price(terms: &Terms, units: Split, parts: &[Part]) -> Vec<(UnitPrice, Split)> {
    let price =
        |rate: usize| terms.tiers.get(rate).map_or_else(UnitPrice::default, Tier::unit_price);
    let [first, others @ ..] = parts else { return vec![(terms.first(), units)] };
    let first = (price(first.rate), Split { free: units.free, paid: first.units });
    let others = others.iter().map(|part| (price(part.rate), Split { free: 0, paid: part.units }));
    [first].into_iter().chain(others).collect()
}

/// The units that a record stands for: that of packages counts packages, whose units are charged when they are used.
pub(super) fn used_units(is_package: bool, units: Split) -> Split {
    if is_package { Split::NONE } else { units }
}

/// What an entry is for.
#[derive(Clone, Copy)]
pub(super) struct EntryFor<'a> {
    pub(super) kind: &'static str,
    pub(super) ref_type: &'static str,
    pub(super) ref_id: &'a str,
}

fn charge_entry(
    service: &ServiceName,
    paid: Nanos,
    owed: Nanos,
    account: &AccountId,
) -> Result<Entry, StoreError> {
    Entry::charge(service.as_str(), paid, owed).ok_or_else(|| out_of_range("charge", account))
}

fn new_record(
    charge: &Charge<'_>,
    units: Split,
    amount: Nanos,
    owed: Nanos,
    created_at: String,
) -> NewRecord {
    NewRecord {
        id: new_id(),
        account: charge.quota.account.clone(),
        service: charge.quota.service.clone(),
        payment: PaidBy::of(units),
        amount,
        owed,
        count: units.total(),
        free_units: units.free,
        paid_units: units.paid,
        unit_price: charge.unit_price.price,
        price_version: charge.unit_price.version,
        source: charge.source,
        lease: charge.lease,
        journal_line: charge.journal_line,
        gateway: charge.message.map(|message| message.gateway.clone()),
        epoch: charge.message.map(|message| message.epoch),
        seq: charge.message.map(|message| message.seq),
        month: charge.quota.month.clone(),
        part_of: None,
        created_at,
    }
}
