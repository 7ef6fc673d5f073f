//! Packages: bought when paid units need them, and given back as soon as nobody uses or holds any of their units.
//!
//! Units come and go in memory while a transaction is decided. The packages that are needed no more count as money and not as
//! room from the moment on at which their units are free; they are given back when the books are written.

use sqlx::mysql::MySqlConnection;

use farebox_core::grant::Split;
use farebox_core::id::AccountId;
use farebox_core::money::Nanos;
use farebox_core::package::Package;
use farebox_core::tier::TierUsage;

use crate::app::books::movement::sum;
use crate::app::books::{Books, Charge, Tracked, missing, out_of_range, tier_key};
use crate::store::StoreError;
use crate::store::billing_record::{self, Source};
use crate::store::tier_usage::{StoredTier, TierKey};

impl Books {
    /// Buys so many packages for the units of a charge, and more room for them with that; the record's id. What finds no money
    /// is owed.
    pub(in crate::app) fn buy(
        &mut self,
        charge: &Charge<'_>,
        packages: u64,
    ) -> Result<Option<String>, StoreError> {
        let account = &charge.quota.account;
        let key = charge.unit_price.version.map(|version| tier_key(&charge.quota, version));
        let Some((key, package)) = key.and_then(|key| Some((key.clone(), self.package(&key)?)))
        else {
            return Ok(None);
        };
        let beyond = || out_of_range("packages", account);
        let cost = package.cost(packages).ok_or_else(beyond)?;
        let paid = cost.min(self.available(account)?.max(Nanos::ZERO));
        let owed = cost.checked_sub(paid).ok_or_else(beyond)?;
        let units = package.units_of(packages).ok_or_else(beyond)?;
        self.change_total(&key, |total| total.checked_add(units))?;
        let mut charge = Charge { source: Source::Package, lease: None, ..charge.clone() };
        charge.unit_price.price = Some(package.price);
        charge.journal_line = None;
        self.charge(&charge, Split { free: 0, paid: packages }, cost, owed)
    }

    /// Buys the packages that so many paid units need beyond the room that there is. They are used already.
    pub(super) fn buy_needed(&mut self, charge: &Charge<'_>, paid: u64) -> Result<(), StoreError> {
        let Some(version) = charge.unit_price.version else { return Ok(()) };
        let Some(tier) = self.tiers.get(&tier_key(&charge.quota, version)) else { return Ok(()) };
        let StoredTier { units, package, .. } = &tier.current;
        match package.map_or(0, |package| package.needed(paid, units.room())) {
            0 => Ok(()),
            packages => self.buy(charge, packages).map(drop),
        }
    }

    /// What the units of a tier are bought by.
    fn package(&self, key: &TierKey) -> Option<Package> {
        self.tiers.get(key)?.current.package
    }

    /// Money of packages that are needed no more.
    pub(in crate::app) fn coming_back(&self, account: &AccountId) -> Result<Nanos, StoreError> {
        let own = self.tiers.values().map(|tier| &tier.current);
        own.filter(|tier| tier.key.account == *account).try_fold(Nanos::ZERO, |total, tier| {
            let more = worth(tier.package, tier.units);
            sum(total, more, "money of packages", account)
        })
    }

    /// Whether units are bought by the package there.
    pub(in crate::app) fn is_packaged(&self, key: &TierKey) -> bool {
        self.package(key).is_some()
    }

    /// What would come back besides, were so many held units released.
    pub(in crate::app) fn worth_of(&self, key: &TierKey, held: u64) -> Nanos {
        let Some(tier) = self.tiers.get(key) else { return Nanos::ZERO };
        let (units, package) = (tier.current.units, tier.current.package);
        let after = units.release(held).map_or(Nanos::ZERO, |after| worth(package, after));
        after.checked_sub(worth(package, units)).unwrap_or(Nanos::ZERO)
    }

    /// Gives packages back that are needed no more, the newest first.
    pub(super) async fn give_packages_back(
        &mut self,
        tx: &mut MySqlConnection,
    ) -> Result<(), StoreError> {
        let unneeded = |tier: &Tracked<StoredTier>| {
            let StoredTier { key, units, package } = &tier.current;
            let packages = package.as_ref()?.unneeded(units.room());
            (0 < packages).then(|| (key.clone(), packages))
        };
        let unneeded: Vec<(TierKey, u64)> = self.tiers.values().filter_map(unneeded).collect();
        for (key, packages) in unneeded {
            let mut left = packages;
            let found = billing_record::newest_packages(tx, &key, packages).await?;
            for record in found {
                let id = record.id.clone();
                let record = self.charges.entry(id.clone()).or_insert_with(|| Tracked::new(record));
                let back = record.current.units.minus(record.current.refunded).paid.min(left);
                if 0 < back {
                    self.refund_charge(&id, Split { free: 0, paid: back })?;
                    left = left.saturating_sub(back);
                }
            }
            if 0 < left {
                let TierKey { account, version, month } = &key;
                let key = format!("packages of {account} at {version} in {month}");
                return Err(missing("billing_record", key));
            }
            let package = self.package(&key);
            let units = package.and_then(|package| package.units_of(packages)).unwrap_or(0);
            self.change_total(&key, |total| total.checked_sub(units))?;
        }
        Ok(())
    }

    fn change_total(
        &mut self,
        key: &TierKey,
        change: impl Fn(u64) -> Option<u64>,
    ) -> Result<(), StoreError> {
        let Some(tier) = self.tiers.get_mut(key) else { return Ok(()) };
        let total = change(tier.current.units.total);
        tier.current.units.total =
            total.ok_or_else(|| out_of_range("units of packages", &key.account))?;
        Ok(())
    }
}

/// What the packages of a tier that nobody needs were bought for.
fn worth(package: Option<Package>, units: TierUsage) -> Nanos {
    let back = package.and_then(|package| package.cost(package.unneeded(units.room())));
    back.unwrap_or(Nanos::ZERO)
}
