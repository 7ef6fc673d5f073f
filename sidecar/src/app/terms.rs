//! At which price a call, a want or a journal line is served.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::mysql::MySqlConnection;

use farebox_core::id::ServiceName;
use farebox_core::money::Nanos;
use farebox_core::package::Package;
use farebox_core::tariff;
use farebox_core::wire::LeaseKey;

use crate::app::books::{TierSize, tier_key};
use crate::store::StoreError;
use crate::store::column::OnCorrupt;
use crate::store::free_quota::QuotaKey;
use crate::store::price_version::{self, Lock, PriceVersion, Wanted};
use crate::store::tier_usage::TierKey;

/// What a unit costs, and the version that says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct UnitPrice {
    /// Price per unit; `None` when the service has none.
    pub(super) price: Option<Nanos>,
    pub(super) version: Option<i64>,
}

/// A run of paid units at one price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tier {
    pub(super) price: Nanos,
    pub(super) version: Option<i64>,
    /// How many units of a month it covers; `None` for all that follow.
    pub(super) units: Option<u64>,
}

impl Tier {
    pub(super) fn unit_price(&self) -> UnitPrice {
        UnitPrice { price: Some(self.price), version: self.version }
    }
}

/// The price that holds for a key at the moment of a transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// In the order in which they are used; none when the service has no price.
    pub(super) tiers: Vec<Tier>,
    /// What is bought when the only tier has no room for paid units; there they cost nothing.
    pub(super) package: Option<Package>,
    /// Until when.
    pub(super) until: Option<DateTime<Utc>>,
}

impl Terms {
    fn of(version: &PriceVersion) -> Self {
        let tiers = version.tariff.tiers().iter().zip(&version.ids);
        let mut from = 0;
        let tier = |(&tariff::Tier { up_to, price }, &id): (&tariff::Tier, &i64)| {
            let units = up_to.map(|up_to| up_to.saturating_sub(from));
            from = up_to.unwrap_or(from);
            Tier { price, version: Some(id), units }
        };
        let tiers = tiers.map(tier).collect();
        let package = version.tariff.package();
        let of_package = |&id: &i64| Tier { price: Nanos::ZERO, version: Some(id), units: Some(0) };
        let tiers = match package {
            Some(_) => version.ids.iter().map(of_package).collect(),
            None => tiers,
        };
        Self { tiers, package, until: version.effective_to }
    }

    /// One price for any number of units.
    pub(super) fn flat(price: Nanos, version: Option<i64>) -> Self {
        Self { tiers: vec![Tier { price, version, units: None }], ..Self::default() }
    }

    /// What units cost that cost nothing else: free ones, and those without a price.
    pub(super) fn first(&self) -> UnitPrice {
        self.tiers.first().map_or_else(UnitPrice::default, Tier::unit_price)
    }

    /// Which of its tiers a price version is.
    pub(super) fn tier_of(&self, version: Option<i64>) -> Option<usize> {
        self.tiers.iter().position(|tier| tier.version == version)
    }

    /// The tiers that have an end, as an account's rows count them, and how they begin.
    pub(super) fn counted(&self, quota: &QuotaKey) -> impl Iterator<Item = (TierKey, TierSize)> {
        let size = |total| TierSize { total, package: self.package };
        let counted = move |tier: &Tier| Some((tier_key(quota, tier.version?), size(tier.units?)));
        self.tiers.iter().filter_map(counted)
    }
}

/// The prices that one transaction needs.
#[derive(Debug, Clone)]
pub(super) struct PriceList {
    now: DateTime<Utc>,
    /// What holds and what is to come, of everybody and of the accounts that the list was loaded for.
    book: BTreeMap<ServiceName, Vec<PriceVersion>>,
    routes: BTreeMap<(ServiceName, Nanos), i64>,
}

impl PriceList {
    /// Loads the book, and the versions of the prices that the keys themselves name.
    pub(super) async fn load(
        tx: &mut MySqlConnection,
        now: DateTime<Utc>,
        keys: &[&LeaseKey],
        on_corrupt: OnCorrupt,
    ) -> Result<Self, StoreError> {
        let mut list = Self::peek(tx, now, keys, on_corrupt).await?;
        for key in keys {
            let Some(price) = key.price else { continue };
            if let Entry::Vacant(place) = list.routes.entry((key.service.clone(), price)) {
                place.insert(price_version::route(tx, &key.service, price).await?);
            }
        }
        Ok(list)
    }

    /// Loads the book alone, for prices that are only told.
    pub(super) async fn peek(
        tx: &mut MySqlConnection,
        now: DateTime<Utc>,
        keys: &[&LeaseKey],
        on_corrupt: OnCorrupt,
    ) -> Result<Self, StoreError> {
        let of_book = keys.iter().filter(|key| key.price.is_none());
        let wanted: BTreeSet<Wanted<'_>> = of_book
            .flat_map(|LeaseKey { account, service, .. }| {
                ["", account.as_str()].map(|account| Wanted { service, account })
            })
            .collect();
        let mut book: BTreeMap<ServiceName, Vec<PriceVersion>> = BTreeMap::new();
        for version in price_version::book_of(tx, &wanted, now, on_corrupt).await? {
            book.entry(version.service.clone()).or_default().push(version);
        }
        Ok(Self { now, book, routes: BTreeMap::new() })
    }

    /// Makes sure that the terms of a lease that is about to be made stay as they are until it is written: whoever changes
    /// them afterwards sees the lease, and bounds it. When somebody was faster, the transaction is to be tried again.
    pub(super) async fn hold_still(
        &self,
        tx: &mut MySqlConnection,
        key: &LeaseKey,
    ) -> Result<(), StoreError> {
        if key.price.is_some() {
            return Ok(());
        }
        let LeaseKey { account, service, .. } = key;
        let versions = price_version::lock(tx, account, service, self.now, Lock::Share).await?;
        let book = BTreeMap::from([(service.clone(), versions)]);
        let fresh = Self { now: self.now, book, routes: BTreeMap::new() };
        if fresh.terms(key) == self.terms(key) {
            Ok(())
        } else {
            Err(StoreError::Raced { table: "price_version" })
        }
    }

    /// The terms for a key that the list was loaded for: a price of its own, the account's price, or everybody's.
    pub(super) fn terms(&self, key: &LeaseKey) -> Terms {
        let Some(price) = key.price else { return self.of_book(key) };
        Terms::flat(price, self.routes.get(&(key.service.clone(), price)).copied())
    }

    fn of_book(&self, LeaseKey { account, service, .. }: &LeaseKey) -> Terms {
        let versions = || self.book.get(service).into_iter().flatten();
        let own = || versions().filter(|version| version.account.as_ref() == Some(account));
        // Later versions stand above earlier ones.
        if let Some(version) = own().rfind(|version| version.holds(self.now)) {
            return Terms::of(version);
        }
        let everybodys =
            versions().rfind(|version| version.account.is_none() && version.holds(self.now));
        let terms = everybodys.map_or_else(Terms::default, Terms::of);
        let begins = own().filter(|version| version.ever_holds()).map(|own| own.effective_from);
        Terms { until: begins.chain(terms.until).min(), ..terms }
    }
}
