//! What operators decide about an account, and what follows for those who want to use it.

use sqlx::mysql::MySqlConnection;

use farebox_core::id::AccountId;
use farebox_core::money::Nanos;

use crate::app::books::{Books, out_of_range};
use crate::store::StoreError;
use crate::store::user_balance::{Frozen, control};

impl Books {
    /// What may be spent: the balance that nothing holds, and the credit limit. Packages that are needed no more are as good as
    /// back.
    pub(in crate::app) fn available(&self, account: &AccountId) -> Result<Nanos, StoreError> {
        let coming_back = self.coming_back(account)?;
        let available = self.balance(account)?.available();
        let available = available.and_then(|available| available.checked_add(coming_back));
        available.ok_or_else(|| out_of_range("available balance", account))
    }

    /// The part of [`Self::available`] that is the account's own money. A credit limit is for usage: it pays nobody out.
    pub(in crate::app) fn own_money(&self, account: &AccountId) -> Result<Nanos, StoreError> {
        let own = self.balance(account)?.balance.min(self.available(account)?);
        Ok(own.max(Nanos::ZERO))
    }

    /// How much of its credit limit an account uses or holds: the lowest limit that it can have.
    pub(in crate::app) fn limit_in_use(&self, account: &AccountId) -> Result<Nanos, StoreError> {
        let balance = self.balance(account)?;
        let in_use = balance.held.checked_sub(balance.balance);
        let in_use = in_use.ok_or_else(|| out_of_range("credit limit", account))?;
        Ok(in_use.max(Nanos::ZERO))
    }

    /// Whether nothing of the account may be used, neither money nor free units. What was used is charged all the same.
    pub(in crate::app) fn is_frozen(&self, account: &AccountId) -> Result<bool, StoreError> {
        Ok(self.balance(account)?.frozen.is_some())
    }

    /// Freezes a locked account, or thaws it.
    pub(in crate::app) async fn set_frozen(
        &mut self,
        tx: &mut MySqlConnection,
        account: &AccountId,
        frozen: Option<Frozen>,
    ) -> Result<(), StoreError> {
        control::set_frozen(tx, account, frozen.as_ref()).await?;
        self.balance_mut(account)?.frozen = frozen;
        Ok(())
    }

    /// Sets the credit limit of a locked account.
    pub(in crate::app) async fn set_credit_limit(
        &mut self,
        tx: &mut MySqlConnection,
        account: &AccountId,
        limit: Nanos,
    ) -> Result<(), StoreError> {
        control::set_credit_limit(tx, account, limit).await?;
        self.balance_mut(account)?.credit_limit = limit;
        Ok(())
    }

    /// Asks gateways for what the account's open leases hold unused; how many leases these are.
    pub(in crate::app) fn recall_leases(
        &mut self,
        account: &AccountId,
    ) -> Result<usize, StoreError> {
        let leases: Vec<u64> = self.open_leases(account).map(|lease| lease.id).collect();
        for &id in &leases {
            self.lease_mut(id)?.recall = true;
        }
        Ok(leases.len())
    }
}
