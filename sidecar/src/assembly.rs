//! From a configuration to the use cases, with what stands beside the database. Nothing is connected to yet.

use crate::app::App;
use crate::cache::{Cache, CacheError};
use crate::config::Config;
use crate::payment::{PaymentClient, PaymentSettingsError};
use crate::store::Store;

/// Why the use cases cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    /// The Redis settings cannot be used; a Redis that is merely away is no error.
    #[error("data.redis.addr cannot be used: {0}")]
    Redis(#[from] CacheError),
    /// The payment service's settings cannot be used; one that is merely away is no error.
    #[error(transparent)]
    Payment(#[from] PaymentSettingsError),
}

/// The use cases on `store`, and the cache that they look into.
pub(crate) fn assemble(config: &Config, store: Store) -> Result<(App, Cache), AssemblyError> {
    let cache = Cache::open(config.redis.as_ref())?;
    let app = App::new(store, config.settings()).with_cache(cache.clone());
    let app = match &config.payment {
        Some(settings) => app.with_payment(PaymentClient::new(settings)?),
        None => app,
    };
    Ok((app, cache))
}
