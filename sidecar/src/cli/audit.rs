//! `farebox audit`.

use chrono::{DateTime, Utc};
use clap::Args;
use farebox_core::id::AccountId;

use super::failure::Failure;
use super::table::{Column, table};
use super::{OutputArgs, print, print_json};
use crate::app::{App, AuditFilter, AuditPage};
use crate::config::price_file;

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Only what was done to this account or to one of its orders.
    #[arg(long)]
    account: Option<AccountId>,
    /// Only what this operator did, as the column "by" names them.
    #[arg(long)]
    by: Option<String>,
    /// Only what was done at this moment or later, such as 2026-01-31T00:00:00Z.
    #[arg(long, value_parser = price_file::moment)]
    since: Option<DateTime<Utc>>,
    /// How many at most, 1 to 200.
    #[arg(long)]
    limit: Option<u32>,
    /// Go on where the page before ended.
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn execute(args: AuditArgs, app: &App) -> Result<(), Failure> {
    let AuditArgs { account, by, since, limit, cursor, output } = args;
    let page = app.audit(&AuditFilter { account, by, since, limit, cursor }).await?;
    if output.json { print_json(&page) } else { print(&describe(&page)) }
}

fn describe(page: &AuditPage) -> String {
    if page.actions.is_empty() {
        return "nobody did anything\n".to_owned();
    }
    let columns = ["at", "by", "action", "subject", "reason", "before", "after"].map(Column::Text);
    let rows = page.actions.iter().map(|action| {
        vec![
            action.at.clone(),
            action.by.clone(),
            action.action.clone(),
            action.subject.clone(),
            // A reason may have several lines; a row has one.
            action.reason.split_whitespace().collect::<Vec<_>>().join(" "),
            action.before.to_string(),
            action.after.to_string(),
        ]
    });
    let mut text = table(&columns, rows);
    if let Some(cursor) = &page.next_cursor {
        text.push_str(&format!("\nthere are older ones: --cursor {cursor}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::AuditView;

    #[test]
    fn an_action_is_one_line_and_older_ones_are_told_of() {
        let action = AuditView {
            id: 7,
            at: "2026-01-31T08:00:00.000Z".to_owned(),
            by: "cli:ann".to_owned(),
            action: "account.credit".to_owned(),
            subject: "u1".to_owned(),
            reason: "paid\nin cash".to_owned(),
            before: serde_json::json!({"balance": "0"}),
            after: serde_json::json!({"balance": "10.5"}),
        };
        let page = AuditPage { actions: vec![action], next_cursor: Some("7".to_owned()) };
        insta::assert_snapshot!(describe(&page), @r#"
        at                        by       action          subject  reason        before           after
        2026-01-31T08:00:00.000Z  cli:ann  account.credit  u1       paid in cash  {"balance":"0"}  {"balance":"10.5"}

        there are older ones: --cursor 7
        "#);
        let nothing = AuditPage { actions: Vec::new(), next_cursor: None };
        assert_eq!(describe(&nothing), "nobody did anything\n");
    }
}
