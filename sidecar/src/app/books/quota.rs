//! Free quotas: rows that were made ahead come into use, and totals that operators change.

use std::collections::BTreeSet;

use super::Books;
use crate::app::Settings;
use crate::store::StoreError;
use crate::store::free_quota::{Quota, QuotaKey};

/// Another total of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::app) struct NewTotal {
    pub(in crate::app) before: u64,
    pub(in crate::app) after: u64,
    /// Units beyond what was to be the total are used or held.
    pub(in crate::app) is_cut_short: bool,
}

/// A quota of which nothing is used.
pub(super) fn new(key: &QuotaKey, total: u64) -> Quota {
    Quota { key: key.clone(), total, used: 0, held: 0, fence: 0, prepared: false }
}

impl Books {
    /// Gives rows that were made ahead the units that are in force now, as if they were created now.
    pub(super) fn begin_prepared(&mut self, keys: &BTreeSet<QuotaKey>, settings: &Settings) {
        for key in keys {
            let row = self.quotas.get_mut(key).map(|row| &mut row.current);
            if let Some(quota) = row.filter(|quota| quota.is_prepared()) {
                quota.total = settings.free_quotas.get(&key.service).copied().unwrap_or(0);
                quota.prepared = false;
            }
        }
    }

    /// Sets a quota's total, never below what is used and held; `None` when it is that already, or there is no such quota.
    pub(in crate::app) fn set_total(
        &mut self,
        key: &QuotaKey,
        total: u64,
    ) -> Result<Option<NewTotal>, StoreError> {
        let Some(quota) = self.quota(key) else { return Ok(None) };
        let change = new_total(quota, total);
        if let Some(change) = change {
            self.quota_mut(key)?.total = change.after;
        }
        Ok(change)
    }
}

/// What setting a total comes to. A row that counts as none gets its total when it comes into use.
pub(in crate::app) fn new_total(quota: &Quota, total: u64) -> Option<NewTotal> {
    let spoken_for = quota.used.saturating_add(quota.held);
    let after = total.max(spoken_for);
    let change = NewTotal { before: quota.total, after, is_cut_short: total < after };
    (!quota.is_prepared() && after != quota.total).then_some(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_never_set_below_what_is_used_and_held() {
        let quota = |total, used, held, prepared| {
            let (account, service) = ("u".parse().unwrap(), "asset".parse().unwrap());
            let key = QuotaKey { account, service, month: "2026-11".to_owned() };
            Quota { used, held, prepared, ..new(&key, total) }
        };
        let told = |quota, total| {
            let change = new_total(&quota, total);
            change.map(|NewTotal { before, after, is_cut_short }| (before, after, is_cut_short))
        };
        assert_eq!(told(quota(10, 4, 2, false), 20), Some((10, 20, false)));
        assert_eq!(told(quota(10, 4, 2, false), 6), Some((10, 6, false)));
        assert_eq!(told(quota(10, 4, 2, false), 5), Some((10, 6, true)));
        assert_eq!(told(quota(6, 4, 2, false), 5), None, "no more can be taken away");
        assert_eq!(told(quota(10, 4, 2, false), 10), None);
        assert_eq!(told(quota(10, 0, 0, true), 20), None, "it counts as none");
        assert_eq!(told(quota(10, 1, 0, true), 20), Some((10, 20, false)));
    }
}
