//! Rows of the predecessor that mean something else here, or that cannot be taken over at all.

use farebox_core::id::{AccountId, ServiceName};
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Row};

use super::Place;
use crate::store::StoreError;

/// A kind of rows, and what to know about them.
#[derive(Debug)]
pub(crate) struct Doubt {
    /// Its name, for programs.
    pub(crate) id: &'static str,
    pub(crate) meaning: &'static str,
    /// Only where there are apps.
    needs_apps: bool,
    /// Only where there are orders.
    needs_orders: bool,
    /// Names each such row.
    rows: &'static str,
}

/// Rows of such a kind.
#[derive(Debug)]
pub(crate) struct Doubted {
    pub(crate) doubt: &'static Doubt,
    pub(crate) rows: u64,
    pub(crate) examples: Vec<String>,
}

/// How many rows are named.
const EXAMPLES: usize = 5;

const fn of(id: &'static str, meaning: &'static str, rows: &'static str) -> Doubt {
    Doubt { id, meaning, needs_apps: false, needs_orders: false, rows }
}

const fn of_apps(id: &'static str, meaning: &'static str, rows: &'static str) -> Doubt {
    Doubt { id, meaning, needs_apps: true, needs_orders: false, rows }
}

const fn of_orders(id: &'static str, meaning: &'static str, rows: &'static str) -> Doubt {
    Doubt { id, meaning, needs_apps: false, needs_orders: true, rows }
}

/// What means something else.
pub(crate) const CHANGES: &[Doubt] = &[
    of(
        "negative_balance",
        "balances below zero: the account has 0, and owes the rest as a receivable that its next money pays first",
        "SELECT CONCAT(user.[user], ' ', user.balance) FROM [user_balance] AS user WHERE user.balance < 0",
    ),
    of(
        "no_balance",
        "balances that are NULL: nothing was ever paid in, so they are 0",
        "SELECT [user] FROM [user_balance] WHERE balance IS NULL",
    ),
    of(
        "account_added",
        "users with quotas or records and no balance: they get an account with 0",
        "SELECT names.name FROM (
             SELECT [key user] AS name, TRUE AS has_balance FROM [user_balance]
             UNION ALL SELECT [key user], FALSE FROM [free_quota] WHERE NOT [unlimited]
             UNION ALL SELECT [key user], FALSE FROM [billing_record]
           ) AS names
           GROUP BY names.name HAVING MAX(names.has_balance) = 0",
    ),
    of(
        "spelling",
        "users written in several ways that differ in case or in spaces at the end, which were one user: here names are exact, and all of it goes to the spelling in user_balance; have callers use that one",
        "SELECT GROUP_CONCAT(CONCAT('\"', CONVERT(spelled.bytes USING utf8mb4), '\"') ORDER BY spelled.bytes SEPARATOR ' = ')
           FROM (
             SELECT CAST([user] AS BINARY) AS bytes, [key user] AS name FROM [user_balance]
             UNION SELECT CAST([user] AS BINARY), [key user] FROM [free_quota]
             UNION SELECT CAST([user] AS BINARY), [key user] FROM [billing_record]
           ) AS spelled
           GROUP BY spelled.name HAVING COUNT(*) > 1",
    ),
    of(
        "quota_above_total",
        "free quotas with more used than there was: used is the total, what is beyond it is not charged again",
        "SELECT CONCAT([user], ' ', service_name, ' ', reset_month, ': ', used_quota, ' of ', COALESCE(total_quota, 0))
           FROM [free_quota] WHERE NOT [unlimited] AND GREATEST(COALESCE(total_quota, 0), 0) < used_quota",
    ),
    of(
        "quota_without_number",
        "free quotas with a NULL or negative number: it is 0",
        "SELECT CONCAT([user], ' ', service_name, ' ', reset_month) FROM [free_quota]
           WHERE total_quota IS NULL OR used_quota IS NULL OR total_quota < 0 OR used_quota < 0",
    ),
    of_apps(
        "quota_merged",
        "free quotas of several apps of one user, service and month: one quota here, of the largest total, with all that the apps used up to that total",
        "SELECT CONCAT(CONVERT(MIN(CAST([user] AS BINARY)) USING utf8mb4), ' ', MIN(service_name), ' ', reset_month, ': ', COUNT(*), ' apps, used ', SUM(used_quota), ' of ', MAX(total_quota))
           FROM [free_quota] WHERE NOT [unlimited]
           GROUP BY [key user], [exact service_name], reset_month HAVING COUNT(*) > 1",
    ),
    of_apps(
        "quota_unlimited",
        "free quotas of apps that were free: left out, no app is free here; a route with `service: none` is",
        "SELECT CONCAT([user], ' ', app_id, ' ', service_name, ' ', reset_month, ': used ', COALESCE(used_quota, 0))
           FROM [free_quota] WHERE [unlimited]",
    ),
    of_apps(
        "record_app",
        "billing records of an app: its id is kept in billing_record.legacy_app_id",
        "SELECT billing_record_id FROM [billing_record] WHERE app_id <> ''",
    ),
    of(
        "record_negative",
        "billing records with a count below zero, which billing-service let callers send: 0 units here, with the amount as it is",
        "SELECT CONCAT(billing_record_id, ': ', count, ' units, amount ', COALESCE(amount, 0)) FROM [billing_record] WHERE count < 0",
    ),
    of(
        "record_without_number",
        "billing records with a NULL: count 1, amount 0",
        "SELECT billing_record_id FROM [billing_record] WHERE count IS NULL OR amount IS NULL",
    ),
    of_orders(
        "order_pending_old",
        "pending orders older than 7 days: closed by the sidecar once it has asked for them in vain; without a payment service they stay pending",
        "SELECT CONCAT([order], ' of ', [user], ', ', amount) FROM [recharge_order]
           WHERE COALESCE(CAST(status AS CHAR), 'pending') = 'pending' AND created_at < UTC_TIMESTAMP() - INTERVAL 7 DAY",
    ),
    of_orders(
        "order_pending",
        "pending orders of the last 7 days: they can still be paid, and are asked for",
        "SELECT CONCAT([order], ' of ', [user], ', ', amount) FROM [recharge_order]
           WHERE COALESCE(CAST(status AS CHAR), 'pending') = 'pending' AND NOT COALESCE(created_at < UTC_TIMESTAMP() - INTERVAL 7 DAY, FALSE)",
    ),
    of_orders(
        "order_without_payment",
        "paid orders whose payment billing-service did not note (it wrote nothing, or the order's own id): they cannot be refunded through the payment service until a callback names it",
        "SELECT [order] FROM [recharge_order] WHERE status = 'success' AND COALESCE([payment], '') IN ('', [order])",
    ),
    of_orders(
        "order_without_amount",
        "orders of nothing or less: kept as they are, and cannot be paid",
        "SELECT CONCAT([order], ' of ', [user], ', ', amount) FROM [recharge_order] WHERE amount <= 0",
    ),
];

/// What must be mended first.
pub(crate) const BLOCKERS: &[Doubt] = &[
    of(
        "account_twice",
        "accounts whose names differ only in case or in spaces at the end: make one of them, or give one another name",
        "SELECT MIN([user]) FROM [user_balance] GROUP BY [key user] HAVING COUNT(*) > 1",
    ),
    of(
        "record_type",
        "billing records whose type says neither free (1) nor balance (2): correct billing_record.type, or remove them",
        "SELECT billing_record_id FROM [billing_record] WHERE COALESCE([type], '') NOT IN ('free', 'balance')",
    ),
    of_orders(
        "order_status",
        "orders whose status is none of pending, success and failed: correct recharge_order.status",
        "SELECT [order] FROM [recharge_order] WHERE COALESCE(CAST(status AS CHAR), 'pending') NOT IN ('pending', 'success', 'failed')",
    ),
    of_orders(
        "order_name",
        "orders without a name: give them one, or remove them",
        "SELECT CONCAT('\"', [order], '\" of ', [user]) FROM [recharge_order] WHERE [order] = ''",
    ),
];

/// Counts and names the rows of each of these kinds, those that there are.
pub(crate) async fn find(
    connection: &mut MySqlConnection,
    place: Place,
    doubts: &'static [Doubt],
) -> Result<Vec<Doubted>, StoreError> {
    let mut found = Vec::new();
    for doubt in doubts {
        let shape = place.shape;
        if (doubt.needs_apps && !shape.has_apps) || (doubt.needs_orders && !shape.has_orders) {
            continue;
        }
        let sql = place.sql(doubt.rows);
        let count = format!("SELECT COUNT(*) FROM ({sql}) AS doubted");
        let rows: i64 =
            sqlx::query(AssertSqlSafe(count)).fetch_one(&mut *connection).await?.try_get(0)?;
        if rows == 0 {
            continue;
        }
        let some = format!("{sql} ORDER BY 1 LIMIT {EXAMPLES}");
        let some = sqlx::raw_sql(AssertSqlSafe(some)).fetch_all(&mut *connection).await?;
        let examples = some.iter().map(|row| row.try_get_unchecked::<Option<String>, _>(0));
        let examples = examples.map(|text| Ok(text?.unwrap_or_default()));
        let examples = examples.collect::<Result<_, sqlx::Error>>()?;
        found.push(Doubted { doubt, rows: rows.unsigned_abs(), examples });
    }
    Ok(found)
}

/// A name that nobody can have here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnusableName {
    pub(crate) table: &'static str,
    pub(crate) name: String,
    /// The rule that it breaks.
    pub(crate) problem: String,
}

/// Names of users and services that this program does not read.
pub(crate) async fn unusable_names(
    connection: &mut MySqlConnection,
    place: Place,
) -> Result<Vec<UnusableName>, StoreError> {
    let mut found = Vec::new();
    for table in super::TABLES {
        if table == "recharge_order" && !place.shape.has_orders {
            continue;
        }
        let users = format!("SELECT DISTINCT [exact user] FROM [{table}] WHERE [odd user]");
        for name in texts(connection, place, &users).await? {
            // Spaces at the end did not count, and are left out.
            if let Err(err) = name.trim_end_matches(' ').parse::<AccountId>() {
                found.push(UnusableName { table, name, problem: err.to_string() });
            }
        }
        if !matches!(table, "free_quota" | "billing_record") {
            continue;
        }
        let services = format!("SELECT DISTINCT [exact service_name] FROM [{table}]");
        for name in texts(connection, place, &services).await? {
            if let Err(err) = name.parse::<ServiceName>() {
                found.push(UnusableName { table, name, problem: err.to_string() });
            }
        }
    }
    Ok(found)
}

async fn texts(
    connection: &mut MySqlConnection,
    place: Place,
    text: &str,
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(AssertSqlSafe(place.sql(text))).fetch_all(connection).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
