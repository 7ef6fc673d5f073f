//! `farebox anomalies`: payments that did not fit their orders, and what is decided about them.

use clap::Subcommand;
use farebox_core::id::AccountId;

use super::account::actor;
use super::failure::Failure;
use super::table::{Column, facts, table};
use super::{OutputArgs, print, print_json};
use crate::app::{
    Action, AnomalyFilter, AnomalyPage, AnomalyState, AnomalyView, App, Resolution, ResolutionView,
};

#[derive(Debug, Subcommand)]
pub(super) enum AnomaliesCommand {
    /// List payments that did not fit their orders, the newest first, a page at a time.
    List {
        /// Only those in this state: open or resolved.
        #[arg(long)]
        state: Option<AnomalyState>,
        /// How many at most, 1 to 200.
        #[arg(long)]
        limit: Option<u32>,
        /// Go on where the page before ended.
        #[arg(long)]
        cursor: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show one: what the order says, what came, and what may be done.
    Show {
        /// Its number.
        anomaly: i64,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Decide about one, once.
    Resolve {
        /// Its number.
        anomaly: i64,
        /// What is done: dismiss (nothing is owed), credit (what was paid goes to the order's account), refund_at_provider (the
        /// payer got it back there, by hand).
        #[arg(long)]
        action: Action,
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
        /// Whom to credit, where there is no order that says it.
        #[arg(long)]
        account: Option<AccountId>,
        #[command(flatten)]
        output: OutputArgs,
    },
}

pub(super) async fn execute(command: AnomaliesCommand, app: &App) -> Result<(), Failure> {
    match command {
        AnomaliesCommand::List { state, limit, cursor, output } => {
            list(app, &AnomalyFilter { state, limit, cursor }, output).await
        }
        AnomaliesCommand::Show { anomaly, output } => show(&app.anomaly(anomaly).await?, output),
        AnomaliesCommand::Resolve { anomaly, action, reason, account, output } => {
            let resolution = Resolution { anomaly, action, account, reason, actor: actor() };
            show(&app.resolve(&resolution).await?, output)
        }
    }
}

pub(super) async fn list(
    app: &App,
    filter: &AnomalyFilter,
    output: OutputArgs,
) -> Result<(), Failure> {
    let page = app.anomalies(filter).await?;
    if output.json { print_json(&page) } else { print(&describe_page(&page)) }
}

fn show(anomaly: &AnomalyView, output: OutputArgs) -> Result<(), Failure> {
    if output.json { print_json(anomaly) } else { print(&describe(anomaly)) }
}

fn describe_page(page: &AnomalyPage) -> String {
    if page.anomalies.is_empty() {
        return "no anomalies\n".to_owned();
    }
    let columns = [
        Column::Number("id"),
        Column::Text("last seen at"),
        Column::Number("times"),
        Column::Text("state"),
        Column::Text("does not fit"),
        Column::Text("order"),
        Column::Text("payment"),
        Column::Text("expected"),
        Column::Text("found"),
    ];
    let rows = page.anomalies.iter().map(|anomaly| {
        vec![
            anomaly.id.to_string(),
            anomaly.last_seen_at.clone(),
            anomaly.times_seen.to_string(),
            decided(anomaly),
            anomaly.kind.clone(),
            anomaly.order_id.clone(),
            anomaly.payment_id.clone(),
            in_short(&anomaly.expected),
            in_short(&anomaly.found),
        ]
    });
    let mut text = table(&columns, rows);
    if let Some(cursor) = &page.next_cursor {
        text.push_str(&format!("\nthere are older ones: --cursor {cursor}\n"));
    }
    text
}

/// `open`, or what was decided.
fn decided(anomaly: &AnomalyView) -> String {
    let resolution = anomaly.resolution.as_ref();
    resolution.map_or_else(|| anomaly.state.to_string(), |resolution| resolution.action.clone())
}

fn describe(anomaly: &AnomalyView) -> String {
    let mut lines = vec![
        ("anomaly", anomaly.id.to_string()),
        ("does not fit", anomaly.kind.clone()),
        ("order", anomaly.order_id.clone()),
        ("payment", anomaly.payment_id.clone()),
        ("expected", in_short(&anomaly.expected)),
        ("found", in_short(&anomaly.found)),
        ("seen", format!("{} times", anomaly.times_seen)),
        ("first seen at", anomaly.first_seen_at.clone()),
        ("last seen at", anomaly.last_seen_at.clone()),
        ("state", decided(anomaly)),
    ];
    if let Some(ResolutionView { account, reason, by, at, .. }) = &anomaly.resolution {
        if let Some(account) = account {
            lines.push(("credited", account.clone()));
        }
        lines.push(("decided", format!("{at} by {by}")));
        lines.push(("reason", reason.split_whitespace().collect::<Vec<_>>().join(" ")));
    } else {
        let actions: Vec<&str> = anomaly.actions.iter().map(|action| action.as_str()).collect();
        lines.push(("possible", actions.join(", ")));
    }
    facts(&lines)
}

/// What an order or its news says, without the ids that stand beside it: `10 CNY of ada, pending`.
fn in_short(said: &serde_json::Value) -> String {
    let text = |name: &str| said[name].as_str();
    let Some(amount) = text("amount") else { return "-".to_owned() };
    let mut short = format!("{amount} {}", text("currency").unwrap_or("-"));
    if let Some(user) = text("user_id") {
        short.push_str(&format!(" of {user}"));
    }
    if let Some(state) = text("state").or(text("status")) {
        short.push_str(&format!(", {state}"));
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anomaly() -> AnomalyView {
        AnomalyView {
            id: 1,
            kind: "amount".to_owned(),
            state: AnomalyState::Open,
            order_id: "recharge_1".to_owned(),
            payment_id: "PAY1".to_owned(),
            expected: serde_json::json!({
                "payment_id": "PAY1", "amount": "10", "currency": "CNY", "user_id": "ada", "state": "pending",
            }),
            found: serde_json::json!({
                "payment_id": "PAY1", "amount": "100", "currency": "CNY", "user_id": null, "status": "SUCCESS",
            }),
            times_seen: 2,
            first_seen_at: "2026-11-22T14:00:00.000Z".to_owned(),
            last_seen_at: "2026-11-22T14:00:31.000Z".to_owned(),
            actions: vec![Action::Dismiss, Action::Credit],
            resolution: None,
        }
    }

    fn resolved() -> AnomalyView {
        let resolution = ResolutionView {
            action: "credit".to_owned(),
            account: Some("ada".to_owned()),
            reason: "she paid\ntwice".to_owned(),
            by: "token:ann".to_owned(),
            at: "2026-11-22T15:00:00.000Z".to_owned(),
        };
        AnomalyView {
            id: 2,
            kind: "unknown_order".to_owned(),
            expected: serde_json::Value::Null,
            state: AnomalyState::Resolved,
            actions: vec![],
            resolution: Some(resolution),
            ..anomaly()
        }
    }

    #[test]
    fn a_page_says_what_was_expected_what_came_and_what_was_decided() {
        let page = AnomalyPage {
            anomalies: vec![resolved(), anomaly()],
            next_cursor: Some("1".to_owned()),
        };
        insta::assert_snapshot!(describe_page(&page), @r"
        id  last seen at              times  state   does not fit   order       payment  expected                found
         2  2026-11-22T14:00:31.000Z      2  credit  unknown_order  recharge_1  PAY1     -                       100 CNY, SUCCESS
         1  2026-11-22T14:00:31.000Z      2  open    amount         recharge_1  PAY1     10 CNY of ada, pending  100 CNY, SUCCESS

        there are older ones: --cursor 1
        ");
        let nothing = AnomalyPage { anomalies: vec![], next_cursor: None };
        assert_eq!(describe_page(&nothing), "no anomalies\n");
    }

    #[test]
    fn an_anomaly_says_what_may_be_done_or_was() {
        insta::assert_snapshot!(describe(&anomaly()), @r"
        anomaly        1
        does not fit   amount
        order          recharge_1
        payment        PAY1
        expected       10 CNY of ada, pending
        found          100 CNY, SUCCESS
        seen           2 times
        first seen at  2026-11-22T14:00:00.000Z
        last seen at   2026-11-22T14:00:31.000Z
        state          open
        possible       dismiss, credit
        ");
        let text = describe(&resolved());
        let end = text.split("state").nth(1).unwrap();
        insta::assert_snapshot!(format!("state{end}"), @r"
        state          credit
        credited       ada
        decided        2026-11-22T15:00:00.000Z by token:ann
        reason         she paid twice
        ");
    }
}
