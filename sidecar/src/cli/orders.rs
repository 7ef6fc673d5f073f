//! `farebox orders`: look at recharge orders, give money back, import what the predecessor left in Redis.

use clap::Subcommand;
use farebox_core::id::AccountId;
use farebox_core::money::Nanos;
use farebox_core::order::State;
use serde::Serialize;

use super::account::{actor, random_key};
use super::anomalies;
use super::failure::Failure;
use super::table::{Column, facts, table};
use super::{OutputArgs, print, print_json};
use crate::app::{
    AnomalyFilter, App, ImportReport, NewRefund, OrderFilter, OrderView, Page, RefundError,
    RefundView,
};

#[derive(Debug, Subcommand)]
pub(super) enum OrdersCommand {
    /// List orders, newest first.
    List {
        /// Only this user's.
        #[arg(long)]
        user: Option<AccountId>,
        /// Only those in this state: pending, paid, failed, closed, partly_refunded or refunded.
        #[arg(long)]
        state: Option<State>,
        /// How many, 1 to 200.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Where the list before ended, as it says itself.
        #[arg(long)]
        cursor: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show one order.
    Show {
        /// The order's id.
        order: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Give money of a paid order back to its payer.
    Refund {
        /// The order's id.
        order: String,
        /// How much; all that is left when it is not said.
        #[arg(long)]
        amount: Option<Nanos>,
        /// Why, for the audit log and the payment service.
        #[arg(long)]
        reason: String,
        /// Refund also what the account has spent already: it then owes that.
        #[arg(long)]
        allow_receivable: bool,
        /// Your name for this refund: repeated with the same key, it is made once. Without one, a random key is used.
        #[arg(long)]
        key: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List payments that did not fit their orders, as `farebox anomalies list` does.
    Anomalies {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Move the orders that the predecessor left in Redis into the database, as pending ones. Remove those that it has credited
    /// before: it did not note that.
    ImportLegacy {
        #[command(flatten)]
        output: OutputArgs,
    },
}

pub(super) async fn execute(command: OrdersCommand, app: &App) -> Result<(), Failure> {
    match command {
        OrdersCommand::List { user, state, limit, cursor, output } => {
            let filter = OrderFilter { account: user, state, limit: Some(limit), cursor };
            let page = app.orders(&filter).await?;
            if output.json { print_json(&page) } else { print(&describe_page(&page)) }
        }
        OrdersCommand::Show { order, output } => {
            let order = app.order_with_refunds(&order).await?;
            if output.json {
                return print_json(&order);
            }
            print(&format!("{}{}", describe(&order.order), describe_refunds(&order.refunds)))
        }
        OrdersCommand::Refund { order, amount, reason, allow_receivable, key, output } => {
            let key = key.unwrap_or_else(random_key);
            let actor = actor();
            let new = NewRefund { order_id: order, amount, reason, key, actor, allow_receivable };
            refund(app, &new, output).await
        }
        OrdersCommand::Anomalies { output } => {
            anomalies::list(app, &AnomalyFilter::default(), output).await
        }
        OrdersCommand::ImportLegacy { output } => {
            let report = app.import_legacy_orders().await?;
            if output.json { print_json(&report) } else { print(&describe_import(&report)) }
        }
    }
}

/// A refund together with the key under which it can be asked for again.
#[derive(Debug, Serialize)]
struct Made<'r> {
    key: &'r str,
    #[serde(flatten)]
    refund: &'r RefundView,
}

async fn refund(app: &App, new: &NewRefund, output: OutputArgs) -> Result<(), Failure> {
    let refund = app.refund(new).await.map_err(|err| match err {
        RefundError::Store(problem) => Failure::Unknown { key: new.key.clone(), problem },
        err => Failure::Refund(err),
    })?;
    if output.json {
        return print_json(&Made { key: &new.key, refund: &refund });
    }
    print(&describe_refund(&refund, &new.key))
}

fn describe_page(page: &Page) -> String {
    if page.orders.is_empty() {
        return "no orders\n".to_owned();
    }
    let columns = [
        Column::Text("made at"),
        Column::Text("order"),
        Column::Text("user"),
        Column::Text("state"),
        Column::Number("amount"),
        Column::Number("refunded"),
        Column::Text("currency"),
        Column::Text("method"),
        Column::Text("payment"),
    ];
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let rows = page.orders.iter().map(|order| {
        vec![
            order.created_at.clone(),
            order.order_id.clone(),
            order.user_id.clone(),
            order.state.to_string(),
            order.amount.to_string(),
            order.refunded_amount.to_string(),
            order.currency.clone(),
            or_dash(&order.payment_method),
            or_dash(&order.payment_id),
        ]
    });
    let mut text = table(&columns, rows);
    if let Some(cursor) = &page.next_cursor {
        text.push_str(&format!("\nmore: --cursor {cursor}\n"));
    }
    text
}

fn describe(order: &OrderView) -> String {
    let money = |amount: Nanos| format!("{amount} {}", order.currency);
    let mut lines = vec![
        ("order", order.order_id.clone()),
        ("user", order.user_id.clone()),
        ("state", order.state.to_string()),
        ("amount", money(order.amount)),
        ("refunded", money(order.refunded_amount)),
    ];
    for (name, value) in [
        ("method", &order.payment_method),
        ("payment", &order.payment_id),
        ("payment page", &order.payment_url),
        ("failure", &order.failure),
        ("paid at", &order.paid_at),
        ("credited at", &order.credited_at),
    ] {
        if let Some(value) = value {
            lines.push((name, value.clone()));
        }
    }
    lines.push(("made at", order.created_at.clone()));
    lines.push(("changed at", order.updated_at.clone()));
    facts(&lines)
}

fn describe_refunds(refunds: &[RefundView]) -> String {
    if refunds.is_empty() {
        return String::new();
    }
    let columns = [
        Column::Text("refund"),
        Column::Text("state"),
        Column::Number("amount"),
        Column::Number("owed"),
        Column::Text("failure"),
    ];
    let rows = refunds.iter().map(|refund| {
        vec![
            refund.refund_id.clone(),
            refund.state.clone(),
            refund.amount.to_string(),
            refund.owed.to_string(),
            refund.failure.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    format!("\nrefunds\n{}", table(&columns, rows))
}

fn describe_refund(refund: &RefundView, key: &str) -> String {
    let money = |amount: Nanos| format!("{amount} {}", refund.currency);
    let state = match refund.state.as_str() {
        "pending" => {
            "pending: the payment service has not said yet how it ended; the sidecar goes on asking"
                .to_owned()
        }
        state => state.to_owned(),
    };
    let mut lines = vec![
        ("refund", refund.refund_id.clone()),
        ("order", refund.order_id.clone()),
        ("user", refund.user_id.clone()),
        ("state", state),
        ("amount", money(refund.amount)),
    ];
    if refund.owed != Nanos::ZERO {
        lines.push(("owed", format!("{} by the account", money(refund.owed))));
    }
    if let Some(failure) = &refund.failure {
        lines.push(("failure", failure.clone()));
    }
    lines.push(("key", key.to_owned()));
    facts(&lines)
}

fn describe_import(report: &ImportReport) -> String {
    let ImportReport { imported, known, unreadable } = report;
    let mut text = facts(&[
        ("imported", imported.to_string()),
        ("known already", known.to_string()),
        ("unreadable", unreadable.len().to_string()),
    ]);
    for order_id in unreadable {
        text.push_str(&format!("  recharge:order:{order_id} stays in redis: credit it by hand\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> OrderView {
        OrderView {
            order_id: "recharge_1".to_owned(),
            user_id: "ada".to_owned(),
            state: State::Paid,
            amount: "10".parse().unwrap(),
            refunded_amount: Nanos::ZERO,
            currency: "CNY".to_owned(),
            payment_method: Some("alipay".to_owned()),
            payment_id: Some("PAY1".to_owned()),
            payment_url: Some("https://pay.example/PAY1".to_owned()),
            failure: None,
            created_at: "2026-11-22T14:00:00.000Z".to_owned(),
            paid_at: Some("2026-11-22T14:00:30.000Z".to_owned()),
            credited_at: Some("2026-11-22T14:00:31.000Z".to_owned()),
            updated_at: "2026-11-22T14:00:31.000Z".to_owned(),
        }
    }

    #[test]
    fn an_order_reads_well() {
        insta::assert_snapshot!(describe(&order()), @r"
        order         recharge_1
        user          ada
        state         paid
        amount        10 CNY
        refunded      0 CNY
        method        alipay
        payment       PAY1
        payment page  https://pay.example/PAY1
        paid at       2026-11-22T14:00:30.000Z
        credited at   2026-11-22T14:00:31.000Z
        made at       2026-11-22T14:00:00.000Z
        changed at    2026-11-22T14:00:31.000Z
        ");
    }

    #[test]
    fn refunds_of_an_order_read_well() {
        let refund = RefundView {
            refund_id: "refund_1".to_owned(),
            order_id: "recharge_1".to_owned(),
            user_id: "ada".to_owned(),
            state: "pending".to_owned(),
            amount: "4".parse().unwrap(),
            owed: Nanos::ZERO,
            currency: "CNY".to_owned(),
            failure: None,
        };
        insta::assert_snapshot!(describe_refunds(&[refund]), @r"

        refunds
        refund    state    amount  owed  failure
        refund_1  pending       4     0  -
        ");
        assert_eq!(describe_refunds(&[]), "");
    }

    #[test]
    fn a_page_reads_well_and_says_how_to_go_on() {
        let legacy = OrderView { payment_method: None, payment_id: None, ..order() };
        let page = Page { orders: vec![order(), legacy], next_cursor: Some("MTIz".to_owned()) };
        insta::assert_snapshot!(describe_page(&page), @r"
        made at                   order       user  state  amount  refunded  currency  method  payment
        2026-11-22T14:00:00.000Z  recharge_1  ada   paid       10         0  CNY       alipay  PAY1
        2026-11-22T14:00:00.000Z  recharge_1  ada   paid       10         0  CNY       -       -

        more: --cursor MTIz
        ");
        assert_eq!(describe_page(&Page { orders: vec![], next_cursor: None }), "no orders\n");
    }

    #[test]
    fn a_refund_that_has_not_ended_says_so() {
        let refund = RefundView {
            refund_id: "refund_1".to_owned(),
            order_id: "recharge_1".to_owned(),
            user_id: "ada".to_owned(),
            state: "pending".to_owned(),
            amount: "10".parse().unwrap(),
            owed: "4".parse().unwrap(),
            currency: "CNY".to_owned(),
            failure: None,
        };
        insta::assert_snapshot!(describe_refund(&refund, "k1"), @r"
        refund  refund_1
        order   recharge_1
        user    ada
        state   pending: the payment service has not said yet how it ended; the sidecar goes on asking
        amount  10 CNY
        owed    4 CNY by the account
        key     k1
        ");
    }

    #[test]
    fn an_import_names_what_it_could_not_read() {
        let report = ImportReport { imported: 2, known: 1, unreadable: vec!["order_7".to_owned()] };
        insta::assert_snapshot!(describe_import(&report), @r"
        imported       2
        known already  1
        unreadable     1
          recharge:order:order_7 stays in redis: credit it by hand
        ");
    }
}
