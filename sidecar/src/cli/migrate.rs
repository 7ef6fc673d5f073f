//! `farebox migrate`: the schema of this program, or the tables of billing-service taken over.

use std::fmt::Display;

use clap::Args;

use super::account::actor;
use super::failure::Failure;
use super::table::{Column, facts, table};
use super::{print, print_json};
use crate::app::{Takeover, TakeoverNote};
use crate::assembly::assemble;
use crate::config::Config;
use crate::store::Store;
use crate::store::predecessor::survey::{OrderSum, QuotaSum, RecordSum, Totals};

#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// Say what taking over billing-service's tables would do. Changes nothing without --apply.
    #[arg(long)]
    from_predecessor: bool,
    /// Take them over as this plan says, which was shown before; run again after an interruption, it goes on.
    #[arg(long, value_name = "PLAN", requires = "from_predecessor")]
    apply: Option<String>,
    /// Write JSON instead of text, to be filed.
    #[arg(long, requires = "from_predecessor")]
    json: bool,
}

pub(super) async fn execute(
    args: &MigrateArgs,
    config: &Config,
    store: &Store,
) -> Result<(), Failure> {
    if !args.from_predecessor {
        return migrate(config, store).await;
    }
    for warning in config.warnings.iter().filter(|_| !args.json) {
        eprintln!("warning: {warning}");
    }
    let (app, _) = assemble(config, store.clone())?;
    let takeover = match &args.apply {
        None => app.plan_takeover().await?,
        Some(plan) => app.take_over(plan, &actor()).await?,
    };
    if args.json { print_json(&takeover) } else { print(&describe(&takeover)) }
}

async fn migrate(config: &Config, store: &Store) -> Result<(), Failure> {
    let applied = store.migrate().await?;
    let (app, _) = assemble(config, store.clone())?;
    let summed_up = app.begin_statistics().await?;
    print(&match applied {
        0 => "the schema is up to date\n".to_owned(),
        1 => "1 migration applied\n".to_owned(),
        count => format!("{count} migrations applied\n"),
    })?;
    match summed_up {
        0 => Ok(()),
        sums => print(&format!("statistics begin with {sums} sums of earlier usage\n")),
    }
}

fn describe(takeover: &Takeover) -> String {
    let Takeover { plan, state, found, expected, result, .. } = takeover;
    let mut text = facts(&[
        ("plan", format!("{plan} ({state})")),
        ("billing-service", format!("{}: {}", takeover.generation, takeover.recognised_by)),
        ("currency", takeover.currency.clone()),
        ("users", found.users.to_string()),
    ]);
    text.push_str(&section(
        "found: accounts",
        table(&[Column::Text("balances"), Column::Number("accounts"), Column::Number("sum")], {
            let accounts = &found.accounts;
            let zero = accounts.rows - accounts.positive_rows - accounts.negative_rows;
            [
                row(&[&"above 0", &accounts.positive_rows, &accounts.positive]),
                row(&[&"0", &zero, &0]),
                row(&[&"below 0", &accounts.negative_rows, &accounts.negative]),
            ]
        }),
    ));
    text.push_str(&before_and_after(takeover, result.as_ref().unwrap_or(expected)));
    text.push_str(&notes("to be mended first", &takeover.first));
    let steps = takeover.steps.iter().enumerate().map(|(index, step)| {
        let rows = if step.rows == 0 { String::new() } else { format!(" ({} rows)", step.rows) };
        format!("{}. {}{rows}\n", index + 1, step.what)
    });
    text.push_str(&section(
        if result.is_some() { "was done" } else { "will be done" },
        steps.collect(),
    ));
    text.push_str(&notes("means something else from then on", &takeover.changes));
    text.push_str(&section(
        "to know",
        takeover.remarks.iter().map(|line| format!("- {line}\n")).collect(),
    ));
    text.push_str(&section(
        "way back, as long as nothing has been served (it throws away what Farebox did)",
        takeover.way_back.iter().map(|line| format!("{line}\n")).collect(),
    ));
    text.push('\n');
    text.push_str(&ending(takeover));
    text
}

/// Sums of quotas, records and orders as they were found and as they come out.
fn before_and_after(takeover: &Takeover, after: &Totals) -> String {
    let found = &takeover.found;
    let is = if takeover.result.is_some() { "now" } else { "then" };
    let mut text = section(
        &format!("{is}: accounts"),
        table(
            &[
                Column::Number("accounts"),
                Column::Number("balances"),
                Column::Number("receivables"),
                Column::Number("opening entries"),
            ],
            [row(&[&after.accounts, &after.balance, &after.receivable, &after.opened])],
        ),
    );
    let quotas = |quotas: &[QuotaSum]| {
        table(
            &[
                Column::Text("month"),
                Column::Text("service"),
                Column::Number("quotas"),
                Column::Number("total"),
                Column::Number("used"),
            ],
            quotas
                .iter()
                .map(|sum| row(&[&sum.month, &sum.service, &sum.rows, &sum.total, &sum.used])),
        )
    };
    text.push_str(&section("found: free quotas", quotas(&found.quotas)));
    text.push_str(&section(&format!("{is}: free quotas"), quotas(&after.quotas)));
    let records = |records: &[RecordSum]| {
        table(
            &[
                Column::Text("paid by"),
                Column::Number("records"),
                Column::Number("units"),
                Column::Number("amount"),
            ],
            records.iter().map(|sum| row(&[&sum.kind, &sum.rows, &sum.units, &sum.amount])),
        )
    };
    text.push_str(&section("found: billing records", records(&found.records)));
    text.push_str(&section(&format!("{is}: billing records"), records(&after.records)));
    let orders = |orders: &[OrderSum]| {
        table(
            &[Column::Text("state"), Column::Number("orders"), Column::Number("amount")],
            orders.iter().map(|sum| row(&[&sum.status, &sum.rows, &sum.amount])),
        )
    };
    text.push_str(&section("found: recharge orders", orders(&found.orders)));
    text.push_str(&section(&format!("{is}: recharge orders"), orders(&after.orders)));
    text
}

fn row(values: &[&dyn Display]) -> Vec<String> {
    values.iter().map(|value| value.to_string()).collect()
}

/// A titled part; nothing when it is empty.
fn section(title: &str, text: String) -> String {
    if text.is_empty() { text } else { format!("\n{title}\n{text}") }
}

fn notes(title: &str, notes: &[TakeoverNote]) -> String {
    let note = |TakeoverNote { rows, meaning, examples, .. }: &TakeoverNote| {
        let more = if (examples.len() as u64) < *rows { ", …" } else { "" };
        format!("- {rows} {meaning}\n  {}{more}\n", examples.join("; "))
    };
    section(title, notes.iter().map(note).collect())
}

fn ending(Takeover { plan, state, first, finished_at, by, .. }: &Takeover) -> String {
    match (state.as_str(), first.is_empty()) {
        ("planned", true) => format!(
            "nothing was changed; stop billing-service, then: farebox migrate --from-predecessor --apply {plan}\n"
        ),
        ("planned", false) => {
            "nothing was changed; mend the rows above, then plan again\n".to_owned()
        }
        ("begun", _) => {
            format!("half done; go on with: farebox migrate --from-predecessor --apply {plan}\n")
        }
        _ => format!(
            "done at {} by {}: the sums are those that were planned, and every rule of the books holds\n",
            finished_at.as_deref().unwrap_or_default(),
            by.as_deref().unwrap_or_default()
        ),
    }
}
