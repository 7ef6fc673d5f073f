//! What must come of the predecessor's rows, said once more and in another way than the program says it.

use std::collections::{BTreeMap, BTreeSet};

use super::predecessor::{Order, Quota, Rows, UNLIMITED, Version};
use crate::database::Database;

/// Our tables as lines of text, sorted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Books {
    accounts: Vec<String>,
    quotas: Vec<String>,
    records: Vec<String>,
    orders: Vec<String>,
    opened: String,
}

/// Hundredths, or what a column has, as nine decimals.
fn nine(value: i64, decimals: usize) -> String {
    let (sign, value) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
    let scale = 10_u64.pow(decimals as u32);
    let zeros = "0".repeat(9 - decimals);
    format!("{sign}{}.{:0decimals$}{zeros}", value / scale, value % scale)
}

fn sorted(lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.into_iter().collect();
    lines.sort();
    lines
}

/// Who a spelling is.
struct Names(BTreeMap<String, String>);

impl Names {
    fn of(rows: &Rows) -> Self {
        let mut names = BTreeMap::new();
        let mut add = |spellings: Vec<&String>| {
            let mut spellings = spellings;
            spellings.sort();
            for spelling in spellings {
                let key = spelling.trim_end().to_lowercase();
                names.entry(key).or_insert_with(|| spelling.trim_end().to_owned());
            }
        };
        add(rows.balances.iter().map(|row| &row.user).collect());
        let limited = rows.quotas.iter().filter(|row| is_limited(row)).map(|row| &row.user);
        add(limited.chain(rows.records.iter().map(|row| &row.user)).collect());
        add(rows.orders.iter().map(|row| &row.user).collect());
        Self(names)
    }

    fn account(&self, spelling: &str) -> String {
        self.0[&spelling.trim_end().to_lowercase()].clone()
    }
}

fn is_limited(quota: &Quota) -> bool {
    quota.total != Some(UNLIMITED)
}

/// An order as it must be.
fn order(row: &Order, names: &Names) -> String {
    let payment =
        row.payment.as_deref().filter(|payment| !payment.is_empty() && *payment != row.id);
    let status = match row.status {
        Some("success") => "paid",
        Some("failed") => "failed",
        _ => "pending",
    };
    let asked = i32::from(status == "pending");
    format!(
        "{} {} {} CNY {} {status} predecessor {asked} NULL",
        row.id,
        names.account(&row.user),
        nine(row.amount, 2),
        payment.unwrap_or("NULL")
    )
}

impl Books {
    pub(crate) fn expected(rows: &Rows, version: Version) -> Self {
        let names = Names::of(rows);
        let mut money: BTreeMap<String, i64> = BTreeMap::new();
        for row in &rows.balances {
            money.insert(names.account(&row.user), row.balance.unwrap_or(0));
        }
        let limited: Vec<&Quota> = rows.quotas.iter().filter(|row| is_limited(row)).collect();
        let users: BTreeSet<&String> = limited
            .iter()
            .map(|row| &row.user)
            .chain(rows.records.iter().map(|row| &row.user))
            .collect();
        for user in users {
            money.entry(names.account(user)).or_insert(0);
        }
        let (mut balance, mut receivable) = (0, 0);
        let accounts = money.iter().map(|(user, cents)| {
            balance += cents.max(&0);
            receivable += (-cents).max(0);
            format!(
                "{user} {} {} 0.000000000 CNY",
                nine(*cents.max(&0), 2),
                nine((-cents).max(0), 2)
            )
        });
        let accounts = sorted(accounts);
        let mut quotas: BTreeMap<(String, &str, &str), (i64, i64)> = BTreeMap::new();
        for row in limited {
            let key = (names.account(&row.user), row.service.as_str(), row.month.as_str());
            let (total, used) = quotas.entry(key).or_default();
            *total = (*total).max(row.total.unwrap_or(0));
            *used += row.used.unwrap_or(0).max(0);
        }
        let quotas = quotas.into_iter().map(|((user, service, month), (total, used))| {
            format!("{user} {service} {month} {total} {} 0", used.min(total))
        });
        let records = rows.records.iter().map(|row| {
            let units = row.count.unwrap_or(1).max(0);
            let (kind, free, paid) =
                if row.is_free { ("free", units, 0) } else { ("balance", 0, units) };
            let app =
                if version.has_apps() && !row.app.is_empty() { row.app.as_str() } else { "NULL" };
            format!(
                "{} {} {} {kind} {} {units} {free} {paid} legacy {app} 2025-12-03 04:05:06.000",
                row.id,
                names.account(&row.user),
                row.service,
                nine(row.amount.unwrap_or(0), 4)
            )
        });
        let orders = rows.orders.iter().map(|row| order(row, &names));
        Self {
            accounts,
            quotas: sorted(quotas),
            records: sorted(records),
            orders: sorted(orders),
            opened: format!("{} {}", nine(balance, 2), nine(receivable, 2)),
        }
    }

    pub(crate) async fn read(database: &Database) -> Self {
        let lines = async |sql: &str| sorted(database.rows(sql).await);
        Self {
            accounts: lines("SELECT user_id, balance, receivable, held, currency FROM user_balance").await,
            quotas: lines("SELECT user_id, service_name, reset_month, total_quota, used_quota, held_quota FROM free_quota").await,
            records: lines("SELECT billing_record_id, user_id, service_name, type, amount, count, free_units, paid_units, source, legacy_app_id, created_at FROM billing_record").await,
            orders: lines("SELECT order_id, user_id, amount, currency, payment_order_id, status, source, ask_at IS NOT NULL, credited_at FROM recharge_order").await,
            opened: lines(
                "SELECT SUM(IF(book = 'user', amount, 0)), -SUM(IF(book = 'receivable', amount, 0)) FROM ledger_entry WHERE kind = 'opening'",
            )
            .await
            .concat(),
        }
    }
}

/// Requires that a database was taken over as the model says, that its books hold, and that the predecessor's rows are
/// still there, aside.
pub(crate) async fn assert_taken_over(database: &Database, rows: &Rows, version: Version) {
    let (found, expected) = (Books::read(database).await, Books::expected(rows, version));
    assert_eq!(found.accounts, expected.accounts);
    assert_eq!(found.quotas, expected.quotas);
    assert_eq!(found.records, expected.records);
    assert_eq!(found.orders, expected.orders);
    assert_eq!(found.opened, expected.opened);
    let aside = "SELECT (SELECT COUNT(*) FROM predecessor_user_balance), (SELECT COUNT(*) FROM predecessor_free_quota),
        (SELECT COUNT(*) FROM predecessor_billing_record), (SELECT COUNT(*) FROM predecessor_recharge_order)";
    let counts = [rows.balances.len(), rows.quotas.len(), rows.records.len(), rows.orders.len()];
    let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
    assert_eq!(database.rows(aside).await, [counts.join(" ")]);
    let audit = "SELECT actor, action FROM audit_log";
    assert_eq!(database.rows(audit).await, ["cli:tester migrate.from_predecessor"]);
}
