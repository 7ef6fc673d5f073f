//! Open leases for operators: in pages, and summed up by who holds them. Nothing is locked.

use farebox_core::id::{AccountId, GatewayId, ServiceName};
use farebox_core::money::Nanos;
use sqlx::AssertSqlSafe;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use super::{COLUMNS, StoredLease, TABLE, read};
use crate::store::StoreError;
use crate::store::column::{Columns, OnCorrupt, json, read_all};
use crate::store::page::{Listed, listed, one_more};

/// Which open leases are read.
#[derive(Debug, Default)]
pub(crate) struct Selection<'a> {
    pub(crate) gateway: Option<&'a GatewayId>,
    pub(crate) account: Option<&'a AccountId>,
    pub(crate) service: Option<&'a ServiceName>,
    /// Older than this lease.
    pub(crate) before: Option<i64>,
}

impl Selection<'_> {
    fn shape(&self) -> Shape {
        Shape {
            account: self.account.is_some(),
            gateway: self.gateway.is_some(),
            service: self.service.is_some(),
        }
    }
}

/// What is asked for, which is what a statement depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    account: bool,
    gateway: bool,
    service: bool,
}

impl Shape {
    /// The index in whose order the leases are read, so that a page reads no more of them than it shows, but for those of other
    /// services.
    fn index(self) -> &'static str {
        match (self.account, self.gateway) {
            (true, _) => "idx_lease_user",
            (false, true) => "idx_lease_recall",
            (false, false) => "idx_lease_open",
        }
    }

    /// How many parts the statement has: a gateway's index has leases that are recalled apart from the others.
    fn parts(self) -> usize {
        if self.gateway && !self.account { 2 } else { 1 }
    }

    fn statement(self) -> String {
        let condition = |is_asked, text| if is_asked { text } else { "" };
        let account = condition(self.account, " AND user_id = ?");
        let gateway = condition(self.gateway, " AND gateway_id = ?");
        let service = condition(self.service, " AND service_name = ?");
        let index = self.index();
        let part = |recall: &str| {
            format!(
                "SELECT {COLUMNS} FROM lease FORCE INDEX ({index})
                 WHERE state = 'open' AND lease_id < ?{account}{gateway}{service}{recall} ORDER BY lease_id DESC LIMIT ?"
            )
        };
        if self.parts() == 1 {
            return part("");
        }
        let (kept, recalled) = (part(" AND recall = 0"), part(" AND recall = 1"));
        format!("({kept}) UNION ALL ({recalled}) ORDER BY lease_id DESC LIMIT ?")
    }
}

/// The statements and the index of each, for those who want to know how the database executes them.
pub fn plans() -> Vec<(&'static str, String)> {
    let shape = |number: u8| Shape {
        account: number & 1 != 0,
        gateway: number & 2 != 0,
        service: number & 4 != 0,
    };
    (0..8).map(shape).map(|shape| (shape.index(), shape.statement())).collect()
}

/// Reads open leases, the newest first. Leases that begin meanwhile stand before the first page, so no page shifts.
pub(crate) async fn open(
    connection: &mut MySqlConnection,
    selection: &Selection<'_>,
    limit: u32,
) -> Result<Listed<StoredLease, i64>, StoreError> {
    let Selection { gateway, account, service, before } = selection;
    let shape = selection.shape();
    let mut query = sqlx::query(AssertSqlSafe(shape.statement()));
    for _ in 0..shape.parts() {
        query = query.bind(before.unwrap_or(i64::MAX));
        if let Some(account) = account {
            query = query.bind(account.as_str());
        }
        if let Some(gateway) = gateway {
            query = query.bind(gateway.as_str());
        }
        if let Some(service) = service {
            query = query.bind(service.as_str());
        }
        query = query.bind(one_more(limit));
    }
    if 1 < shape.parts() {
        query = query.bind(one_more(limit));
    }
    let rows = query.fetch_all(connection).await?;
    listed(rows, limit, read, |row| Columns::new(row, TABLE, "lease_id").integer("lease_id"))
}

/// What a process of a gateway holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HeldBy {
    pub(crate) gateway: String,
    pub(crate) epoch: i64,
    pub(crate) leases: u64,
    pub(crate) recalled: u64,
    pub(crate) free_units: u64,
    pub(crate) paid_units: u64,
    /// What the paid units cost.
    pub(crate) amount: Nanos,
}

/// Sums up what these processes hold; those that hold nothing are not told.
pub(crate) async fn held_by(
    connection: &mut MySqlConnection,
    processes: &[(&str, i64)],
) -> Result<Vec<HeldBy>, StoreError> {
    if processes.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT gateway_id, epoch, COUNT(*) AS leases, CAST(SUM(recall) AS SIGNED) AS recalled,
            CAST(SUM(free) AS SIGNED) AS free, CAST(SUM(paid) AS SIGNED) AS paid, SUM(paid * price) AS amount
         FROM (SELECT lease.gateway_id, lease.epoch, lease.recall, lease.price,
                 free_granted - free_used - free_returned AS free, paid_granted - paid_used - paid_returned AS paid
               FROM JSON_TABLE(?, '$[*]' COLUMNS (
                 gateway VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$[0]',
                 epoch BIGINT PATH '$[1]'
               )) AS wanted
               STRAIGHT_JOIN lease FORCE INDEX (idx_lease_recall) ON lease.gateway_id = wanted.gateway AND lease.epoch = wanted.epoch
                 AND lease.state = 'open') AS open_lease
         GROUP BY gateway_id, epoch",
    )
    .bind(json(&processes))
    .fetch_all(connection)
    .await?;
    read_all(&rows, OnCorrupt::Fail, read_held)
}

fn read_held(row: &MySqlRow) -> Result<HeldBy, StoreError> {
    let columns = Columns::new(row, TABLE, "gateway_id");
    Ok(HeldBy {
        gateway: columns.text("gateway_id")?,
        epoch: columns.integer("epoch")?,
        leases: columns.units("leases")?,
        recalled: columns.units("recalled")?,
        free_units: columns.units("free")?,
        paid_units: columns.units("paid")?,
        amount: columns.nanos("amount")?,
    })
}
