//! `farebox prices`: what holds, what a change would do, the change, and what held before.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use farebox_core::id::{AccountId, ServiceName};
use serde::Serialize;

use super::account::actor;
use super::failure::Failure;
use super::table::{Column, table};
use super::{OutputArgs, print, print_json};
use crate::app::{App, PricePlan, PriceView, Repriced, Repricing};
use crate::config::price_file;

#[derive(Debug, Subcommand)]
pub(super) enum PricesCommand {
    /// Show the prices that hold, for everybody and for single accounts.
    Show {
        /// At this moment, RFC 3339; without it, now.
        #[arg(long, value_name = "TIME", value_parser = price_file::moment)]
        at: Option<DateTime<Utc>>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show what a file of prices would change, and what last month's usage would have come to. Changes nothing.
    Plan {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Set the prices of a file, now or from the moment that it says.
    Apply {
        /// The file.
        file: PathBuf,
        /// Why, for the audit log.
        #[arg(long, default_value = "no reason given")]
        reason: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show every price version: what held, holds and is to come.
    History {
        /// Of this service only.
        service: Option<ServiceName>,
        #[command(flatten)]
        output: OutputArgs,
    },
}

pub(super) async fn execute(command: PricesCommand, app: &App) -> Result<(), Failure> {
    match command {
        PricesCommand::Show { at, output } => {
            let mut prices = match at {
                Some(at) => app.prices_at(at).await?,
                None => app.prices().await?,
            };
            prices.retain(|version| version.active);
            show(&prices, output)
        }
        PricesCommand::History { service, output } => {
            let mut prices = app.prices().await?;
            let is_wanted = |version: &PriceView| {
                service.as_ref().is_none_or(|service| service.as_str() == version.service)
            };
            prices.retain(is_wanted);
            show(&prices, output)
        }
        PricesCommand::Plan { file, output } => {
            let change = price_file::load(&file)?;
            let (plan, last_month) = app.plan_prices(&change).await?;
            if output.json {
                return print_json(&Planned { plan, last_month });
            }
            print(&(describe_plan(&plan) + &describe_repricing(&last_month)))
        }
        PricesCommand::Apply { file, reason, output } => {
            let change = price_file::load(&file)?;
            let plan = app.apply_prices(&change, &reason, &actor()).await?;
            if output.json { print_json(&plan) } else { print(&describe_plan(&plan)) }
        }
    }
}

#[derive(Debug, Serialize)]
struct Planned {
    #[serde(flatten)]
    plan: PricePlan,
    last_month: Repricing,
}

fn show(prices: &[PriceView], output: OutputArgs) -> Result<(), Failure> {
    if output.json { print_json(&prices) } else { print(&describe(prices)) }
}

fn describe(prices: &[PriceView]) -> String {
    if prices.is_empty() {
        return "no prices; `farebox serve` takes them from billing.prices\n".to_owned();
    }
    let mut columns = vec![
        Column::Text("service"),
        Column::Text("source"),
        Column::Number("price"),
        Column::Text("set by"),
        Column::Text("from"),
        Column::Text("until"),
        Column::Text("in force"),
    ];
    let names_accounts = prices.iter().any(|version| version.account.is_some());
    if names_accounts {
        columns.insert(1, Column::Text("account"));
    }
    let rows = prices.iter().map(|version| {
        let PriceView { service, source, account, price, set_by, effective_from, .. } = version;
        let until = version.effective_to.as_deref().unwrap_or("-");
        let in_force = if version.active { "yes" } else { "no" };
        let mut row = vec![
            service.clone(),
            source.clone(),
            price.to_string(),
            set_by.clone(),
            effective_from.clone(),
            until.to_owned(),
            in_force.to_owned(),
        ];
        if names_accounts {
            row.insert(1, whose(account.as_ref()));
        }
        row
    });
    table(&columns, rows)
}

/// Whose price it is.
fn whose(account: Option<&AccountId>) -> String {
    account.map_or_else(|| "everybody".to_owned(), AccountId::to_string)
}

fn describe_plan(plan: &PricePlan) -> String {
    if plan.changes.is_empty() {
        return "nothing changes\n".to_owned();
    }
    let mut columns = vec![
        Column::Text("service"),
        Column::Number("price before"),
        Column::Number("price"),
        Column::Text("from"),
        Column::Text("until"),
    ];
    let names_accounts = plan.changes.iter().any(|change| change.account.is_some());
    if names_accounts {
        columns.insert(1, Column::Text("account"));
    }
    let rows = plan.changes.iter().map(|change| {
        let before = change.from.as_ref().map_or("-".to_owned(), ToString::to_string);
        let until = change.until.clone().unwrap_or_else(|| "-".to_owned());
        let service = change.service.to_string();
        let mut row = vec![service, before, change.to.to_string(), plan.effective.clone(), until];
        if names_accounts {
            row.insert(1, whose(change.account.as_ref()));
        }
        row
    });
    table(&columns, rows)
}

fn describe_repricing(last_month: &Repricing) -> String {
    let Repricing { month, services, accounts } = last_month;
    if services.is_empty() {
        return format!("\n{month}: these services earned nothing at the price book's prices\n");
    }
    let part = |name, earned, rows: &[Repriced]| {
        let columns = [
            Column::Text(name),
            Column::Number(earned),
            Column::Number("at these prices"),
            Column::Number("difference"),
        ];
        let row = |row: &Repriced| {
            let Repriced { name, earned, would_have_earned, difference } = row.clone();
            vec![name, earned, would_have_earned, difference]
        };
        table(&columns, rows.iter().map(row))
    };
    format!(
        "\nusage of {month}:\n{}\naccounts that it would change most:\n{}",
        part("service", "earned", services),
        part("account", "paid", accounts)
    )
}
