//! Open leases as operators see them: who holds what; and asking for units back.

use std::collections::BTreeSet;

use farebox_core::id::{AccountId, GatewayId, ServiceName};
use farebox_core::money::Nanos;
use serde::Serialize;
use serde_json::json;
use sqlx::mysql::MySqlConnection;

use crate::app::books::{Books, Create, LeaseSelection};
use crate::app::gateways::HoldersError;
use crate::app::page::{self, Place as _};
use crate::app::texts::{self, LengthError};
use crate::app::{App, rfc3339};
use crate::store::audit_log::{self, AuditLine};
use crate::store::column::OnCorrupt;
use crate::store::lease::list::{self, Selection};
use crate::store::lease::{self, StoredLease};
use crate::store::retry::{MayBeStore, retry};
use crate::store::{self, StoreError};

/// Which leases a page has.
#[derive(Debug, Clone, Default)]
pub struct LeaseFilter {
    /// Of this gateway only.
    pub gateway: Option<GatewayId>,
    /// Of this account only.
    pub account: Option<AccountId>,
    /// For this service only.
    pub service: Option<ServiceName>,
    /// How many at most, 1 to 200; 20 when it is not said.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// An open lease: units of an account that a gateway may spend alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LeaseView {
    /// Its number.
    pub id: u64,
    /// Who holds it.
    #[schema(value_type = GatewayId)]
    pub gateway: String,
    /// Which process of that name.
    pub epoch: u64,
    /// Whose units.
    pub account: String,
    /// For what.
    pub service: String,
    /// What a paid unit costs.
    pub price: Nanos,
    /// Whether the route names that price, or the price book does.
    pub is_route_price: bool,
    /// Whose free units.
    pub month: String,
    /// Free units that were ever lent.
    pub free_granted: u64,
    /// Units to be paid that were ever lent.
    pub paid_granted: u64,
    /// Free units that were reported as used.
    pub free_used: u64,
    /// Units to be paid that were reported as used.
    pub paid_used: u64,
    /// Free units that were given back.
    pub free_returned: u64,
    /// Units to be paid that were given back.
    pub paid_returned: u64,
    /// Units of running calls, as last reported.
    pub in_flight: u64,
    /// Free units that it holds.
    pub free_held: u64,
    /// Units to be paid that it holds.
    pub paid_held: u64,
    /// What these cost: the money that is held for them.
    pub held: Nanos,
    /// When its gateway last spoke of it.
    pub renewed_at: String,
    /// When the sidecar takes it back, if its gateway says nothing more.
    pub reclaim_at: String,
    /// When it ends: with its month, or with its price.
    pub not_after: Option<String>,
    /// Whether its gateway is asked to give back what it does not use.
    pub recalled: bool,
}

/// Open leases, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LeasePage {
    /// The leases.
    pub leases: Vec<LeaseView>,
    /// What to ask for to see older ones; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Why a lease is not recalled.
#[derive(Debug, thiserror::Error)]
pub enum RecallError {
    /// No such lease.
    #[error("there is no lease {lease}; farebox leases tells numbers")]
    Unknown {
        /// What was named.
        lease: u64,
    },
    /// It holds nothing any more.
    #[error("lease {lease} has ended: it holds nothing that could come back")]
    Ended {
        /// Which.
        lease: u64,
    },
    /// A text beyond its column.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayBeStore for RecallError {
    fn into_store(self) -> Result<StoreError, Self> {
        match self {
            Self::Store(err) => Ok(err),
            other => Err(other),
        }
    }
}

pub(super) async fn page(app: &App, filter: &LeaseFilter) -> Result<LeasePage, HoldersError> {
    let limit = page::limit(filter.limit)?;
    let before = page::after(filter.cursor.as_deref())?;
    let LeaseFilter { gateway, account, service, .. } = filter;
    let selection = Selection {
        gateway: gateway.as_ref(),
        account: account.as_ref(),
        service: service.as_ref(),
        before,
    };
    let mut connection = app.store.acquire().await?;
    let listed = list::open(&mut connection, &selection, limit).await?;
    Ok(LeasePage {
        leases: listed.rows.iter().map(view).collect::<Result<_, _>>()?,
        next_cursor: listed.end.map(|id| id.to_text()),
    })
}

fn view(lease: &StoredLease) -> Result<LeaseView, StoreError> {
    let units = &lease.units;
    let held = units.outstanding();
    let out_of_range = || StoreError::OutOfRange { what: "held money", key: lease.id.to_string() };
    Ok(LeaseView {
        id: lease.id,
        gateway: lease.gateway.to_string(),
        epoch: lease.epoch,
        account: lease.key.account.to_string(),
        service: lease.key.service.to_string(),
        price: lease.price,
        is_route_price: lease.key.price.is_some(),
        month: lease.month.clone(),
        free_granted: units.granted.free,
        paid_granted: units.granted.paid,
        free_used: units.used.free,
        paid_used: units.used.paid,
        free_returned: units.returned.free,
        paid_returned: units.returned.paid,
        in_flight: lease.in_flight,
        free_held: held.free,
        paid_held: held.paid,
        held: lease.price.checked_mul(held.paid).ok_or_else(out_of_range)?,
        renewed_at: rfc3339(lease.renewed_at),
        reclaim_at: rfc3339(lease.reclaim_at),
        not_after: lease.not_after.map(rfc3339),
        recalled: lease.recall,
    })
}

/// Asks the gateway of a lease to give back the units that it does not use. It hears of it with its next message; one that is
/// asked already is not asked again.
pub(super) async fn recall(
    app: &App,
    lease: u64,
    reason: &str,
    actor: &str,
) -> Result<LeaseView, RecallError> {
    texts::check(RECALL, reason, actor)?;
    retry("recall a lease", || async {
        let mut tx = app.store.begin().await?;
        let outcome = recall_once(&mut tx, app, lease, reason, actor).await;
        store::finish(tx, outcome).await
    })
    .await
}

/// What the audit log calls it.
const RECALL: &str = "lease.recall";

async fn recall_once(
    tx: &mut MySqlConnection,
    app: &App,
    id: u64,
    reason: &str,
    actor: &str,
) -> Result<LeaseView, RecallError> {
    let unknown = || RecallError::Unknown { lease: id };
    let owners = lease::accounts(tx, &[id], OnCorrupt::Fail).await?;
    let accounts: BTreeSet<AccountId> =
        owners.into_iter().filter_map(|(_, account)| account).collect();
    if accounts.is_empty() {
        return Err(unknown());
    }
    let mut books = Books::lock(tx, &accounts, &app.settings, Create::No, OnCorrupt::Fail).await?;
    let selection = LeaseSelection { ids: vec![id], ..LeaseSelection::default() };
    books.load_leases(tx, &selection).await?;
    let lease = books.lease(id).ok_or_else(unknown)?.clone();
    if !lease.units.open {
        return Err(RecallError::Ended { lease: id });
    }
    if !lease.recall {
        books.lease_mut(id)?.recall = true;
        books.store(tx).await?;
        let told = |recalled: bool| {
            let held = lease.units.outstanding();
            json!({
                "account": lease.key.account, "gateway": lease.gateway, "service": lease.key.service,
                "free_held": held.free, "paid_held": held.paid, "recalled": recalled,
            })
            .to_string()
        };
        let line = AuditLine {
            actor,
            action: RECALL,
            subject: &id.to_string(),
            reason,
            before_json: told(false),
            after_json: told(true),
        };
        audit_log::insert(tx, line).await?;
    }
    Ok(view(books.lease(id).ok_or_else(unknown)?)?)
}
