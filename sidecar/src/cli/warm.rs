//! `farebox warm`: has the database read what the first calls after a restart or a switch-over will ask for.

use clap::Args;

use super::failure::Failure;
use super::table::facts;
use super::{OutputArgs, print, print_json};
use crate::app::{App, Warmed};

#[derive(Debug, Args)]
pub(super) struct WarmArgs {
    /// How many accounts at most: those that changed most recently.
    #[arg(long, default_value_t = 100_000)]
    accounts: u32,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn execute(args: WarmArgs, app: &App) -> Result<(), Failure> {
    let WarmArgs { accounts, output } = args;
    let warmed = app.warm(accounts).await?;
    if output.json { print_json(&warmed) } else { print(&describe(&warmed)) }
}

fn describe(warmed: &Warmed) -> String {
    let Warmed { accounts, free_quotas, leases, took_ms } = warmed;
    facts(&[
        ("accounts", accounts.to_string()),
        ("free quotas", free_quotas.to_string()),
        ("open leases", leases.to_string()),
        ("took", format!("{took_ms} ms")),
    ])
}
