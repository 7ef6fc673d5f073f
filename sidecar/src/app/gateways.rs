//! Gateways as operators see them: who is alive, and what each holds.

use farebox_core::money::Nanos;
use serde::Serialize;

use crate::app::page::{self, PageError, Place as _};
use crate::app::{App, rfc3339};
use crate::store::StoreError;
use crate::store::gateway::{self, Process};
use crate::store::lease::list::{self, HeldBy};

/// Which gateways a page has.
#[derive(Debug, Clone, Default)]
pub struct GatewayFilter {
    /// How many at most, 1 to 200; 20 when it is not said.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// One process of a gateway: the newest of its name, and any older one that still holds something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct GatewayView {
    /// Its name.
    #[schema(value_type = farebox_core::id::GatewayId)]
    pub gateway: String,
    /// Which process of that name: 1 for the first one.
    pub epoch: i64,
    /// What the process calls itself.
    pub instance: String,
    /// `alive`: heard of within `leases.ttl`; `silent`: not, and it holds leases; `gone`: not, and it holds nothing.
    pub state: &'static str,
    /// When it was first heard of.
    pub first_seen_at: String,
    /// When it was last heard of.
    pub last_seen_at: String,
    /// The leases that it may spend from.
    pub open_leases: u64,
    /// Of these, those that it is asked to give back.
    pub recalled_leases: u64,
    /// Free units that it was lent and has not reported, drawn or not.
    pub free_units: u64,
    /// Units to be paid, likewise.
    pub paid_units: u64,
    /// Money at risk: what these cost, the most that is lost with the process.
    pub at_risk: Nanos,
}

/// Gateways, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct GatewayPage {
    /// The gateways.
    pub gateways: Vec<GatewayView>,
    /// What to ask for to see the next ones; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Why gateways or leases cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum HoldersError {
    /// No such page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) async fn page(app: &App, filter: &GatewayFilter) -> Result<GatewayPage, HoldersError> {
    let limit = page::limit(filter.limit)?;
    let after = page::after(filter.cursor.as_deref())?;
    let mut connection = app.store.acquire().await?;
    let ttl = app.settings.lease_ttl;
    let listed = gateway::list(&mut connection, after.as_ref(), ttl, limit).await?;
    let processes: Vec<(&str, i64)> =
        listed.rows.iter().map(|process| (process.gateway.as_str(), process.epoch)).collect();
    let held = list::held_by(&mut connection, &processes).await?;
    let view = |process: &Process| {
        let key = |held: &&HeldBy| {
            (held.gateway.as_str(), held.epoch) == (process.gateway.as_str(), process.epoch)
        };
        view(process, held.iter().find(key).cloned().unwrap_or_default())
    };
    Ok(GatewayPage {
        gateways: listed.rows.iter().map(view).collect(),
        next_cursor: listed.end.map(|end| end.to_text()),
    })
}

fn view(process: &Process, held: HeldBy) -> GatewayView {
    GatewayView {
        gateway: process.gateway.clone(),
        epoch: process.epoch,
        instance: process.instance.clone(),
        state: match (process.is_silent, held.leases) {
            (false, _) => "alive",
            (true, 0) => "gone",
            (true, _) => "silent",
        },
        first_seen_at: rfc3339(process.first_seen_at),
        last_seen_at: rfc3339(process.last_seen_at),
        open_leases: held.leases,
        recalled_leases: held.recalled,
        free_units: held.free_units,
        paid_units: held.paid_units,
        at_risk: held.amount,
    }
}
