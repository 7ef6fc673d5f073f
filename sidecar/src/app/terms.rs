//! At which price a call, a want or a journal line is served.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::mysql::MySqlConnection;

use farebox_core::id::ServiceName;
use farebox_core::money::Nanos;
use farebox_core::wire::LeaseKey;

use crate::store::StoreError;
use crate::store::column::OnCorrupt;
use crate::store::price_version::{self, PriceVersion};

/// The price that holds for a key at the moment of a transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// Price per unit; `None` when the service has none.
    pub(super) price: Option<Nanos>,
    pub(super) price_version: Option<i64>,
    /// Until when.
    pub(super) until: Option<DateTime<Utc>>,
}

/// The prices that one transaction needs.
#[derive(Debug, Clone)]
pub(super) struct PriceList {
    book: BTreeMap<ServiceName, PriceVersion>,
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
        let services: BTreeSet<&ServiceName> =
            keys.iter().filter(|key| key.price.is_none()).map(|key| &key.service).collect();
        let versions = if services.is_empty() {
            Vec::new()
        } else {
            price_version::book_of(tx, &services, now, on_corrupt).await?
        };
        // Later versions replace earlier ones of the same service.
        let book = versions.into_iter().map(|version| (version.service.clone(), version)).collect();
        Ok(Self { book, routes: BTreeMap::new() })
    }

    /// The terms for a key that the list was loaded for.
    pub(super) fn terms(&self, key: &LeaseKey) -> Terms {
        match key.price {
            Some(price) => Terms {
                price: Some(price),
                price_version: self.routes.get(&(key.service.clone(), price)).copied(),
                until: None,
            },
            None => self.book.get(&key.service).map_or_else(Terms::default, |version| Terms {
                price: Some(version.price),
                price_version: Some(version.id),
                until: version.effective_to,
            }),
        }
    }
}
