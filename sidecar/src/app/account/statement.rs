//! A user's statement of a month: what there was, what moved, what there is. It adds up.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::NaiveDate;
use farebox_core::id::AccountId;
use farebox_core::money::Nanos;
use serde::Serialize;

use super::ViewError;
use crate::app::{App, rfc3339};
use crate::calendar::{day_of, days_of_month, start_of};
use crate::store::statement::{self, Movement};
use crate::store::{self, StoreError, user_balance};

/// A statement. `opening` and the movements' amounts add up to `closing`; the closing of a month is the opening of the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct StatementView {
    /// Whose.
    pub user_id: String,
    /// The month, `YYYY-MM`, in the billing time zone.
    pub month: String,
    /// When it begins, RFC 3339.
    pub from: String,
    /// When it ends. Until then the statement is preliminary.
    pub to: String,
    /// Of all amounts, ISO 4217.
    pub currency: String,
    /// The balance when the month began.
    pub opening: Nanos,
    /// What moved the balance, by day, kind and service.
    pub movements: Vec<MovementView>,
    /// The balance when the month ended, or now.
    pub closing: Nanos,
}

/// Movements of one day, kind and service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct MovementView {
    /// The day, `YYYY-MM-DD`, in the billing time zone.
    pub day: String,
    /// `charge`, `charge_refund`, `recharge`, `refund` (of an order), `refund_reversal`, `adjustment`, `collection` (of what
    /// was owed) or `opening` (what billing-service left).
    pub kind: String,
    /// What was charged or given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// How many movements.
    pub count: u64,
    /// Positive for money that came, negative for money that went.
    pub amount: Nanos,
}

pub(in crate::app) async fn of_month(
    app: &App,
    account: &AccountId,
    month: &str,
) -> Result<StatementView, ViewError> {
    let zone = app.settings.time_zone;
    let days = days_of_month(month).ok_or_else(|| ViewError::Month { month: month.to_owned() })?;
    let (from, to) = (start_of(days.0, zone), start_of(days.1, zone));
    let mut connection = app.store.acquire().await?;
    let mut tx = store::begin_snapshot(&mut connection).await?;
    let balance = user_balance::find(&mut tx, account).await?;
    let newest = balance.as_ref().map_or(0, |balance| balance.entry_seq);
    let first = statement::first_at(&mut tx, account, newest, from).await?;
    let end = statement::first_at(&mut tx, account, newest, to).await?;
    let opening = statement::balance_after(&mut tx, account, first - 1).await?;
    let closing = statement::balance_after(&mut tx, account, end - 1).await?;
    let moved = statement::movements(&mut tx, account, first, end).await?;
    // Nothing was written: only the snapshot ends.
    tx.rollback().await.map_err(StoreError::from)?;
    let movements = by_day(moved, |movement| day_of(movement.begins_at, zone));
    Ok(StatementView {
        user_id: account.to_string(),
        month: month.to_owned(),
        from: rfc3339(from),
        to: rfc3339(to),
        currency: balance.map_or_else(|| app.settings.currency.clone(), |balance| balance.currency),
        opening,
        movements: movements.ok_or_else(|| corrupt(account))?,
        closing,
    })
}

fn corrupt(account: &AccountId) -> StoreError {
    StoreError::Corrupt { table: "ledger_entry", column: "amount", key: account.to_string() }
}

/// Movements of a day are one line each kind and service.
fn by_day(
    moved: Vec<Movement>,
    day_of: impl Fn(&Movement) -> NaiveDate,
) -> Option<Vec<MovementView>> {
    let mut sums: BTreeMap<(NaiveDate, String, Option<String>), (u64, Nanos)> = BTreeMap::new();
    for movement in moved {
        let day = day_of(&movement);
        let Movement { kind, service, count, amount, .. } = movement;
        let sum = sums.entry((day, kind, service)).or_default();
        *sum = (sum.0.checked_add(count)?, sum.1.checked_add(amount)?);
    }
    let view = |((day, kind, service), (count, amount)): ((NaiveDate, _, _), _)| MovementView {
        day: day.to_string(),
        kind,
        service,
        count,
        amount,
    };
    Some(sums.into_iter().map(view).collect())
}

impl StatementView {
    /// The statement as a table (RFC 4180): the opening, the movements, the closing.
    pub fn to_csv(&self) -> String {
        let mut text = String::from("day,kind,service,count,amount,currency\r\n");
        let mut line = |day: &str, kind: &str, service: &str, count: &str, amount: Nanos| {
            let service = cell(service);
            let _ = write!(text, "{day},{kind},{service},{count},{amount},{}\r\n", self.currency);
        };
        line(&self.month, "opening_balance", "", "", self.opening);
        for MovementView { day, kind, service, count, amount } in &self.movements {
            let service = service.as_deref().unwrap_or_default();
            line(day, kind, service, &count.to_string(), *amount);
        }
        line(&self.month, "closing_balance", "", "", self.closing);
        text
    }
}

/// A text that no spreadsheet takes for a formula, or for two cells.
fn cell(text: &str) -> String {
    let quoted = text.replace('"', "\"\"");
    match text.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r') => format!("\"'{quoted}\""),
        _ if text.contains([',', '"', '\r', '\n']) => format!("\"{quoted}\""),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_cell_and_no_formula() {
        for (text, expected) in [
            ("asset", "asset"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=1+1", "\"'=1+1\""),
            ("@sum", "\"'@sum\""),
        ] {
            assert_eq!(cell(text), expected);
        }
    }
}
