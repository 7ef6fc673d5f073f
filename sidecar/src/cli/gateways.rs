//! `farebox gateways` and `farebox leases`: who is alive, who holds what, and asking for it back.

use clap::{Args, Subcommand};
use farebox_core::id::{AccountId, GatewayId, ServiceName};

use super::account::actor;
use super::failure::Failure;
use super::table::{Column, facts, table};
use super::{OutputArgs, print, print_json};
use crate::app::{App, GatewayFilter, GatewayPage, LeaseFilter, LeasePage, LeaseView};

#[derive(Debug, Args)]
pub(super) struct GatewaysArgs {
    /// How many at most, 1 to 200.
    #[arg(long)]
    limit: Option<u32>,
    /// Go on where the page before ended.
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct LeasesArgs {
    #[command(subcommand)]
    command: Option<LeasesCommand>,
    #[command(flatten)]
    filter: LeaseFilterArgs,
}

#[derive(Debug, Args)]
struct LeaseFilterArgs {
    /// Only this gateway's.
    #[arg(long)]
    gateway: Option<GatewayId>,
    /// Only units of this account.
    #[arg(long)]
    account: Option<AccountId>,
    /// Only for this service.
    #[arg(long)]
    service: Option<ServiceName>,
    /// How many at most, 1 to 200.
    #[arg(long)]
    limit: Option<u32>,
    /// Go on where the page before ended.
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum LeasesCommand {
    /// Ask the gateway of a lease to give back what it does not use.
    Recall {
        /// The lease's number.
        lease: u64,
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        output: OutputArgs,
    },
}

pub(super) async fn gateways(args: GatewaysArgs, app: &App) -> Result<(), Failure> {
    let GatewaysArgs { limit, cursor, output } = args;
    let page = app.gateways(&GatewayFilter { limit, cursor }).await?;
    if output.json { print_json(&page) } else { print(&describe_gateways(&page)) }
}

pub(super) async fn leases(args: LeasesArgs, app: &App) -> Result<(), Failure> {
    if let Some(LeasesCommand::Recall { lease, reason, output }) = args.command {
        let lease = app.recall(lease, &reason, &actor()).await?;
        return if output.json { print_json(&lease) } else { print(&describe_lease(&lease)) };
    }
    let LeaseFilterArgs { gateway, account, service, limit, cursor, output } = args.filter;
    let page = app.leases(&LeaseFilter { gateway, account, service, limit, cursor }).await?;
    if output.json { print_json(&page) } else { print(&describe_leases(&page)) }
}

fn describe_gateways(page: &GatewayPage) -> String {
    if page.gateways.is_empty() {
        return "no gateways\n".to_owned();
    }
    let columns = [
        Column::Text("gateway"),
        Column::Number("epoch"),
        Column::Text("state"),
        Column::Text("last seen at"),
        Column::Number("leases"),
        Column::Number("recalled"),
        Column::Number("free units"),
        Column::Number("paid units"),
        Column::Number("at risk"),
        Column::Text("instance"),
    ];
    let rows = page.gateways.iter().map(|gateway| {
        vec![
            gateway.gateway.clone(),
            gateway.epoch.to_string(),
            gateway.state.to_owned(),
            gateway.last_seen_at.clone(),
            gateway.open_leases.to_string(),
            gateway.recalled_leases.to_string(),
            gateway.free_units.to_string(),
            gateway.paid_units.to_string(),
            gateway.at_risk.to_string(),
            gateway.instance.clone(),
        ]
    });
    with_cursor(table(&columns, rows), page.next_cursor.as_deref(), "further")
}

fn describe_leases(page: &LeasePage) -> String {
    if page.leases.is_empty() {
        return "no open leases\n".to_owned();
    }
    let columns = [
        Column::Number("lease"),
        Column::Text("gateway"),
        Column::Number("epoch"),
        Column::Text("account"),
        Column::Text("service"),
        Column::Number("price"),
        Column::Number("free held"),
        Column::Number("paid held"),
        Column::Number("in flight"),
        Column::Number("held"),
        Column::Text("renewed at"),
        Column::Text("reclaim at"),
        Column::Text("not after"),
        Column::Text("recalled"),
    ];
    let rows = page.leases.iter().map(|lease| {
        vec![
            lease.id.to_string(),
            lease.gateway.clone(),
            lease.epoch.to_string(),
            lease.account.clone(),
            lease.service.clone(),
            lease.price.to_string(),
            lease.free_held.to_string(),
            lease.paid_held.to_string(),
            lease.in_flight.to_string(),
            lease.held.to_string(),
            lease.renewed_at.clone(),
            lease.reclaim_at.clone(),
            lease.not_after.clone().unwrap_or_else(|| "-".to_owned()),
            yes_or_no(lease.recalled).to_owned(),
        ]
    });
    with_cursor(table(&columns, rows), page.next_cursor.as_deref(), "older")
}

fn describe_lease(lease: &LeaseView) -> String {
    let units = |free: u64, paid: u64| format!("{free} free, {paid} paid");
    facts(&[
        ("lease", lease.id.to_string()),
        ("gateway", format!("{} epoch {}", lease.gateway, lease.epoch)),
        ("account", lease.account.clone()),
        ("service", format!("{} at {}", lease.service, lease.price)),
        ("granted", units(lease.free_granted, lease.paid_granted)),
        ("used", units(lease.free_used, lease.paid_used)),
        ("returned", units(lease.free_returned, lease.paid_returned)),
        ("held", format!("{}: {}", units(lease.free_held, lease.paid_held), lease.held)),
        ("in flight", lease.in_flight.to_string()),
        ("recalled", yes_or_no(lease.recalled).to_owned()),
    ])
}

fn yes_or_no(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}

fn with_cursor(mut text: String, cursor: Option<&str>, which: &str) -> String {
    if let Some(cursor) = cursor {
        text.push_str(&format!("\nthere are {which} ones: --cursor {cursor}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::GatewayView;

    #[test]
    fn gateways_read_well() {
        let gateway = GatewayView {
            gateway: "edge-1".to_owned(),
            epoch: 2,
            instance: "0123456789abcdef0123456789abcdef".to_owned(),
            state: "silent",
            first_seen_at: "2026-11-22T14:00:00.000Z".to_owned(),
            last_seen_at: "2026-11-22T14:00:31.000Z".to_owned(),
            open_leases: 3,
            recalled_leases: 1,
            free_units: 20,
            paid_units: 100,
            at_risk: "0.25".parse().unwrap(),
        };
        let page = GatewayPage { gateways: vec![gateway], next_cursor: Some("MTIz".to_owned()) };
        insta::assert_snapshot!(describe_gateways(&page), @r"
        gateway  epoch  state   last seen at              leases  recalled  free units  paid units  at risk  instance
        edge-1       2  silent  2026-11-22T14:00:31.000Z       3         1          20         100     0.25  0123456789abcdef0123456789abcdef

        there are further ones: --cursor MTIz
        ");
        let nothing = GatewayPage { gateways: vec![], next_cursor: None };
        assert_eq!(describe_gateways(&nothing), "no gateways\n");
    }

    fn lease() -> LeaseView {
        LeaseView {
            id: 7,
            gateway: "edge-1".to_owned(),
            epoch: 2,
            account: "ada".to_owned(),
            service: "asset".to_owned(),
            price: "0.0025".parse().unwrap(),
            is_route_price: false,
            month: "2026-11".to_owned(),
            free_granted: 20,
            paid_granted: 100,
            free_used: 20,
            paid_used: 30,
            free_returned: 0,
            paid_returned: 10,
            in_flight: 2,
            free_held: 0,
            paid_held: 60,
            held: "0.15".parse().unwrap(),
            renewed_at: "2026-11-22T14:00:30.000Z".to_owned(),
            reclaim_at: "2026-11-22T14:00:50.000Z".to_owned(),
            not_after: None,
            recalled: true,
        }
    }

    #[test]
    fn leases_read_well() {
        let page = LeasePage { leases: vec![lease()], next_cursor: None };
        insta::assert_snapshot!(describe_leases(&page), @r"
        lease  gateway  epoch  account  service   price  free held  paid held  in flight  held  renewed at                reclaim at                not after  recalled
            7  edge-1       2  ada      asset    0.0025          0         60          2  0.15  2026-11-22T14:00:30.000Z  2026-11-22T14:00:50.000Z  -          yes
        ");
        insta::assert_snapshot!(describe_lease(&lease()), @r"
        lease      7
        gateway    edge-1 epoch 2
        account    ada
        service    asset at 0.0025
        granted    20 free, 100 paid
        used       20 free, 30 paid
        returned   0 free, 10 paid
        held       0 free, 60 paid: 0.15
        in flight  2
        recalled   yes
        ");
    }
}
