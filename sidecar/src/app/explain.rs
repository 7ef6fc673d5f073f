//! Why something stands in the books: the whole chain that a record, a lease, a reservation, an order or a refund belongs to.

use serde::Serialize;
use serde::ser::SerializeMap as _;
use sqlx::mysql::MySqlConnection;

use crate::app::App;
use crate::store::explain::{self, Chain, Facts};
use crate::store::{self, StoreError};

/// The longest id that anything has, in bytes.
const ID_BYTES_MAX: usize = 255;

/// A chain, beginning with what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What the id names: `record`, `lease`, `reservation`, `order` or `refund`.
    pub kind: &'static str,
    /// Its parts; those without rows are left out.
    pub parts: Vec<ExplainedPart>,
}

/// One part of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedPart {
    /// What the rows are.
    pub title: &'static str,
    /// The rows.
    pub rows: Vec<Row>,
}

/// A row: names and values, in the order in which people read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub Facts);

impl Serialize for Row {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Everything that this id names. Ids of different kinds do not look alike, but for those that others gave.
pub(super) async fn run(app: &App, id: &str) -> Result<Vec<Explanation>, StoreError> {
    if ID_BYTES_MAX < id.len() {
        return Ok(Vec::new());
    }
    let mut connection = app.store.acquire().await?;
    let mut tx = store::begin_snapshot(&mut connection).await?;
    let explanations = read(&mut tx, id).await;
    // Nothing was written: only the snapshot ends.
    tx.rollback().await?;
    explanations
}

async fn read(tx: &mut MySqlConnection, id: &str) -> Result<Vec<Explanation>, StoreError> {
    let mut explanations = Vec::new();
    let is_number =
        !id.is_empty() && id.len() <= 19 && id.bytes().all(|byte| byte.is_ascii_digit());
    for (kind, chain) in [
        ("record", explain::RECORD),
        ("lease", explain::LEASE),
        ("reservation", explain::RESERVATION),
        ("order", explain::ORDER),
        ("refund", explain::CHARGE_REFUND),
        ("refund", explain::ORDER_REFUND),
    ] {
        if kind != "lease" || is_number {
            explanations.extend(follow(tx, kind, chain, id).await?);
        }
    }
    Ok(explanations)
}

async fn follow(
    tx: &mut MySqlConnection,
    kind: &'static str,
    chain: Chain,
    id: &str,
) -> Result<Option<Explanation>, StoreError> {
    let mut parts = Vec::new();
    for part in chain {
        let rows: Vec<Row> = explain::rows(tx, part, id).await?.into_iter().map(Row).collect();
        match (rows.is_empty(), parts.is_empty()) {
            (true, true) => return Ok(None),
            (true, false) => {}
            (false, _) => parts.push(ExplainedPart { title: part.title, rows }),
        }
    }
    Ok(Some(Explanation { kind, parts }))
}
