//! The tables of billing-service: of which generation they are, what stands in them, and how it comes into ours.
//!
//! | file | what it is about |
//! |---|---|
//! | `shape` | columns, and the generation that they tell |
//! | `survey` | sums over their rows, what those must become, and sums over ours |
//! | `doubts` | rows that mean something else here, or nothing |
//! | `copy` | their rows into our tables |
//! | `takeover` | how far that has come |
//! | `tables` | their tables set aside, ours made anew |
//!
//! Statements name tables and columns in brackets, because generations have other names: see [`Place::sql`].

pub(crate) mod copy;
pub(crate) mod doubts;
pub(crate) mod shape;
pub(crate) mod survey;
pub(crate) mod tables;
pub(crate) mod takeover;

use self::shape::{Shape, TypeKind};

/// The tables that billing-service had.
pub(crate) const TABLES: [&str; 4] =
    ["user_balance", "free_quota", "billing_record", "recharge_order"];

/// What its tables are called once they are set aside.
pub(crate) const ASIDE: &str = "predecessor_";

/// Where its tables stand, and how they look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) shape: Shape,
    pub(crate) is_aside: bool,
}

/// A name as the predecessor compared it: without regard to case and to spaces at its end.
const NAME_KEY: (&str, &str) = ("CONVERT(", " USING utf8mb4) COLLATE utf8mb4_unicode_ci");

/// A text as we compare it.
const EXACT: (&str, &str) = ("CONVERT(", " USING utf8mb4) COLLATE utf8mb4_bin");

impl Place {
    /// A statement with the names of this place. `[user_balance]` and so on are tables; `[user]`, `[payment]`, `[order]`
    /// columns; `[type]` the word for how a record was paid; `[app]` the app, where there are any, or NULL; `[unlimited]`
    /// whether a quota is that of an app that was free. `[key COLUMN]` and `[exact COLUMN]` are a column's text as it was
    /// and as it is compared; `[odd COLUMN]` is whether it is more than a short word in ASCII.
    pub(crate) fn sql(self, text: &str) -> String {
        let mut parts = text.split('[');
        let mut sql = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once(']').unwrap_or((part, ""));
            sql.push_str(&self.named(name));
            sql.push_str(rest);
        }
        sql
    }

    fn named(self, name: &str) -> String {
        let Self { shape, is_aside } = self;
        let convert = |(open, close): (&str, &str), column: &str| {
            format!("{open}{}{close}", column.replace("user", shape.user))
        };
        if let Some(column) = name.strip_prefix("key ") {
            return convert(NAME_KEY, column);
        }
        if let Some(column) = name.strip_prefix("exact ") {
            return convert(EXACT, column);
        }
        if let Some(column) = name.strip_prefix("odd ") {
            let column = column.replace("user", shape.user);
            return format!(
                "({column} REGEXP '[^!-~]' OR {column} = '' OR 128 < LENGTH({column}))"
            );
        }
        match name {
            "user" => shape.user.to_owned(),
            "payment" => shape.payment.to_owned(),
            "order" => shape.order.to_owned(),
            "app" if shape.has_apps => "app_id".to_owned(),
            "app" => "NULL".to_owned(),
            "unlimited" if shape.has_apps => "(COALESCE(total_quota, 0) = 2147483647)".to_owned(),
            "unlimited" => "FALSE".to_owned(),
            "type" => match shape.record_type {
                TypeKind::Word => "CAST(type AS CHAR)".to_owned(),
                TypeKind::Number => "ELT(type, 'free', 'balance')".to_owned(),
            },
            table if is_aside => format!("{ASIDE}{table}"),
            table => table.to_owned(),
        }
    }
}
