//! Pages of lists, as statements give them.

use sqlx::mysql::MySqlRow;

use crate::store::StoreError;
use crate::store::column::{OnCorrupt, read_all};

/// A part of a list.
#[derive(Debug)]
pub(crate) struct Listed<T, P> {
    pub(crate) rows: Vec<T>,
    /// The place of the last row, when further ones follow.
    pub(crate) end: Option<P>,
}

/// How many rows a statement asks for: one more than the page has tells whether there are further ones.
pub(crate) fn one_more(limit: u32) -> u32 {
    limit.saturating_add(1)
}

/// The page that a statement's rows are, of which [`one_more`] were asked for. Rows that cannot be read are left out, and
/// count: what stands behind them is not lost.
pub(crate) fn listed<T, P>(
    mut rows: Vec<MySqlRow>,
    limit: u32,
    read: impl Fn(&MySqlRow) -> Result<T, StoreError>,
    place: impl Fn(&MySqlRow) -> Result<P, StoreError>,
) -> Result<Listed<T, P>, StoreError> {
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = size < rows.len();
    rows.truncate(size);
    let end = rows.last().filter(|_| has_more).map(place).transpose()?;
    Ok(Listed { rows: read_all(&rows, OnCorrupt::Skip, read)?, end })
}
