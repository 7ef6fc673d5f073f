//! `farebox account show` of several users.

use farebox_core::id::AccountId;
use serde::Serialize;

use crate::app::{AccountStanding, App, Found, FreeQuotaView};
use crate::cli::failure::Failure;
use crate::cli::table::{Column, table};
use crate::cli::{OutputArgs, print, print_json};

/// What was found, and under which names nothing was.
#[derive(Debug, Serialize)]
struct Shown {
    accounts: Vec<AccountStanding>,
    missing: Vec<AccountId>,
    unreadable: Vec<AccountId>,
}

/// Shows what there is, and fails afterwards when a name has no account.
pub(super) async fn show(
    app: &App,
    users: &[AccountId],
    output: OutputArgs,
) -> Result<(), Failure> {
    let mut shown = Shown { accounts: Vec::new(), missing: Vec::new(), unreadable: Vec::new() };
    for (user, found) in users.iter().zip(app.find_accounts(users).await?) {
        match found {
            Found::Account(standing) => shown.accounts.push(*standing),
            Found::Nothing => shown.missing.push(user.clone()),
            Found::Unreadable => shown.unreadable.push(user.clone()),
        }
    }
    if output.json {
        print_json(&shown)?
    } else {
        print(&describe(&shown.accounts))?
    }
    match (shown.unreadable.first(), shown.missing.first()) {
        (Some(user), _) => Err(Failure::Unreadable(user.to_string())),
        (None, Some(user)) => Err(Failure::NoAccount(user.to_string())),
        (None, None) => Ok(()),
    }
}

fn describe(accounts: &[AccountStanding]) -> String {
    let Some(first) = accounts.first() else { return String::new() };
    let columns = [
        Column::Text("account"),
        Column::Number("balance"),
        Column::Number("held"),
        Column::Number("available"),
        Column::Number("owed"),
        Column::Text("currency"),
        Column::Text("frozen"),
        Column::Text("remaining free units"),
    ];
    let rows = accounts.iter().map(|standing| {
        let AccountStanding { account, currency, balance, held, available, receivable, .. } =
            standing;
        let money = [balance, held, available, receivable].map(|amount| amount.to_string());
        let quotas = standing.free_quotas.iter().map(remaining).collect::<Vec<_>>().join(", ");
        let frozen = if standing.frozen { "frozen" } else { "-" };
        let rest = [currency.clone(), frozen.to_owned(), quotas];
        [account.clone()].into_iter().chain(money).chain(rest).collect()
    });
    format!("{}\nfree units are those of {}\n", table(&columns, rows), first.month)
}

fn remaining(quota: &FreeQuotaView) -> String {
    format!("{} {}/{}", quota.service, quota.remaining, quota.total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_accounts_are_a_line_each() {
        let nanos = |text: &str| text.parse().unwrap();
        let quota = |service: &str, used| FreeQuotaView {
            service: service.to_owned(),
            month: "2026-11".to_owned(),
            total: 10,
            used,
            held: 1,
            remaining: 9 - used,
        };
        let standing = |account: &str, balance: &str, free_quotas| AccountStanding {
            account: account.to_owned(),
            currency: "CNY".to_owned(),
            balance: nanos(balance),
            held: nanos("0.5"),
            available: nanos(balance),
            receivable: nanos("0"),
            credit_limit: nanos("0"),
            frozen: account == "bob",
            month: "2026-11".to_owned(),
            free_quotas,
        };
        let accounts = [
            standing("ann", "12.5", vec![quota("asset", 3), quota("mail", 0)]),
            standing("bob", "0.001", Vec::new()),
        ];
        insta::assert_snapshot!(describe(&accounts), @r"
        account  balance  held  available  owed  currency  frozen  remaining free units
        ann         12.5   0.5       12.5     0  CNY       -       asset 6/10, mail 9/10
        bob        0.001   0.5      0.001     0  CNY       frozen

        free units are those of 2026-11
        ");
        assert_eq!(describe(&[]), "");
    }
}
