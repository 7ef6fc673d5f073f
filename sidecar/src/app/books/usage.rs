//! What a transaction adds to the statistics: the day's usage of each account and service.

use std::collections::BTreeMap;

use farebox_core::grant::Split;
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::money::Nanos;
use sqlx::mysql::MySqlConnection;

use crate::app::books::Books;
use crate::app::books::movement::sum;
use crate::calendar::day_of;
use crate::store::StoreError;
use crate::store::usage_day::{self, Added, Usage};

/// Usage that is not written yet.
#[derive(Debug, Clone, Default)]
pub(super) struct NewUsage(BTreeMap<(AccountId, ServiceName), Usage>);

impl NewUsage {
    pub(super) fn charged(
        &mut self,
        account: &AccountId,
        service: &ServiceName,
        units: Split,
        amount: Nanos,
        owed: Nanos,
    ) -> Result<(), StoreError> {
        let usage = self.0.entry((account.clone(), service.clone())).or_default();
        usage.units = usage.units.plus(units);
        usage.amount = sum(usage.amount, amount, "usage", account)?;
        usage.owed = sum(usage.owed, owed, "owed usage", account)?;
        Ok(())
    }

    pub(super) fn refunded(
        &mut self,
        account: &AccountId,
        service: &ServiceName,
        units: Split,
        amount: Nanos,
    ) -> Result<(), StoreError> {
        let usage = self.0.entry((account.clone(), service.clone())).or_default();
        usage.refunded_units = usage.refunded_units.plus(units);
        usage.refunded = sum(usage.refunded, amount, "refunded usage", account)?;
        Ok(())
    }
}

impl Books {
    /// Writes it under the day of this transaction, by the database's clock in the billing time zone.
    pub(super) async fn store_usage(&mut self, tx: &mut MySqlConnection) -> Result<(), StoreError> {
        let added = self.usage.0.iter();
        let added: Vec<Added<'_>> =
            added.map(|((account, service), &usage)| Added { account, service, usage }).collect();
        usage_day::add(tx, day_of(self.now, self.time_zone), &added).await?;
        self.usage.0.clear();
        Ok(())
    }
}
