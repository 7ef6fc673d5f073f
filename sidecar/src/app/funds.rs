//! What an account has within reach: what nothing holds, and what leases hold and do not use.

use std::collections::BTreeMap;

use farebox_core::grant::{Means, Rate, Split};
use farebox_core::money::Nanos;
use farebox_core::wire::FreeQuota;

use crate::app::books::{Books, quota_key, tier_key};
use crate::app::terms::{Terms, Tier};
use crate::calendar::Month;
use crate::store::StoreError;
use crate::store::free_quota::QuotaKey;
use crate::store::lease::StoredLease;

/// What nothing holds.
pub(super) fn own(books: &Books, quota: &QuotaKey, terms: &Terms) -> Result<Means, StoreError> {
    let room = |version: Option<i64>, units: u64| {
        version.map_or(units, |version| books.room(&tier_key(quota, version), units))
    };
    let rate = |&Tier { price, version, units }: &Tier| Rate {
        price,
        room: units.map(|units| room(version, units)),
    };
    Ok(Means {
        free_units: books.quota(quota).map_or(0, |quota| quota.remaining()),
        available: books.available(&quota.account)?,
        rates: terms.tiers.iter().map(rate).collect(),
        package: terms.package,
    })
}

/// The month's free quota, as callers are told about it.
pub(super) fn free_quota(books: &Books, key: &QuotaKey, month: &Month) -> FreeQuota {
    let resets_in_s = month.seconds_left(books.now);
    match books.quota(key) {
        Some(quota) => FreeQuota { total: quota.total, remaining: quota.remaining(), resets_in_s },
        None => FreeQuota { resets_in_s, ..FreeQuota::default() },
    }
}

/// What leases hold beyond their running calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pool {
    free: u64,
    money: Nanos,
    /// Room in tiers, by price version.
    tiers: BTreeMap<i64, u64>,
    /// The leases that hold it.
    pub(super) leases: Vec<u64>,
}

impl Pool {
    /// Of the account's open leases but `except`: free units of the quota, money where it would help, and units of its package.
    pub(super) fn of(books: &Books, quota: &QuotaKey, terms: &Terms, except: Option<u64>) -> Self {
        let money_helps = !terms.tiers.is_empty();
        let mut of_others = BTreeMap::new();
        let mut pool =
            Self { free: 0, money: Nanos::ZERO, tiers: BTreeMap::new(), leases: Vec::new() };
        for lease in books.open_leases(&quota.account) {
            let spare = spare_units(lease);
            let is_same_quota = lease.key.service == quota.service && lease.month == quota.month;
            let free = if is_same_quota { spare.free } else { 0 };
            let money = lease.price.checked_mul(spare.paid).unwrap_or(Nanos::ZERO);
            let counted = lease.price_version.filter(|_| lease.is_counted);
            let counted = counted.filter(|_| 0 < spare.paid);
            let is_of_package =
                is_same_quota && terms.package.is_some() && terms.tier_of(counted).is_some();
            // Units of other packages are money, if nobody needs them any more.
            let other = counted.filter(|_| money_helps && lease.price == Nanos::ZERO);
            let other = other.filter(|_| !is_of_package).map(|it| tier_key(&quota_key(lease), it));
            let other = other.filter(|key| books.is_packaged(key));
            let helps = 0 < free || is_of_package || (Nanos::ZERO < money && money_helps);
            if Some(lease.id) != except && (helps || other.is_some()) {
                if let Some(key) = other {
                    *of_others.entry(key).or_default() += spare.paid;
                }
                pool.leases.push(lease.id);
                pool.free = pool.free.saturating_add(free);
                pool.money = pool.money.checked_add(money).unwrap_or(Nanos::MAX);
                if let Some(version) = lease.price_version.filter(|_| is_same_quota) {
                    *pool.tiers.entry(version).or_default() += spare.paid;
                }
            }
        }
        for (key, held) in of_others {
            let worth = books.worth_of(&key, held);
            pool.money = pool.money.checked_add(worth).unwrap_or(Nanos::MAX);
        }
        pool
    }

    /// What the account would have, were all of it given back.
    pub(super) fn added_to(&self, means: &Means, terms: &Terms) -> Means {
        let back = |tier: &Tier| tier.version.and_then(|version| self.tiers.get(&version).copied());
        let rates = means.rates.iter().zip(&terms.tiers).map(|(rate, tier)| Rate {
            room: rate.room.map(|room| room.saturating_add(back(tier).unwrap_or(0))),
            ..*rate
        });
        Means {
            free_units: means.free_units.saturating_add(self.free),
            available: means.available.checked_add(self.money).unwrap_or(Nanos::MAX),
            rates: rates.collect(),
            package: means.package,
        }
    }

    /// Asks the gateways to give it back.
    pub(super) fn recall(&self, books: &mut Books) -> Result<(), StoreError> {
        for &id in &self.leases {
            books.lease_mut(id)?.recall = true;
        }
        Ok(())
    }
}

/// What a lease holds beyond its running calls, which use the free units first.
fn spare_units(lease: &StoredLease) -> Split {
    let outstanding = lease.units.outstanding();
    outstanding.minus(outstanding.take_free_first(lease.in_flight))
}
