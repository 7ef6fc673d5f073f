//! Paid units of graduated prices and of packages: each counts in its tier while it is held and once it is charged.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::mysql::MySqlConnection;

use farebox_core::package::Package;
use farebox_core::tier::TierUsage;

use crate::app::books::{Books, Tracked, out_of_range};
use crate::store::StoreError;
use crate::store::free_quota::QuotaKey;
use crate::store::tier_usage::{self, NewTier, StoredTier, TierChange, TierKey};

/// What a tier of an account that never used it begins with.
#[derive(Debug, Clone, Copy)]
pub(in crate::app) struct TierSize {
    /// Units; none where they are bought by the package.
    pub(in crate::app) total: u64,
    pub(in crate::app) package: Option<Package>,
}

/// The tier that paid units at this price version count in, if it has an end.
pub(in crate::app) fn tier_key(quota: &QuotaKey, version: i64) -> TierKey {
    let QuotaKey { account, month, .. } = quota;
    TierKey { account: account.clone(), version, month: month.clone() }
}

impl Books {
    /// Loads tiers as far as they exist.
    pub(in crate::app) async fn load_tiers(
        &mut self,
        tx: &mut MySqlConnection,
        keys: BTreeSet<TierKey>,
    ) -> Result<(), StoreError> {
        let missing: Vec<&TierKey> =
            keys.iter().filter(|key| !self.tiers.contains_key(*key)).collect();
        for tier in tier_usage::find(tx, &missing, self.on_corrupt).await? {
            self.tiers.insert(tier.key.clone(), Tracked::new(tier));
        }
        Ok(())
    }

    /// Loads tiers of locked accounts, and creates those that do not exist.
    pub(in crate::app) async fn load_or_create_tiers(
        &mut self,
        tx: &mut MySqlConnection,
        wanted: BTreeMap<TierKey, TierSize>,
    ) -> Result<(), StoreError> {
        self.load_tiers(tx, wanted.keys().cloned().collect()).await?;
        let new = wanted.iter().filter(|(key, _)| {
            !self.tiers.contains_key(*key) && self.balances.contains_key(&key.account)
        });
        let new: Vec<NewTier<'_>> =
            new.map(|(key, size)| NewTier { key, total: size.total }).collect();
        tier_usage::create(tx, &new).await?;
        for NewTier { key, total } in new {
            self.touched.insert(key.account.clone());
            let units = TierUsage { total, ..TierUsage::default() };
            let package = wanted.get(key).and_then(|size| size.package);
            let tier = StoredTier { key: key.clone(), units, package };
            self.tiers.insert(key.clone(), Tracked::new(tier));
        }
        Ok(())
    }

    /// How many more units a tier has room for; `total` when none of it was ever used. Packages that are needed no more are
    /// money.
    pub(in crate::app) fn room(&self, key: &TierKey, total: u64) -> u64 {
        let Some(tier) = self.tiers.get(key) else { return total };
        let StoredTier { units, package, .. } = &tier.current;
        package.map_or(units.room(), |package| package.left_over(units.room()))
    }

    /// Changes the tier that paid units at this price version count in, if they do.
    pub(super) fn change_tier(
        &mut self,
        quota: &QuotaKey,
        version: Option<i64>,
        change: impl Fn(TierUsage) -> Option<TierUsage>,
    ) -> Result<(), StoreError> {
        let Some(version) = version else { return Ok(()) };
        let Some(tier) = self.tiers.get_mut(&tier_key(quota, version)) else { return Ok(()) };
        let units = change(tier.current.units);
        tier.current.units =
            units.ok_or_else(|| out_of_range("units of a tier", &quota.account))?;
        Ok(())
    }

    pub(super) async fn store_tiers(&mut self, tx: &mut MySqlConnection) -> Result<(), StoreError> {
        let changes: Vec<TierChange<'_>> = self
            .tiers
            .values()
            .filter(|tier| tier.is_changed())
            .map(|Tracked { stored, current }| {
                let more = |new: u64, old: u64| new.wrapping_sub(old).cast_signed();
                TierChange {
                    key: &current.key,
                    total: more(current.units.total, stored.units.total),
                    used: more(current.units.used, stored.units.used),
                    held: more(current.units.held, stored.units.held),
                    late: more(current.units.late, stored.units.late),
                }
            })
            .collect();
        tier_usage::update(tx, &changes).await?;
        self.tiers.values_mut().filter(|tier| tier.is_changed()).for_each(Tracked::saved);
        Ok(())
    }
}
