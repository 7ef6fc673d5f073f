//! What calls with a request of their own move: charged at once, set aside and given back, refunded. Pure: rows change in
//! memory only.

use std::collections::BTreeSet;

use sqlx::mysql::MySqlConnection;

use farebox_core::charge::{Bill, Cost};
use farebox_core::grant::Split;
use farebox_core::id::AccountId;
use farebox_core::ledger::Entry;
use farebox_core::money::Nanos;

use crate::app::Settings;
use crate::app::books::movement::{EntryFor, by_price, cost_of, used_units};
use crate::app::books::{
    Books, Charge, LeaseSelection, Tracked, missing, new_id, out_of_range, tier_key,
};
use crate::app::terms::{Terms, UnitPrice};
use crate::store::StoreError;
use crate::store::billing_record::{self, Charged};
use crate::store::charge_refund::NewChargeRefund;
use crate::store::column::time_text;
use crate::store::free_quota::QuotaKey;
use crate::store::lease::StoredLease;
use crate::store::reservation::{self, Basis, NewReservation, Reservation, State};

impl Books {
    /// Loads reservations and charges of locked accounts, by id, and the quotas that they are about.
    pub(in crate::app) async fn load_calls(
        &mut self,
        tx: &mut MySqlConnection,
        reservations: &[&str],
        charges: &[&str],
    ) -> Result<(), StoreError> {
        for row in reservation::find(tx, reservations, self.on_corrupt).await? {
            self.keep_reservation(row);
        }
        // Also of accounts that are not locked: whose they are is part of what is decided.
        for row in billing_record::find(tx, charges, self.on_corrupt).await? {
            self.charges.insert(row.id.clone(), Tracked::new(row));
        }
        let charged = self.charges.values().map(|row| &row.current);
        let first = charged.filter(|row| row.part_of.as_deref() == Some(row.id.as_str()));
        let first: Vec<String> = first.map(|row| row.id.clone()).collect();
        let first: Vec<&str> = first.iter().map(String::as_str).collect();
        for row in billing_record::find_parts(tx, &first, self.on_corrupt).await? {
            self.charges.entry(row.id.clone()).or_insert_with(|| Tracked::new(row));
        }
        let of_reservations = self.reservations.values().map(|row| reserved_quota(&row.current));
        let of_charges = self.charges.values().filter_map(|row| charged_quota(&row.current));
        let quotas: BTreeSet<QuotaKey> = of_reservations.chain(of_charges).collect();
        self.load_quotas(tx, &quotas).await?;
        self.load_tiers_of_calls(tx).await
    }

    /// Loads the tiers that reservations and charges count in.
    async fn load_tiers_of_calls(&mut self, tx: &mut MySqlConnection) -> Result<(), StoreError> {
        let reserved = self.reservations.values().map(|row| &row.current);
        let reserved =
            reserved.filter_map(|row| Some(tier_key(&reserved_quota(row), row.price_version?)));
        let charged = self.charges.values().map(|row| &row.current);
        let charged =
            charged.filter_map(|row| Some(tier_key(&charged_quota(row)?, row.price_version?)));
        let keys = reserved.chain(charged).collect();
        self.load_tiers(tx, keys).await
    }

    /// Loads what else these accounts might get back: open leases, and reservations whose time is over.
    pub(in crate::app) async fn load_claims(
        &mut self,
        tx: &mut MySqlConnection,
        accounts: &BTreeSet<AccountId>,
    ) -> Result<(), StoreError> {
        let selection = LeaseSelection { ids: Vec::new(), open_of: accounts.clone() };
        self.load_leases(tx, &selection).await?;
        self.load_overdue(tx, accounts).await
    }

    /// Loads the reservations of these accounts whose time is over, and what is to be known of leases whose time is.
    pub(in crate::app) async fn load_overdue(
        &mut self,
        tx: &mut MySqlConnection,
        accounts: &BTreeSet<AccountId>,
    ) -> Result<(), StoreError> {
        let sorted: Vec<&AccountId> = accounts.iter().collect();
        let overdue = reservation::find_overdue(tx, &sorted, self.now, self.on_corrupt).await?;
        let quotas = overdue.iter().map(reserved_quota).collect();
        for row in overdue {
            self.keep_reservation(row);
        }
        self.load_quotas(tx, &quotas).await?;
        self.load_tiers_of_calls(tx).await?;
        self.load_last_seen(tx).await
    }

    fn keep_reservation(&mut self, row: Reservation) {
        if self.balances.contains_key(&row.account) {
            self.reservations.entry(row.id.clone()).or_insert_with(|| Tracked::new(row));
        }
    }

    /// The reservation, when it was loaded.
    pub(in crate::app) fn reservation(&self, id: &str) -> Option<&Reservation> {
        self.reservations.get(id).map(|row| &row.current)
    }

    /// Takes back what ran out of what [`Self::load_claims`] loaded: leases of gateways that fell silent, but for `keep`, and
    /// reservations. A request that needs it need not wait for the job. Whether there was anything.
    pub(in crate::app) fn end_overdue(
        &mut self,
        account: &AccountId,
        keep: Option<u64>,
        settings: &Settings,
    ) -> Result<bool, StoreError> {
        let now = self.now;
        let overdue = |lease: &&StoredLease| lease.reclaim_at <= now && Some(lease.id) != keep;
        let leases: Vec<u64> =
            self.open_leases(account).filter(overdue).map(|lease| lease.id).collect();
        for &id in &leases {
            self.reclaim_lease(id, settings)?;
        }
        let rows = self.reservations.values().map(|row| &row.current);
        let reservations: Vec<String> = rows
            .filter(|row| row.account == *account && row.is_overdue(now))
            .map(|row| row.id.clone())
            .collect();
        for id in &reservations {
            self.end_reservation(id, State::Expired)?;
        }
        Ok(!leases.is_empty() || !reservations.is_empty())
    }

    /// The charge, when it was loaded.
    pub(in crate::app) fn charged(&self, id: &str) -> Option<&Charged> {
        self.charges.get(id).map(|row| &row.current)
    }

    /// Charges a call that was decided on these books; the record's id.
    pub(in crate::app) fn charge_call(
        &mut self,
        charge: &Charge<'_>,
        cost: Cost,
    ) -> Result<Option<String>, StoreError> {
        self.charge(charge, cost.units, cost.amount, Nanos::ZERO)
    }

    /// Charges a call that was decided on these books, by a record for each price; their ids. The packages that it buys stand on
    /// a record of their own, which goes back when nobody needs them.
    pub(in crate::app) fn charge_bill(
        &mut self,
        charge: &Charge<'_>,
        terms: &Terms,
        bill: &Bill,
    ) -> Result<Vec<String>, StoreError> {
        // Packages first: the units need the room.
        let bought = if 0 < bill.packages { self.buy(charge, bill.packages)? } else { None };
        let before = self.records.len();
        let mut ids = Vec::new();
        for (unit_price, units) in by_price(terms, bill.cost.units, &bill.parts) {
            let amount = cost_of(unit_price.price, units.paid, &charge.quota.account)?;
            let charge = Charge { unit_price, ..charge.clone() };
            ids.extend(self.charge(&charge, units, amount, Nanos::ZERO)?);
        }
        if 1 < ids.len() {
            let parts = self.records.iter_mut().skip(before);
            parts.for_each(|record| record.part_of = ids.first().cloned());
        }
        let bought = self.records.iter_mut().filter(|record| Some(&record.id) == bought.as_ref());
        bought.for_each(|record| record.part_of = ids.first().cloned());
        Ok(ids)
    }

    /// The charges of the call that this one is the first of: itself, and those at other prices, in order.
    pub(in crate::app) fn parts_of(&self, record: &str) -> Vec<String> {
        let is_part = |charge: &&Charged| {
            charge.id == record || (charge.part_of.as_deref() == Some(record) && !charge.is_package)
        };
        // Ids sort by time.
        let charges = self.charges.values().map(|row| &row.current);
        charges.filter(is_part).map(|charge| charge.id.clone()).collect()
    }

    /// Sets aside what a reservation says.
    pub(in crate::app) fn reserve(&mut self, new: NewReservation) -> Result<(), StoreError> {
        let quota = QuotaKey {
            account: new.account.clone(),
            service: new.service.clone(),
            month: new.month.clone(),
        };
        let units = Split { free: new.free_units, paid: new.paid_units };
        let unit_price = UnitPrice { price: new.price, version: new.price_version };
        let (price, units) = held_as(new.basis, unit_price, units, new.amount);
        self.hold(&quota, price, units)?;
        self.new_reservations.push(new);
        Ok(())
    }

    /// Ends a reservation; what it held is free again.
    pub(in crate::app) fn end_reservation(
        &mut self,
        id: &str,
        state: State,
    ) -> Result<(), StoreError> {
        let reservation = self.reservation_mut(id)?;
        reservation.state = state;
        let quota = reserved_quota(reservation);
        let Reservation { basis, price, price_version: version, units, amount, .. } = *reservation;
        let (price, units) = held_as(basis, UnitPrice { price, version }, units, amount);
        self.release(&quota, price, units)
    }

    /// Notes which charge a reservation came to.
    pub(in crate::app) fn note_record(
        &mut self,
        id: &str,
        record: Option<String>,
    ) -> Result<(), StoreError> {
        self.reservation_mut(id)?.record = record;
        Ok(())
    }

    fn reservation_mut(&mut self, id: &str) -> Result<&mut Reservation, StoreError> {
        match self.reservations.get_mut(id) {
            Some(row) => Ok(&mut row.current),
            None => Err(missing("reservation", id.to_owned())),
        }
    }

    /// Gives units of a charge back: free ones to the quota of their month, paid ones as money, of which
    /// [`Self::collect`] takes what is owed. The refund's id and the money.
    pub(in crate::app) fn refund_charge(
        &mut self,
        record: &str,
        units: Split,
    ) -> Result<(String, Nanos), StoreError> {
        let Some(charge) = self.charges.get_mut(record) else {
            return Err(missing("billing_record", record.to_owned()));
        };
        let charge = &mut charge.current;
        charge.refunded = charge.refunded.plus(units);
        let (account, service) = (charge.account.clone(), charge.service.clone());
        let (quota, version) = (charged_quota(charge), charge.price_version);
        let is_package = charge.is_package;
        let amount = cost_of(charge.unit_price, units.paid, &account)?;
        if let Some(quota) = quota.as_ref().filter(|_| !is_package) {
            self.change_tier(quota, version, |tier| tier.refund(units.paid))?;
        }
        if let Some(quota) = quota.filter(|_| 0 < units.free) {
            let row = self.quota_mut(&quota)?;
            row.used = row
                .used
                .checked_sub(units.free)
                .ok_or_else(|| out_of_range("used units", &account))?;
        }
        // What a package's record counts are packages.
        self.tally.refund(&service, if is_package { Split::NONE } else { units }, amount);
        let id = new_id();
        if amount != Nanos::ZERO {
            let entry = Entry::charge_refund(service.as_str(), amount)
                .ok_or_else(|| out_of_range("refund", &account))?;
            let (kind, ref_type) = ("charge_refund", "charge_refund");
            self.post(&account, &entry, EntryFor { kind, ref_type, ref_id: &id })?;
            self.collect(&account, ref_type, &id)?;
        }
        self.usage.refunded(&account, &service, used_units(is_package, units), amount)?;
        self.charge_refunds.push(NewChargeRefund {
            id: id.clone(),
            record: record.to_owned(),
            account,
            free_units: units.free,
            paid_units: units.paid,
            amount,
            created_at: time_text(self.now),
        });
        Ok((id, amount))
    }

    /// Marks a quota with the fencing number of the lock under which it is about to be written. Fails when a later holder
    /// has written it.
    pub(in crate::app) fn fence(&mut self, key: &QuotaKey, number: u64) -> Result<(), StoreError> {
        let quota = self.quota_mut(key)?;
        if number < quota.fence {
            let QuotaKey { account, service, month } = key;
            return Err(StoreError::LockLost {
                key: format!("{account} {service} {month}"),
                newest: quota.fence,
            });
        }
        quota.fence = number;
        Ok(())
    }
}

/// The price and units that stand for what a reservation holds; an amount is one unit at its own price.
fn held_as(basis: Basis, price: UnitPrice, units: Split, amount: Nanos) -> (UnitPrice, Split) {
    match basis {
        Basis::Units => (price, units),
        Basis::Amount => {
            (UnitPrice { price: Some(amount), version: None }, Split { free: 0, paid: 1 })
        }
    }
}

fn reserved_quota(row: &Reservation) -> QuotaKey {
    let Reservation { account, service, month, .. } = row;
    QuotaKey { account: account.clone(), service: service.clone(), month: month.clone() }
}

/// Records of the predecessor do not say whose free quota was used.
fn charged_quota(row: &Charged) -> Option<QuotaKey> {
    let Charged { account, service, month, .. } = row;
    let month = month.clone()?;
    Some(QuotaKey { account: account.clone(), service: service.clone(), month })
}
