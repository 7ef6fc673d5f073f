//! The rules that the rows must keep, as queries that find the rows which do not.
//!
//! Each rule is written once. In its text `[user_id]` stands for "the row is of an account that is checked": one of those
//! that are named, by an index, or any. A rule's rows all belong to one account, so that it can be checked account by account.
//!
//! | file | what it is about |
//! |---|---|
//! | `claims.rs` | M1: what is held, leases, reservations |
//! | `calls.rs` | M2: reservations that were charged, refunds of charges |
//! | `usage.rs` | M3: usage and its billing records |
//! | `ledger.rs` | M5: entries and balances |
//! | `orders.rs` | M6: orders and their refunds |
//! | `prices.rs` | M7: the price book |
//! | `tiers.rs` | M1: units of graduated prices, and of packages |

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Row, raw_sql};

use crate::store::StoreError;
use crate::store::column::bytes_text;
pub use crate::store::user_balance::due::DUE;

mod calls;
mod claims;
mod ledger;
mod orders;
mod prices;
mod tiers;
mod usage;

/// A rule over the rows.
pub(crate) struct Rule {
    pub(crate) id: &'static str,
    /// The rule among all, for metrics and stored results.
    pub(crate) name: &'static str,
    pub(crate) sentence: &'static str,
    /// Counts what is checked.
    count: &'static str,
    /// A text and an account per violation. A list ends after 100 rows: by then the first ones say enough.
    violations: &'static str,
}

/// Whose rows are checked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// Everybody's.
    All,
    /// Those of these accounts.
    Of(&'a [String]),
}

/// A row that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) account: String,
    /// Names the row and says what is wrong with it.
    pub(crate) text: String,
}

/// Every rule.
pub(crate) fn rules() -> impl Iterator<Item = &'static Rule> {
    let money = [claims::RULES, calls::RULES, usage::RULES, ledger::RULES];
    money.into_iter().chain([orders::RULES, prices::RULES, tiers::RULES]).flatten()
}

/// Counts what a rule covers and names what breaks it.
///
/// The statements are sent as text: there are many of them, and prepared ones would push those of the traffic out of the
/// connection's cache.
pub(crate) async fn check(
    connection: &mut MySqlConnection,
    rule: &Rule,
    scope: Scope<'_>,
) -> Result<(u64, Vec<Violation>), StoreError> {
    let count = raw_sql(AssertSqlSafe(statement(rule.count, scope)));
    let checked: i64 = count.fetch_one(&mut *connection).await?.try_get(0)?;
    let violations = raw_sql(AssertSqlSafe(statement(rule.violations, scope)));
    let rows = violations.fetch_all(connection).await?;
    let violations = rows.iter().map(|row| {
        let (text, account) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Violation { account, text })
    });
    Ok((checked.unsigned_abs(), violations.collect::<Result<_, StoreError>>()?))
}

/// The statements of every rule for these accounts, for those who want to know how the database executes them.
pub fn statements(accounts: &[String]) -> Vec<(&'static str, String)> {
    let of = |rule: &'static Rule| {
        [rule.count, rule.violations].map(|text| (rule.name, statement(text, Scope::Of(accounts))))
    };
    rules().flat_map(of).collect()
}

/// A rule's text for a scope.
fn statement(text: &str, scope: Scope<'_>) -> String {
    let mut parts = text.split('[');
    let mut sql = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (column, rest) = part.split_once(']').unwrap_or((part, ""));
        sql.push_str(&filter(column, scope));
        sql.push_str(rest);
    }
    sql
}

fn filter(column: &str, scope: Scope<'_>) -> String {
    match scope {
        Scope::All => "TRUE".to_owned(),
        Scope::Of([]) => "FALSE".to_owned(),
        Scope::Of(accounts) => {
            let accounts: Vec<String> = accounts.iter().map(|account| literal(account)).collect();
            format!("{column} IN ({})", accounts.join(", "))
        }
    }
}

/// A text as a constant that is nothing but digits, whatever stands in it.
fn literal(text: &str) -> String {
    format!("_utf8mb4 X'{}' COLLATE utf8mb4_bin", bytes_text(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_rule_is_one_text_for_everybody_and_for_some() {
        let text =
            "SELECT a FROM lease WHERE [lease.user_id] AND b IN (SELECT c FROM d WHERE [user_id])";
        let sql = |scope| statement(text, scope);
        let all = "SELECT a FROM lease WHERE TRUE AND b IN (SELECT c FROM d WHERE TRUE)";
        assert_eq!(sql(Scope::All), all);
        let some = ["u'", "v"].map(str::to_owned);
        let (u, v) = ("_utf8mb4 X'7527' COLLATE utf8mb4_bin", "_utf8mb4 X'76' COLLATE utf8mb4_bin");
        assert_eq!(
            sql(Scope::Of(&some)),
            format!(
                "SELECT a FROM lease WHERE lease.user_id IN ({u}, {v}) AND b IN (SELECT c FROM d WHERE user_id IN ({u}, {v}))"
            )
        );
        assert!(sql(Scope::Of(&[])).contains("WHERE FALSE AND"));
    }

    #[test]
    fn every_rule_has_a_name_of_its_own_and_can_be_asked_of_some_accounts() {
        let names: BTreeSet<&str> = rules().map(|rule| rule.name).collect();
        assert_eq!((names.len(), rules().count()), (38, 38));
        for rule in rules() {
            assert!(rule.name.starts_with(&rule.id.to_lowercase()), "{}", rule.name);
            for text in [rule.count, rule.violations] {
                // Every FROM of a table has its filter, or is reached through the rows of one that has.
                assert!(text.contains("user_id]"), "{}: {text}", rule.name);
            }
        }
    }
}
