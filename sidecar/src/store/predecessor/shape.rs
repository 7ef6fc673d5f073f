//! Columns, and the generation of billing-service that they tell.

use sqlx::Row;
use sqlx::mysql::MySqlConnection;

use super::{ASIDE, TABLES};
use crate::store::StoreError;

/// A column as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) table: String,
    pub(crate) name: String,
    /// `varchar`, `enum` and so on.
    pub(crate) kind: String,
}

/// How the tables look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) generation: Generation,
    /// The column with a user's name.
    pub(crate) user: &'static str,
    pub(crate) has_apps: bool,
    pub(crate) has_orders: bool,
    /// The column with a payment's name.
    pub(crate) payment: &'static str,
    /// The column with an order's name.
    pub(crate) order: &'static str,
    pub(crate) record_type: TypeKind,
}

/// The predecessor's generations, by their tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    A,
    B,
    /// Users are called as in C, and there are no apps yet.
    EarlyC,
    C,
}

/// How `billing_record.type` says what paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TypeKind {
    /// `free` and `balance`.
    Word,
    /// 1 and 2.
    Number,
}

/// A column that fits no generation, or not the generation of the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{table}.{column} {complaint}")]
pub struct UnknownShape {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// What is wrong with it.
    pub complaint: &'static str,
}

const UNKNOWN: &str = "is no column of any version of billing-service that is known here";
const MISSING: &str = "is missing; every version of billing-service has it";
const OF_ANOTHER: &str = "is of another generation of billing-service than the other tables";
const KIND: &str = "has a type that no version of billing-service gave it";

/// The columns of a table that every generation has, with the types that are read, and those that some have.
struct Known {
    table: &'static str,
    always: &'static [(&'static str, &'static [&'static str])],
    sometimes: &'static [&'static str],
}

const TEXT: &[&str] = &["varchar", "char"];
const MONEY: &[&str] = &["decimal"];
const WHOLE: &[&str] = &["int", "bigint"];
/// Not `datetime`: that would be in a time zone that nobody wrote down.
const TIME: &[&str] = &["timestamp"];

const KNOWN: [Known; 4] = [
    Known {
        table: "user_balance",
        always: &[
            ("user_balance_id", TEXT),
            ("balance", MONEY),
            ("created_at", TIME),
            ("updated_at", TIME),
        ],
        sometimes: &["user_id", "uid", "version"],
    },
    Known {
        table: "free_quota",
        always: &[
            ("free_quota_id", TEXT),
            ("service_name", TEXT),
            ("total_quota", WHOLE),
            ("used_quota", WHOLE),
            ("reset_month", TEXT),
            ("created_at", TIME),
            ("updated_at", TIME),
        ],
        sometimes: &["user_id", "uid", "app_id"],
    },
    Known {
        table: "billing_record",
        always: &[
            ("billing_record_id", TEXT),
            ("service_name", TEXT),
            ("type", &["enum", "varchar", "char", "tinyint", "smallint", "int"]),
            ("amount", MONEY),
            ("count", WHOLE),
            ("created_at", TIME),
        ],
        sometimes: &["user_id", "uid", "app_id"],
    },
    Known {
        table: "recharge_order",
        always: &[
            ("amount", MONEY),
            ("status", &["enum", "varchar", "char"]),
            ("created_at", TIME),
            ("updated_at", TIME),
        ],
        sometimes: &[
            "user_id",
            "uid",
            "order_id",
            "recharge_order_id",
            "payment_order_id",
            "payment_id",
        ],
    },
];

/// Every column of the database's tables.
pub(crate) async fn columns(connection: &mut MySqlConnection) -> Result<Vec<Column>, StoreError> {
    let rows = sqlx::query(
        "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR), LOWER(CAST(data_type AS CHAR))
         FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position",
    )
    .fetch_all(connection)
    .await?;
    let column = |row: &sqlx::mysql::MySqlRow| {
        Ok(Column { table: row.try_get(0)?, name: row.try_get(1)?, kind: row.try_get(2)? })
    };
    rows.iter().map(column).collect()
}

/// The predecessor's columns among these, by the names that its tables had. A table that is set aside hides ours.
pub(crate) fn theirs(columns: &[Column]) -> Vec<Column> {
    let mut found = Vec::new();
    for table in TABLES {
        let aside = format!("{ASIDE}{table}");
        let is_aside = columns.iter().any(|column| column.table == aside);
        let name = if is_aside { aside.as_str() } else { table };
        let of_it = columns.iter().filter(|column| column.table == name);
        found.extend(of_it.map(|column| Column { table: table.to_owned(), ..column.clone() }));
    }
    found
}

/// Reads the generation off the columns.
pub(crate) fn recognise(columns: &[Column]) -> Result<Shape, UnknownShape> {
    let has = |table: &str, name: &str| {
        columns.iter().any(|column| column.table == table && column.name == name)
    };
    let has_orders = columns.iter().any(|column| column.table == "recharge_order");
    for known in KNOWN.iter().filter(|known| has_orders || known.table != "recharge_order") {
        check(known, columns)?;
    }
    let one_of = |table: &'static str, first: &'static str, second: &'static str| match (
        has(table, first),
        has(table, second),
    ) {
        (true, false) => Ok(first),
        (false, true) => Ok(second),
        (true, true) => Err(blame(table, second, OF_ANOTHER)),
        (false, false) => Err(blame(table, first, MISSING)),
    };
    let user = one_of("user_balance", "user_id", "uid")?;
    let with_users = TABLES.into_iter().filter(|table| has_orders || *table != "recharge_order");
    for table in with_users {
        let other = one_of(table, "user_id", "uid")?;
        if other != user {
            return Err(blame(table, other, OF_ANOTHER));
        }
    }
    let has_apps = has("free_quota", "app_id");
    if has_apps != has("billing_record", "app_id") {
        return Err(blame(
            if has_apps { "free_quota" } else { "billing_record" },
            "app_id",
            OF_ANOTHER,
        ));
    }
    let (payment, order) = if has_orders {
        (
            one_of("recharge_order", "payment_order_id", "payment_id")?,
            one_of("recharge_order", "order_id", "recharge_order_id")?,
        )
    } else {
        ("payment_id", "order_id")
    };
    let generation = match (user, has_apps, payment) {
        ("user_id", true, "payment_id") => Generation::C,
        ("uid", false, "payment_id") => Generation::B,
        ("user_id", false, "payment_id") if has_orders => Generation::EarlyC,
        ("user_id", false, _) => Generation::A,
        ("uid", true, _) => return Err(blame("free_quota", "app_id", OF_ANOTHER)),
        _ => return Err(blame("recharge_order", payment, OF_ANOTHER)),
    };
    let record_type = match columns
        .iter()
        .find(|column| column.table == "billing_record" && column.name == "type")
        .map(|column| column.kind.as_str())
    {
        Some("tinyint" | "smallint" | "int") => TypeKind::Number,
        _ => TypeKind::Word,
    };
    Ok(Shape { generation, user, has_apps, has_orders, payment, order, record_type })
}

fn check(known: &Known, columns: &[Column]) -> Result<(), UnknownShape> {
    let Known { table, always, sometimes } = *known;
    let of_table: Vec<&Column> = columns.iter().filter(|column| column.table == table).collect();
    for (name, kinds) in always {
        let Some(found) = of_table.iter().find(|column| column.name == *name) else {
            return Err(blame(table, name, MISSING));
        };
        if !kinds.contains(&found.kind.as_str()) {
            return Err(blame(table, name, KIND));
        }
    }
    let is_known = |column: &&&Column| {
        always.iter().any(|(name, _)| *name == column.name)
            || sometimes.contains(&column.name.as_str())
    };
    match of_table.iter().find(|column| !is_known(column)) {
        Some(column) => Err(blame(table, &column.name, UNKNOWN)),
        None => Ok(()),
    }
}

fn blame(table: &str, column: &str, complaint: &'static str) -> UnknownShape {
    UnknownShape { table: table.to_owned(), column: column.to_owned(), complaint }
}

impl Generation {
    /// What people call it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::EarlyC => "C without apps",
            Self::C => "C",
        }
    }

    /// By what it was recognised.
    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::A => "users are in user_id, quotas know no apps, orders have payment_order_id",
            Self::B => "users are in uid, orders have payment_id",
            Self::EarlyC => "users are in user_id, quotas know no apps, orders have payment_id",
            Self::C => "users are in user_id, quotas and records know apps, orders have payment_id",
        }
    }

    /// Whether that version charged in Redis first and told MySQL through a queue.
    pub(crate) fn has_queue(self) -> bool {
        self != Self::A
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "user_balance: user_balance_id varchar, user_id varchar, balance decimal, created_at timestamp, updated_at timestamp
        free_quota: free_quota_id varchar, user_id varchar, service_name varchar, total_quota int, used_quota int, reset_month varchar, created_at timestamp, updated_at timestamp
        billing_record: billing_record_id varchar, user_id varchar, service_name varchar, type enum, amount decimal, count int, created_at timestamp
        recharge_order: order_id varchar, user_id varchar, amount decimal, payment_order_id varchar, status enum, created_at timestamp, updated_at timestamp";

    fn columns(text: &str) -> Vec<Column> {
        let line = |line: &str| {
            let (table, columns) = line.trim().split_once(": ").unwrap();
            let column = |column: &str| {
                let (name, kind) = column.split_once(' ').unwrap();
                Column { table: table.to_owned(), name: name.to_owned(), kind: kind.to_owned() }
            };
            columns.split(", ").map(column).collect::<Vec<_>>()
        };
        text.lines().flat_map(line).collect()
    }

    fn read(text: &str) -> String {
        match recognise(&columns(text)) {
            Ok(shape) => {
                format!("{} {:?} {}", shape.generation.as_str(), shape.record_type, shape.order)
            }
            Err(err) => err.to_string(),
        }
    }

    #[test]
    fn each_generation_is_known_by_its_columns() {
        let b = A.replace("user_id", "uid").replace("payment_order_id", "payment_id");
        let early = A.replace("payment_order_id", "payment_id");
        let apps = early.replace("service_name varchar", "app_id varchar, service_name varchar");
        let older = A
            .replace("type enum", "type tinyint")
            .replace("balance decimal", "balance decimal, version int")
            .replace("order_id varchar, user_id", "recharge_order_id varchar, user_id");
        let without_orders = A.lines().take(3).collect::<Vec<_>>().join("\n");
        for (text, expected) in [
            (A, "A Word order_id"),
            (&older, "A Number recharge_order_id"),
            (&without_orders, "A Word order_id"),
            (&b, "B Word order_id"),
            (&early, "C without apps Word order_id"),
            (&apps, "C Word order_id"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_mixed_or_unknown_is_named() {
        let in_table = |table: &str, from: &str, to: &str| -> String {
            let line = |line: &str| {
                if line.trim().starts_with(table) {
                    line.replacen(from, to, 1)
                } else {
                    line.into()
                }
            };
            A.lines().map(line).collect::<Vec<_>>().join("\n")
        };
        for (table, from, to, expected) in [
            ("free_quota", "user_id", "uid", "free_quota.uid is of another generation"),
            ("recharge_order", "user_id", "uid", "recharge_order.uid is of another generation"),
            ("user_balance", "user_id", "uid", "free_quota.user_id is of another generation"),
            ("user_balance", "user_id varchar, ", "", "user_balance.user_id is missing"),
            (
                "free_quota",
                "service_name",
                "app_id varchar, service_name",
                "free_quota.app_id is of",
            ),
            (
                "billing_record",
                "type",
                "app_id varchar, type",
                "billing_record.app_id is of another",
            ),
            (
                "billing_record",
                "count int",
                "count int, tenant varchar",
                "billing_record.tenant is no column",
            ),
            (
                "billing_record",
                "created_at timestamp",
                "created_at datetime",
                "billing_record.created_at has a type",
            ),
            ("recharge_order", "status enum", "status tinyint", "recharge_order.status has a type"),
            ("recharge_order", "status enum, ", "", "recharge_order.status is missing"),
            (
                "user_balance",
                "balance decimal",
                "balance double",
                "user_balance.balance has a type",
            ),
        ] {
            let found = read(&in_table(table, from, to));
            assert!(found.starts_with(expected), "{found}");
        }
        let uid_and_first_payments = A.replace("user_id", "uid");
        let found = read(&uid_and_first_payments);
        assert!(found.starts_with("recharge_order.payment_order_id is of another"), "{found}");
    }
}
