//! `farebox quotas plan` and `farebox quotas apply`.

use clap::{Args, Subcommand};
use farebox_core::id::{AccountId, ServiceName};

use super::account::actor;
use super::failure::Failure;
use super::table::{Column, table};
use super::{OutputArgs, print, print_json};
use crate::app::{App, QuotaChanges, QuotaFilter, ServiceQuotaChanges};

#[derive(Debug, Subcommand)]
pub(super) enum QuotasCommand {
    /// Tell what `apply` would change; changes nothing.
    Plan {
        #[command(flatten)]
        selection: SelectionArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Set this month's free quotas that are in use already to what billing.free_quotas gives; none below what is used and held.
    Apply {
        #[command(flatten)]
        selection: SelectionArgs,
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Whose free quotas.
#[derive(Debug, Args)]
pub(super) struct SelectionArgs {
    /// Those of this service only.
    #[arg(long)]
    service: Option<ServiceName>,
    /// Those of this account only.
    #[arg(long, value_name = "USER")]
    account: Option<AccountId>,
}

impl From<SelectionArgs> for QuotaFilter {
    fn from(SelectionArgs { service, account }: SelectionArgs) -> Self {
        Self { service, account }
    }
}

pub(super) async fn execute(command: QuotasCommand, app: &App) -> Result<(), Failure> {
    let (changes, output, said) = match command {
        QuotasCommand::Plan { selection, output } => {
            (app.plan_quotas(&selection.into()).await?, output, "would change")
        }
        QuotasCommand::Apply { selection, reason, output } => {
            let changes = app.apply_quotas(&selection.into(), &reason, &actor()).await?;
            (changes, output, "changed")
        }
    };
    if output.json { print_json(&changes) } else { print(&describe(&changes, said)) }
}

fn describe(changes: &QuotaChanges, said: &str) -> String {
    let columns = [
        Column::Text("service"),
        Column::Number("units per month"),
        Column::Number("raised"),
        Column::Number("lowered"),
        Column::Number("of these above"),
    ];
    let rows = changes.services.iter().map(|changes| {
        let ServiceQuotaChanges { service, total, raised, lowered, above } = changes;
        let numbers = [total, raised, lowered, above].map(u64::to_string);
        [service.to_string()].into_iter().chain(numbers).collect()
    });
    let sum: u64 = changes.services.iter().map(|service| service.raised + service.lowered).sum();
    let month = &changes.month;
    format!("{}\nfree quotas of {month} that {said}: {sum}\n", table(&columns, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_by_service() {
        let service = |name: &str, total, raised, lowered, above| ServiceQuotaChanges {
            service: name.parse().unwrap(),
            total,
            raised,
            lowered,
            above,
        };
        let services = vec![service("asset", 100, 7, 0, 0), service("mail", 5, 0, 3, 1)];
        let changes = QuotaChanges { month: "2026-11".to_owned(), services };
        insta::assert_snapshot!(describe(&changes, "changed"), @r"
        service  units per month  raised  lowered  of these above
        asset                100       7        0               0
        mail                   5       0        3               1

        free quotas of 2026-11 that changed: 10
        ");
    }
}
