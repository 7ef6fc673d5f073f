//! Orders that the predecessor's first versions kept in Redis alone: `recharge:order:{id}`, JSON `{"user_id", "amount"}`,
//! seven days. They become pending orders like all others, and are settled once.

use farebox_core::id::AccountId;
use farebox_core::money::Nanos;
use farebox_core::order::{self, ID_BYTES_MAX, State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::create::is_own_id;
use crate::app::App;
use crate::cache::CacheAway;
use crate::metrics;
use crate::store;
use crate::store::StoreError;
use crate::store::recharge_order::{self, NewOrder, Source};
use crate::store::retry::retry;

/// Where an order was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    /// It stands in the database now.
    Imported,
    /// There is no such order.
    Absent,
    /// Nobody knows.
    Away,
}

/// What an import of all orders did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// Orders that stand in the database from now on.
    pub imported: u64,
    /// Orders that stood there already.
    pub known: u64,
    /// Keys that hold no order that could be read; they stay in Redis.
    pub unreadable: Vec<String>,
}

/// Why an import did not end.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is nothing to import from.
    #[error(
        "data.redis is not configured; name the redis that billing-service used, and run the import again"
    )]
    NoRedis,
    /// Nothing was imported, or not everything; run it again.
    #[error("redis does not answer: {0}; start it, check data.redis, and run the import again")]
    Redis(#[from] CacheAway),
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The predecessor's JSON. Its ids were text or numbers, its amounts floats, printed in the shortest way.
#[derive(Deserialize)]
struct LegacyOrder<'a> {
    #[serde(borrow, alias = "userId", alias = "uid")]
    user_id: &'a RawValue,
    #[serde(borrow)]
    amount: &'a RawValue,
}

/// Looks for an order in Redis and writes it into the database as a pending one.
pub(super) async fn import(app: &App, order_id: &str) -> Result<Lookup, StoreError> {
    if is_own_id(order_id) || ID_BYTES_MAX < order_id.len() {
        return Ok(Lookup::Absent);
    }
    let text = match app.cache.legacy_order(order_id).await {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(Lookup::Absent),
        Err(err) => {
            tracing::warn!(order.id = order_id, error = %err, "an order was looked for in vain");
            return Ok(Lookup::Away);
        }
    };
    match write(app, order_id, &text).await? {
        Some(is_new) => {
            if is_new {
                tracing::info!(order.id = order_id, "an order of the predecessor was imported");
            }
            Ok(Lookup::Imported)
        }
        None => Ok(Lookup::Absent),
    }
}

/// Imports every order, and removes from Redis what stands in the database.
pub(in crate::app) async fn import_all(app: &App) -> Result<ImportReport, ImportError> {
    if app.cache.is_off() {
        return Err(ImportError::NoRedis);
    }
    let mut report = ImportReport::default();
    let mut cursor = 0;
    loop {
        let (next, orders) = app.cache.legacy_orders(cursor).await?;
        for (order_id, text) in orders {
            let written = if ID_BYTES_MAX < order_id.len() {
                None
            } else {
                write(app, &order_id, &text).await?
            };
            match written {
                Some(is_new) => {
                    report.imported += u64::from(is_new);
                    report.known += u64::from(!is_new);
                    app.cache.forget_legacy_order(&order_id).await?;
                }
                None => report.unreadable.push(order_id),
            }
        }
        if next == 0 {
            report.unreadable.sort();
            report.unreadable.dedup();
            return Ok(report);
        }
        cursor = next;
    }
}

/// Writes an order; whether it is new there. `None` when the text is none that can be read.
async fn write(app: &App, order_id: &str, text: &str) -> Result<Option<bool>, StoreError> {
    let Some((account, amount)) = read(text, app.settings.currency_decimals) else {
        tracing::error!(order.id = order_id, "an order in redis cannot be read: credit it by hand");
        return Ok(None);
    };
    let new = NewOrder {
        order_id,
        account: &account,
        amount,
        currency: &app.settings.currency,
        method: None,
        source: Source::Redis,
        key: None,
        ask_after: order::FIRST_ASKED_AFTER,
    };
    let is_new = retry("import an order", || async {
        let mut tx = app.store.begin().await?;
        let outcome = recharge_order::insert(&mut tx, &new).await;
        store::finish(tx, outcome).await
    })
    .await?;
    if is_new {
        metrics::order(State::Pending);
    }
    Ok(Some(is_new))
}

fn read(text: &str, decimals: u32) -> Option<(AccountId, Nanos)> {
    let order: LegacyOrder<'_> = serde_json::from_str(text).ok()?;
    let account = unquoted(order.user_id)?.parse().ok()?;
    let amount: Nanos = unquoted(order.amount)?.parse().ok()?;
    let is_payable = Nanos::ZERO < amount && order::minor_units(amount, decimals).is_ok();
    is_payable.then_some((account, amount))
}

/// The content of a JSON string, or the digits of a number as they stand there.
fn unquoted(value: &RawValue) -> Option<String> {
    let text = value.get();
    if text.starts_with('"') {
        return serde_json::from_str(text).ok();
    }
    let is_number = text.starts_with(|first: char| first.is_ascii_digit() || first == '-');
    is_number.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_predecessors_orders_are_read_exactly_or_not_at_all() {
        let read = |text| read(text, 2).map(|(user, amount)| format!("{user} {amount}"));
        for (text, expected) in [
            (r#"{"user_id":"u1","amount":100}"#, Some("u1 100")),
            (r#"{"user_id":"u1","amount":19.99}"#, Some("u1 19.99")),
            (r#"{"user_id":7,"amount":0.29,"created_at":"x"}"#, Some("7 0.29")),
            (r#"{"uid":"u1","amount":"5.50"}"#, Some("u1 5.5")),
            (r#"{"user_id":"u1","amount":0.30000000000000004}"#, None),
            (r#"{"user_id":"u1","amount":0.001}"#, None),
            (r#"{"user_id":"u1","amount":0}"#, None),
            (r#"{"user_id":"u1","amount":-5}"#, None),
            (r#"{"user_id":"u1","amount":1e2}"#, None),
            (r#"{"user_id":null,"amount":1}"#, None),
            (r#"{"user_id":"","amount":1}"#, None),
            (r#"{"amount":1}"#, None),
            ("100", None),
            ("", None),
        ] {
            assert_eq!(read(text).as_deref(), expected, "{text}");
        }
    }
}
