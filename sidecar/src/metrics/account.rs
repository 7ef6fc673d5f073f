//! Accounts: how often they are looked at and changed, and how many run low.

use metrics::{Unit, counter, describe_gauge, gauge};

use super::{Counter, ServiceLabel, counters, float};

const BALANCE_QUERY: &str = "billing_balance_query_total";
const BALANCE_UPDATE: &str = "billing_balance_update_total";
const BALANCE_LOW: &str = "billing_balance_low_alert";
const FROZEN: &str = "billing_accounts_frozen";
const QUOTA_QUERY: &str = "billing_quota_query_total";
const QUOTA_LOW: &str = "billing_quota_low_alert";

pub(super) const COUNTERS: &[Counter] = &[
    (BALANCE_QUERY, "Times that somebody was told a balance."),
    (BALANCE_UPDATE, "Balances that were changed, by what changed them."),
    (QUOTA_QUERY, "Times that somebody was told what is left of free quotas."),
];

label! {
    /// What changes a balance.
    BalanceUpdate {
        /// Money came for an order.
        Recharge = "recharge",
        /// A charge took money.
        Deduct = "deduct",
        /// An operator.
        Adjustment = "adjustment",
    }
}

/// Balances were changed.
pub fn balance_updated(by: BalanceUpdate, times: u64) {
    counter!(BALANCE_UPDATE, "operation" => by.as_str()).increment(times);
}

/// Somebody was told a balance and what is left of free quotas.
pub fn account_told() {
    counter!(BALANCE_QUERY).increment(1);
    counter!(QUOTA_QUERY).increment(1);
}

/// So many users have had money and have little left.
pub fn balances_low(users: u64) {
    gauge!(BALANCE_LOW).set(float(users));
}

/// So many accounts are frozen.
pub fn accounts_frozen(accounts: u64) {
    gauge!(FROZEN).set(float(accounts));
}

/// So many users have little left of this month's free quota of a service.
pub fn quotas_low(service: &ServiceLabel, users: u64) {
    gauge!(QUOTA_LOW, "service" => service.get()).set(float(users));
}

/// The counters only: before the database was asked, a gauge at 0 would be a claim.
pub(super) fn register() {
    counters(BALANCE_UPDATE, "operation", BalanceUpdate::ALL.iter().map(|by| by.as_str()));
    let _ = (counter!(BALANCE_QUERY), counter!(QUOTA_QUERY));
    describe_gauge!(
        BALANCE_LOW,
        Unit::Count,
        "Users who have had money and whose balance is, with their credit limit, below billing.balance_low_threshold, in the whole database."
    );
    describe_gauge!(
        FROZEN,
        Unit::Count,
        "Accounts that operators have frozen, in the whole database."
    );
    describe_gauge!(
        QUOTA_LOW,
        Unit::Count,
        "Users who have less than billing.quota_low_percent_threshold per cent of this month's free quota left, in the whole database."
    );
}
