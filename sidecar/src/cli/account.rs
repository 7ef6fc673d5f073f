//! `farebox account list`, `show` and `credit`; `control.rs` has `freeze`, `thaw` and `limit`.

use clap::Subcommand;
use farebox_core::id::AccountId;
use farebox_core::money::Nanos;
use serde::Serialize;

use super::failure::Failure;
use super::table::{Column, facts, table};
use super::{OutputArgs, print, print_json};
use crate::app::{
    AccountFilter, AccountLine, AccountPage, AccountView, App, Credit, CreditError, CreditOutcome,
    FreeQuotaView, RecordView,
};

mod control;
mod many;

#[derive(Debug, Subcommand)]
pub(super) enum AccountCommand {
    /// List accounts in the order of their names, a page at a time.
    List {
        /// Only those whose names begin so.
        #[arg(long)]
        prefix: Option<AccountId>,
        /// How many at most, 1 to 200.
        #[arg(long)]
        limit: Option<u32>,
        /// Go on where the page before ended.
        #[arg(long)]
        cursor: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show an account's balance, its free quotas of the month and its newest records; of several accounts a line each.
    Show {
        /// The user id, or several of them.
        #[arg(required = true, value_name = "USER")]
        users: Vec<AccountId>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Add money to an account, or take some that no lease holds.
    Credit {
        /// The user id.
        user: AccountId,
        /// Money to add; a negative amount is taken.
        #[arg(allow_negative_numbers = true)]
        amount: Nanos,
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
        /// Your name for this credit: repeated with the same key, it is made once. Without one, a random key is used.
        #[arg(long)]
        key: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Let nothing of an account be used, neither money nor free units; gateways stop within about a sync interval.
    Freeze {
        /// The user id.
        user: AccountId,
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Let a frozen account be used again.
    Thaw {
        /// The user id.
        user: AccountId,
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Set how far below zero an account's balance may go.
    Limit {
        /// The user id.
        user: AccountId,
        /// Money, 0 or more; 0 takes the limit away.
        #[arg(allow_negative_numbers = true)]
        amount: Nanos,
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        output: OutputArgs,
    },
}

pub(super) async fn execute(command: AccountCommand, app: &App) -> Result<(), Failure> {
    match command {
        AccountCommand::List { prefix, limit, cursor, output } => {
            list(app, &AccountFilter { prefix, limit, cursor }, output).await
        }
        AccountCommand::Show { users, output } => match users.as_slice() {
            [user] => show(app, user, output).await,
            users => many::show(app, users, output).await,
        },
        AccountCommand::Credit { user, amount, reason, key, output } => {
            let key = key.unwrap_or_else(random_key);
            let actor = actor();
            credit(app, Credit { account: user, amount, reason, key, actor }, output).await
        }
        AccountCommand::Freeze { user, reason, output } => {
            control::freeze(app, &user, &reason, output).await
        }
        AccountCommand::Thaw { user, reason, output } => {
            control::thaw(app, &user, &reason, output).await
        }
        AccountCommand::Limit { user, amount, reason, output } => {
            control::limit(app, user, amount, reason, output).await
        }
    }
}

async fn list(app: &App, filter: &AccountFilter, output: OutputArgs) -> Result<(), Failure> {
    let page = app.accounts(filter).await?;
    if output.json { print_json(&page) } else { print(&describe_page(&page)) }
}

fn describe_page(page: &AccountPage) -> String {
    if page.accounts.is_empty() {
        return "no accounts\n".to_owned();
    }
    let columns = [
        Column::Text("account"),
        Column::Number("balance"),
        Column::Number("held"),
        Column::Number("owed"),
        Column::Number("limit"),
        Column::Text("currency"),
        Column::Text("frozen"),
    ];
    let rows = page.accounts.iter().map(|line| {
        let AccountLine { account, currency, balance, held, receivable, credit_limit, frozen } =
            line;
        let [balance, held, owed, limit] =
            [balance, held, receivable, credit_limit].map(Nanos::to_string);
        let frozen = if *frozen { "frozen" } else { "-" }.to_owned();
        vec![account.clone(), balance, held, owed, limit, currency.clone(), frozen]
    });
    let mut text = table(&columns, rows);
    if let Some(cursor) = &page.next_cursor {
        text.push_str(&format!("\nthere are further ones: --cursor {cursor}\n"));
    }
    text
}

async fn show(app: &App, user: &AccountId, output: OutputArgs) -> Result<(), Failure> {
    let account = app.account(user).await?;
    let account = account.ok_or_else(|| Failure::NoAccount(user.to_string()))?;
    if output.json { print_json(&account) } else { print(&describe(&account)) }
}

/// A credit's result together with the key under which it can be asked for again.
#[derive(Debug, Serialize)]
struct Made<'c> {
    account: &'c AccountId,
    amount: Nanos,
    key: &'c str,
    replayed: bool,
    new_account: bool,
    #[serde(flatten)]
    outcome: &'c CreditOutcome,
}

async fn credit(app: &App, credit: Credit, output: OutputArgs) -> Result<(), Failure> {
    let outcome = app.credit(&credit).await.map_err(|err| match err {
        CreditError::Store(problem) => Failure::Unknown { key: credit.key.clone(), problem },
        CreditError::Zero
        | CreditError::Length(_)
        | CreditError::Conflict { .. }
        | CreditError::Insufficient { .. }
        | CreditError::OutOfRange { .. } => Failure::Credit(err),
    })?;
    let Credit { account, amount, key, .. } = &credit;
    if output.json {
        let CreditOutcome { replayed, new_account, .. } = outcome;
        let amount = *amount;
        return print_json(&Made {
            account,
            amount,
            key,
            replayed,
            new_account,
            outcome: &outcome,
        });
    }
    print(&describe_credit(&credit, &outcome))
}

fn describe_credit(credit: &Credit, outcome: &CreditOutcome) -> String {
    let Credit { account, amount, key, .. } = credit;
    let made = if outcome.replayed { "made before; nothing changed" } else { "made" };
    // A mistyped name begins an account: it shows.
    let new = if outcome.new_account { " (new)" } else { "" };
    let mut lines = vec![
        ("account", format!("{account}{new}")),
        ("amount", amount.to_string()),
        ("credit", made.to_owned()),
        ("balance", outcome.balance.to_string()),
    ];
    if outcome.collected != Nanos::ZERO {
        lines.push(("collected", format!("{} of what the account owed", outcome.collected)));
    }
    lines.push(("key", key.clone()));
    facts(&lines)
}

fn describe(account: &AccountView) -> String {
    let money = |amount: Nanos| format!("{amount} {}", account.currency);
    let mut text = facts(&[
        ("account", account.account.clone()),
        ("balance", money(account.balance)),
        ("held", format!("{} by open leases and reservations", money(account.held))),
        ("available", money(account.available)),
        ("owed", money(account.receivable)),
        ("credit limit", money(account.credit_limit)),
        ("frozen", describe_frozen(account)),
    ]);
    text.push_str(&describe_quotas(&account.free_quotas));
    text.push_str(&describe_records(&account.records));
    text
}

fn describe_frozen(account: &AccountView) -> String {
    match (&account.frozen_at, &account.frozen_reason) {
        (Some(at), Some(reason)) => format!("since {at}: {reason}"),
        (Some(at), None) => format!("since {at}"),
        (None, _) => "no".to_owned(),
    }
}

fn describe_quotas(quotas: &[FreeQuotaView]) -> String {
    let Some(first) = quotas.first() else {
        return "\nno free quotas this month\n".to_owned();
    };
    let columns = [
        Column::Text("service"),
        Column::Number("total"),
        Column::Number("used"),
        Column::Number("held"),
        Column::Number("remaining"),
    ];
    let rows = quotas.iter().map(|quota| {
        let FreeQuotaView { service, month: _, total, used, held, remaining } = quota;
        let units = [total, used, held, remaining].map(u64::to_string);
        [service.clone()].into_iter().chain(units).collect()
    });
    format!("\nfree quotas of {}, in units\n{}", first.month, table(&columns, rows))
}

fn describe_records(records: &[RecordView]) -> String {
    if records.is_empty() {
        return "\nno records\n".to_owned();
    }
    let columns = [
        Column::Text("booked at"),
        Column::Text("service"),
        Column::Text("type"),
        Column::Text("source"),
        Column::Number("units"),
        Column::Number("free"),
        Column::Number("paid"),
        Column::Number("price"),
        Column::Number("amount"),
        Column::Number("owed"),
        Column::Number("back"),
        Column::Text("record"),
    ];
    let rows = records.iter().map(|record| {
        vec![
            record.created_at.clone(),
            record.service.clone(),
            record.kind.clone(),
            record.source.clone(),
            record.count.to_string(),
            record.free_units.to_string(),
            record.paid_units.to_string(),
            record.unit_price.map_or_else(|| "-".to_owned(), |price| price.to_string()),
            record.amount.to_string(),
            record.owed.to_string(),
            record.refunded_amount.to_string(),
            record.id.clone(),
        ]
    });
    format!("\nnewest records\n{}", table(&columns, rows))
}

pub(super) fn random_key() -> String {
    format!("cli-{:032x}", rand::random::<u128>())
}

/// Who sits at the terminal, as far as the environment says.
pub(super) fn actor() -> String {
    let user = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    format!("cli:{}", user.as_deref().unwrap_or("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(text: &str) -> Nanos {
        text.parse().unwrap()
    }

    fn account() -> AccountView {
        AccountView {
            account: "user_test_001".to_owned(),
            currency: "CNY".to_owned(),
            balance: nanos("12.5"),
            held: nanos("0.002"),
            available: nanos("112.498"),
            receivable: Nanos::ZERO,
            credit_limit: nanos("100"),
            frozen: true,
            frozen_at: Some("2026-11-29T09:00:00.000Z".to_owned()),
            frozen_reason: Some("ticket 9".to_owned()),
            free_quotas: vec![FreeQuotaView {
                service: "passport".to_owned(),
                month: "2026-11".to_owned(),
                total: 10_000,
                used: 120,
                held: 50,
                remaining: 9_830,
            }],
            records: vec![RecordView {
                id: "0190".to_owned(),
                service: "payment".to_owned(),
                kind: "mixed".to_owned(),
                source: "lease".to_owned(),
                count: 3,
                free_units: 1,
                paid_units: 2,
                unit_price: Some(nanos("0.002")),
                amount: nanos("0.004"),
                owed: Nanos::ZERO,
                refunded_units: 1,
                refunded_amount: nanos("0.002"),
                app_id: None,
                created_at: "2026-11-22T14:00:00.000Z".to_owned(),
            }],
        }
    }

    #[test]
    fn an_account_reads_well() {
        insta::assert_snapshot!(describe(&account()), @r"
        account       user_test_001
        balance       12.5 CNY
        held          0.002 CNY by open leases and reservations
        available     112.498 CNY
        owed          0 CNY
        credit limit  100 CNY
        frozen        since 2026-11-29T09:00:00.000Z: ticket 9

        free quotas of 2026-11, in units
        service   total  used  held  remaining
        passport  10000   120    50       9830

        newest records
        booked at                 service  type   source  units  free  paid  price  amount  owed   back  record
        2026-11-22T14:00:00.000Z  payment  mixed  lease       3     1     2  0.002   0.004     0  0.002  0190
        ");
    }

    #[test]
    fn an_account_without_anything_says_so() {
        let empty = AccountView { free_quotas: vec![], records: vec![], ..account() };
        assert!(describe(&empty).ends_with("\nno free quotas this month\n\nno records\n"));
    }

    #[test]
    fn a_repeated_credit_says_that_nothing_changed() {
        let credit = Credit {
            account: "u1".parse().unwrap(),
            amount: nanos("10"),
            reason: "gift".to_owned(),
            key: "k1".to_owned(),
            actor: actor(),
        };
        let outcome = CreditOutcome {
            balance: nanos("9"),
            collected: nanos("1"),
            replayed: true,
            new_account: false,
        };
        insta::assert_snapshot!(describe_credit(&credit, &outcome), @r"
        account    u1
        amount     10
        credit     made before; nothing changed
        balance    9
        collected  1 of what the account owed
        key        k1
        ");
    }

    #[test]
    fn a_credit_that_begins_an_account_says_so() {
        let credit = Credit {
            account: "u1".parse().unwrap(),
            amount: nanos("10"),
            reason: "gift".to_owned(),
            key: "k1".to_owned(),
            actor: actor(),
        };
        let outcome = CreditOutcome {
            balance: nanos("10"),
            collected: Nanos::ZERO,
            replayed: false,
            new_account: true,
        };
        let text = describe_credit(&credit, &outcome);
        assert_eq!(text.lines().next(), Some("account  u1 (new)"));
    }

    #[test]
    fn random_keys_differ() {
        assert_ne!(random_key(), random_key());
    }
}
