//! The use cases: load, let the core decide, store. No SQL stands here and no HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::money::Nanos;
use farebox_core::wire::SyncRequest;

pub use crate::app::account::{AccountView, FreeQuotaView, RecordView};
pub use crate::app::credit::{Credit, CreditError, CreditOutcome};
pub use crate::app::invariants::Invariant;
pub use crate::app::prices::PriceView;
pub use crate::app::sync::SyncError;
pub use crate::store::NotReady;
use crate::store::{Store, StoreError};

mod account;
mod books;
mod credit;
mod invariants;
mod prices;
mod reclaim;
mod sync;

/// What the operator decided, as far as the use cases need it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The currency of new accounts, ISO 4217.
    pub currency: String,
    /// Where months begin and end.
    pub time_zone: chrono_tz::Tz,
    /// Free units per month, by service.
    pub free_quotas: BTreeMap<ServiceName, u64>,
    /// The price book: money per unit, by service.
    pub prices: BTreeMap<ServiceName, Nanos>,
    /// How long a gateway may spend from a lease without hearing from the sidecar.
    pub lease_ttl: Duration,
    /// How long the leases of a gateway's earlier processes stand after a new process of it appeared.
    pub boot_grace: Duration,
}

impl Settings {
    /// Whether the operator priced the service or gave it a free quota. Nothing else is served: nothing is free by mistake.
    fn is_metered(&self, service: &ServiceName) -> bool {
        self.prices.contains_key(service) || self.free_quotas.contains_key(service)
    }
}

/// The use cases on one database.
#[derive(Debug, Clone)]
pub struct App {
    store: Store,
    settings: Arc<Settings>,
    /// This process among those that share the database, for jobs that one of them does.
    owner: Arc<str>,
}

impl App {
    /// The use cases on `store`.
    pub fn new(store: Store, settings: Settings) -> Self {
        Self { store, settings: Arc::new(settings), owner: books::new_id().into() }
    }

    /// Brings the price book in line with the settings; the number of prices that changed.
    pub async fn seed_prices(&self) -> Result<usize, StoreError> {
        prices::seed(self).await
    }

    /// Takes a gateway's message in and gives the reply's JSON, byte for byte the same for a repeated message.
    pub async fn sync(&self, request: &SyncRequest, body: &[u8]) -> Result<String, SyncError> {
        sync::run(self, request, body).await
    }

    /// What an account has; `None` when there is no such account.
    pub async fn account(&self, account: &AccountId) -> Result<Option<AccountView>, StoreError> {
        account::view(self, account).await
    }

    /// Adds money to an account, or takes some that is free; once per key.
    pub async fn credit(&self, credit: &Credit) -> Result<CreditOutcome, CreditError> {
        credit::run(self, credit).await
    }

    /// The price versions, the current ones first.
    pub async fn prices(&self) -> Result<Vec<PriceView>, StoreError> {
        prices::view(self).await
    }

    /// Checks the books on one consistent snapshot.
    pub async fn invariants(&self) -> Result<Vec<Invariant>, StoreError> {
        invariants::check(self).await
    }

    /// Whether requests can be answered: the database is reachable and has every migration.
    pub async fn ready(&self) -> Result<(), NotReady> {
        self.store.ready().await
    }

    /// Takes back the leases of gateways that fell silent; how many. Does nothing while another sidecar does it.
    pub async fn reclaim(&self) -> Result<u64, StoreError> {
        reclaim::leases(self).await
    }

    /// Deletes stored replies that no gateway asks for any more; how many. Does nothing while another sidecar does it.
    pub async fn purge(&self) -> Result<u64, StoreError> {
        reclaim::replies(self).await
    }
}

/// A moment as views show it.
fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
