//! Free quotas of many accounts.
//!
//! | file | what it does |
//! |---|---|
//! | `prepare.rs` | makes the rows of the month to come, ahead of it |
//! | `apply.rs` | sets the current month's totals to what the configuration gives, when an operator says so |

use std::collections::BTreeSet;

use farebox_core::id::ServiceName;

use crate::app::Settings;

pub(super) mod apply;
pub(super) mod prepare;

/// What the settings give of each service that is metered: nothing of those that have a price only.
fn given(settings: &Settings) -> Vec<(&ServiceName, u64)> {
    let services: BTreeSet<&ServiceName> =
        settings.free_quotas.keys().chain(settings.prices.keys()).collect();
    let units = |service| settings.free_quotas.get(service).copied().unwrap_or(0);
    services.into_iter().map(|service| (service, units(service))).collect()
}
