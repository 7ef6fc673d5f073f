//! `farebox prices show`.

use clap::Subcommand;

use super::failure::Failure;
use super::table::{Column, table};
use super::{OutputArgs, print, print_json};
use crate::app::{App, PriceView};

#[derive(Debug, Subcommand)]
pub(super) enum PricesCommand {
    /// Show every price version.
    Show {
        #[command(flatten)]
        output: OutputArgs,
    },
}

pub(super) async fn execute(command: PricesCommand, app: &App) -> Result<(), Failure> {
    let PricesCommand::Show { output } = command;
    let prices = app.prices().await?;
    if output.json { print_json(&prices) } else { print(&describe(&prices)) }
}

fn describe(prices: &[PriceView]) -> String {
    if prices.is_empty() {
        return "no prices; `farebox serve` takes them from billing.prices\n".to_owned();
    }
    let columns = [
        Column::Text("service"),
        Column::Text("source"),
        Column::Number("price"),
        Column::Text("from"),
        Column::Text("until"),
        Column::Text("in force"),
    ];
    let rows = prices.iter().map(|version| {
        let PriceView { service, source, price, effective_from, effective_to, active } = version;
        let until = effective_to.as_deref().unwrap_or("-");
        let in_force = if *active { "yes" } else { "no" };
        vec![
            service.clone(),
            source.clone(),
            price.to_string(),
            effective_from.clone(),
            until.to_owned(),
            in_force.to_owned(),
        ]
    });
    table(&columns, rows)
}
