//! Columns to values and back. A value that cannot be read names its table, column and row.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::mysql::MySqlRow;
use sqlx::{ColumnIndex, Decode, MySql, Row, Type};

use farebox_core::money::{Nanos, SCALE};

use crate::store::StoreError;

/// What becomes of the other rows when one cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnCorrupt {
    /// The whole read fails.
    Fail,
    /// The row is logged and left out.
    Skip,
}

/// A row with its place, for errors.
pub(crate) struct Columns<'r> {
    row: &'r MySqlRow,
    table: &'static str,
    key: String,
}

impl<'r> Columns<'r> {
    /// `key` is the column that names the row in errors.
    pub(crate) fn new(row: &'r MySqlRow, table: &'static str, key: &'static str) -> Self {
        let key = match (row.try_get::<String, _>(key), row.try_get::<i64, _>(key)) {
            (Ok(text), _) => text,
            (_, Ok(number)) => number.to_string(),
            (Err(_), Err(_)) => "a row without a key".to_owned(),
        };
        Self { row, table, key }
    }

    /// The error that blames `column`.
    pub(crate) fn corrupt(&self, column: &'static str) -> StoreError {
        StoreError::Corrupt { table: self.table, column, key: self.key.clone() }
    }

    fn get<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: Decode<'r, MySql> + Type<MySql>,
        &'static str: ColumnIndex<MySqlRow>,
    {
        self.row.try_get(column).map_err(|_| self.corrupt(column))
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.get(column)
    }

    pub(crate) fn text_or_null(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.get(column)
    }

    pub(crate) fn bytes_or_null(
        &self,
        column: &'static str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(column)
    }

    pub(crate) fn integer(&self, column: &'static str) -> Result<i64, StoreError> {
        self.get(column)
    }

    pub(crate) fn integer_or_null(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        self.get(column)
    }

    /// A count of units.
    pub(crate) fn units(&self, column: &'static str) -> Result<u64, StoreError> {
        u64::try_from(self.integer(column)?).map_err(|_| self.corrupt(column))
    }

    /// A flag, stored as 0 or 1.
    pub(crate) fn flag(&self, column: &'static str) -> Result<bool, StoreError> {
        Ok(self.get::<i8>(column)? != 0)
    }

    pub(crate) fn nanos(&self, column: &'static str) -> Result<Nanos, StoreError> {
        from_decimal(self.get(column)?).ok_or_else(|| self.corrupt(column))
    }

    /// A sum of money, which may be beyond what one amount can be.
    pub(crate) fn sum(&self, column: &'static str) -> Result<Decimal, StoreError> {
        self.get(column)
    }

    pub(crate) fn nanos_or_null(&self, column: &'static str) -> Result<Option<Nanos>, StoreError> {
        let decimal: Option<Decimal> = self.get(column)?;
        decimal.map(|decimal| from_decimal(decimal).ok_or_else(|| self.corrupt(column))).transpose()
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<DateTime<Utc>, StoreError> {
        Ok(self.get::<NaiveDateTime>(column)?.and_utc())
    }

    pub(crate) fn time_or_null(
        &self,
        column: &'static str,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(self.get::<Option<NaiveDateTime>>(column)?.map(|time| time.and_utc()))
    }

    /// A checked name: account, service, gateway.
    pub(crate) fn name<N: FromStr>(&self, column: &'static str) -> Result<N, StoreError> {
        self.text(column)?.parse().map_err(|_| self.corrupt(column))
    }
}

/// Reads every row with `read`.
pub(crate) fn read_all<T>(
    rows: &[MySqlRow],
    on_corrupt: OnCorrupt,
    read: impl Fn(&MySqlRow) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    rows.iter().filter_map(|row| read_one(row, on_corrupt, &read).transpose()).collect()
}

/// Reads a row with `read`; nothing for one that cannot be read and may be left out.
pub(crate) fn read_one<T>(
    row: &MySqlRow,
    on_corrupt: OnCorrupt,
    read: impl Fn(&MySqlRow) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    match (read(row), on_corrupt) {
        (Ok(value), _) => Ok(Some(value)),
        (Err(err), OnCorrupt::Fail) => Err(err),
        (Err(err), OnCorrupt::Skip) => {
            tracing::error!(error = %err, "a row cannot be read and is left out: repair it");
            Ok(None)
        }
    }
}

/// Money as MySQL takes it, exact.
pub(crate) fn decimal(nanos: Nanos) -> Decimal {
    // Nine decimals are within what the type can scale.
    Decimal::from_i128_with_scale(i128::from(nanos.get()), SCALE as u32)
}

fn from_decimal(decimal: Decimal) -> Option<Nanos> {
    let mut scaled = decimal;
    scaled.rescale(SCALE as u32);
    let exact = scaled == decimal && scaled.scale() == SCALE as u32;
    exact.then(|| i64::try_from(scaled.mantissa()).ok()).flatten().map(Nanos::new)
}

/// Rows as the one JSON parameter that `JSON_TABLE` unfolds.
pub(crate) fn json(rows: &impl Serialize) -> String {
    // Strings and numbers in structs and vectors always have a JSON text; an empty list writes nothing, which the count
    // of changed rows then shows.
    serde_json::to_string(rows).unwrap_or_else(|_| "[]".to_owned())
}

/// Bytes in the hexadecimal digits that `UNHEX` reads.
pub(crate) fn bytes_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Units as a column holds them.
pub(crate) fn bigint(units: u64, what: &'static str, key: &str) -> Result<i64, StoreError> {
    i64::try_from(units).map_err(|_| StoreError::OutOfRange { what, key: key.to_owned() })
}

/// A duration for `INTERVAL ? MICROSECOND`.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A moment as MySQL reads it from text.
pub(crate) fn time_text(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// Requires that a statement changed exactly the rows it was written for.
pub(crate) fn require_changed(
    table: &'static str,
    expected: usize,
    changed: u64,
) -> Result<(), StoreError> {
    let expected = expected as u64;
    if changed == expected { Ok(()) } else { Err(StoreError::Guard { table, expected, changed }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_crosses_the_edge_exactly_or_not_at_all() {
        for nanos in [0, 1, -1, i64::MAX, i64::MIN + 1, 10_000_000_000] {
            let nanos = Nanos::new(nanos);
            assert_eq!(from_decimal(decimal(nanos)), Some(nanos));
        }
        for text in ["9223372036.854775808", "0.0000000001", "79228162514264337593543950335"] {
            assert_eq!(from_decimal(text.parse().unwrap()), None, "{text}");
        }
    }
}
