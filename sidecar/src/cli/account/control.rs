//! `farebox account freeze`, `thaw` and `limit`.

use farebox_core::id::AccountId;
use farebox_core::money::Nanos;

use super::super::failure::Failure;
use super::super::table::facts;
use super::super::{OutputArgs, print, print_json};
use super::actor;
use crate::app::{App, CreditLimit, CreditLimitOutcome, FreezeOutcome};

pub(super) async fn freeze(
    app: &App,
    user: &AccountId,
    reason: &str,
    output: OutputArgs,
) -> Result<(), Failure> {
    let outcome = app.freeze(user, reason, &actor()).await?;
    if output.json { print_json(&outcome) } else { print(&describe_freeze(&outcome)) }
}

pub(super) async fn thaw(
    app: &App,
    user: &AccountId,
    reason: &str,
    output: OutputArgs,
) -> Result<(), Failure> {
    let outcome = app.thaw(user, reason, &actor()).await?;
    if output.json { print_json(&outcome) } else { print(&describe_freeze(&outcome)) }
}

pub(super) async fn limit(
    app: &App,
    account: AccountId,
    limit: Nanos,
    reason: String,
    output: OutputArgs,
) -> Result<(), Failure> {
    let outcome =
        app.set_credit_limit(&CreditLimit { account, limit, reason, actor: actor() }).await?;
    if output.json { print_json(&outcome) } else { print(&describe_limit(&outcome)) }
}

fn describe_freeze(outcome: &FreezeOutcome) -> String {
    let FreezeOutcome { account, frozen_at, frozen_reason, changed, recalled_leases, .. } = outcome;
    let before = if *changed { "" } else { ", as before; nothing changed" };
    let state = match (frozen_at, frozen_reason) {
        (Some(at), reason) => {
            format!("since {at}: {}{before}", reason.as_deref().unwrap_or_default())
        }
        (None, _) => format!("no{before}"),
    };
    let mut lines = vec![("account", account.clone()), ("frozen", state)];
    if 0 < *recalled_leases {
        lines.push(("recalled", format!("{recalled_leases} leases of gateways")));
    }
    facts(&lines)
}

fn describe_limit(outcome: &CreditLimitOutcome) -> String {
    let CreditLimitOutcome { account, currency, credit_limit, balance, available, .. } = outcome;
    let money = |amount: &Nanos| format!("{amount} {currency}");
    // A mistyped name begins an account: it shows.
    let new = if outcome.new_account { " (new)" } else { "" };
    let before = if outcome.changed { "" } else { ", as before; nothing changed" };
    let mut lines = vec![
        ("account", format!("{account}{new}")),
        ("credit limit", format!("{}{before}", money(credit_limit))),
        ("balance", money(balance)),
        ("available", money(available)),
    ];
    if outcome.collected != Nanos::ZERO {
        lines.push(("collected", format!("{} of what the account owed", outcome.collected)));
    }
    facts(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(text: &str) -> Nanos {
        text.parse().unwrap()
    }

    #[test]
    fn a_freeze_says_what_it_did_or_that_it_was_done_before() {
        let outcome = FreezeOutcome {
            account: "u1".to_owned(),
            frozen: true,
            frozen_at: Some("2026-11-29T09:00:00.000Z".to_owned()),
            frozen_reason: Some("ticket 9".to_owned()),
            changed: true,
            recalled_leases: 2,
        };
        insta::assert_snapshot!(describe_freeze(&outcome), @r"
        account   u1
        frozen    since 2026-11-29T09:00:00.000Z: ticket 9
        recalled  2 leases of gateways
        ");
        let again = FreezeOutcome { changed: false, recalled_leases: 0, ..outcome.clone() };
        insta::assert_snapshot!(describe_freeze(&again), @r"
        account  u1
        frozen   since 2026-11-29T09:00:00.000Z: ticket 9, as before; nothing changed
        ");
        let (frozen_at, frozen_reason) = (None, None);
        let thawed = FreezeOutcome {
            frozen: false,
            frozen_at,
            frozen_reason,
            recalled_leases: 0,
            ..outcome
        };
        insta::assert_snapshot!(describe_freeze(&thawed), @r"
        account  u1
        frozen   no
        ");
    }

    #[test]
    fn a_limit_says_what_may_be_spent_now() {
        let outcome = CreditLimitOutcome {
            account: "u1".to_owned(),
            currency: "CNY".to_owned(),
            credit_limit: nanos("100"),
            balance: nanos("-2"),
            available: nanos("98"),
            collected: nanos("2"),
            changed: true,
            new_account: true,
        };
        insta::assert_snapshot!(describe_limit(&outcome), @r"
        account       u1 (new)
        credit limit  100 CNY
        balance       -2 CNY
        available     98 CNY
        collected     2 of what the account owed
        ");
    }
}
