//! Accounts that may go below zero, as far as an operator allows.

use farebox_core::wire::JournalReport;
use farebox_sidecar::app::{
    CreditLimit, CreditLimitError, CreditLimitOutcome, NewRefund, RefundError,
};
use tokio::task::JoinSet;

use crate::calls::{call, deduct, reserve_amount};
use crate::fixture::{Fixture, credit, key, nanos, used, want};
use crate::orders;

impl Fixture {
    pub(crate) async fn limit(
        &self,
        account: &str,
        limit: &str,
    ) -> Result<CreditLimitOutcome, CreditLimitError> {
        let (account, limit) = (account.parse().unwrap(), nanos(limit));
        let (reason, actor) = ("contract 3".to_owned(), "tests".to_owned());
        self.app.set_credit_limit(&CreditLimit { account, limit, reason, actor }).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_goes_as_far_below_zero_as_its_limit_and_no_further() {
    let farebox = Fixture::new(&[], &[("asset", "0.5")]).await;
    let new = farebox.limit("u", "3").await.unwrap();
    assert!(new.changed && new.new_account, "users who pay afterwards begin with their limit");
    farebox.credit("u", "1").await;
    assert_eq!(
        farebox.told(deduct("a", "u", "asset", 3)).await,
        "0 free, 3 paid for 1.5, leaves -0.5"
    );
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 4, 4)).await.unwrap().lease;
    assert_eq!(farebox.money("u").await, "-0.5 2 0");
    assert_eq!(farebox.view("u").await.available, nanos("0.5"));
    edge.report(used(lease, 4)).await;
    // The last unit of it, and none more.
    assert!(edge.want(want("u", "asset", 2, 2)).await.is_err());
    let left = "yes by balance, 0 free and 0.5 for 0.5";
    assert_eq!(farebox.checked("u", "asset", 1).await, left);
    assert_eq!(
        farebox.told(deduct("b", "u", "asset", 1)).await,
        "0 free, 1 paid for 0.5, leaves -3"
    );
    let refused = farebox.told(deduct("c", "u", "asset", 1)).await;
    assert_eq!(refused, "190102: 0 free and 0 do not cover 0.5");
    assert_eq!(
        farebox.told(reserve_amount("r", "u", "asset", "0.01")).await,
        "190102: 0 free and 0 do not cover 0.01"
    );
    let view = farebox.view("u").await;
    assert_eq!(
        (view.balance, view.credit_limit, view.receivable),
        (nanos("-3"), nanos("3"), nanos("0"))
    );
    // Statements tell it as it is.
    let account = "u".parse().unwrap();
    let month = farebox.app.own_account(&account).await.unwrap().month;
    assert_eq!(farebox.app.statement(&account, &month).await.unwrap().closing, nanos("-3"));
    farebox.credit("u", "3.5").await;
    assert_eq!(farebox.money("u").await, "0.5 0 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_and_deducts_share_a_limit_to_its_last_coin() {
    let farebox = Fixture::new(&[("asset", 10)], &[("asset", "0.1")]).await;
    farebox.limit("u", "15").await.unwrap();
    farebox.credit("u", "5").await;
    let mut users = JoinSet::new();
    for number in 0..4 {
        let mut edge = farebox.gateway(&format!("edge-{number}"));
        users.spawn(async move {
            loop {
                match edge.want(want("u", "asset", 7, 1)).await {
                    Ok(grant) => {
                        let total = grant.free_units + grant.paid_units;
                        edge.report(used(grant.lease, total)).await;
                    }
                    Err(refusal) if refusal.soon => {}
                    Err(_) => return,
                }
            }
        });
        let app = farebox.app.clone();
        users.spawn(async move {
            for call_number in 0..20 {
                let key = format!("d-{number}-{call_number}");
                call(&app, deduct(&key, "u", "asset", 1)).await.unwrap();
            }
        });
    }
    users.join_all().await;
    assert_eq!(farebox.money("u").await, "-15 0 0");
    let units = farebox.database.rows("SELECT SUM(count) FROM billing_record").await;
    assert_eq!(units, ["210"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_lowered_to_what_is_in_use_and_the_answer_says_how_much_that_is() {
    let farebox = Fixture::new(&[], &[("asset", "1")]).await;
    farebox.limit("u", "10").await.unwrap();
    farebox.told(deduct("a", "u", "asset", 3)).await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 2, 2)).await.unwrap().lease;
    let err = farebox.limit("u", "4.9").await.unwrap_err();
    assert!(
        err.to_string().starts_with("u uses 5 CNY of its credit limit, 2 of its money are held"),
        "{err}"
    );
    assert_eq!(farebox.view("u").await.credit_limit, nanos("10"), "nothing changed");
    assert!(farebox.limit("u", "5").await.unwrap().changed);
    assert!(!farebox.limit("u", "5").await.unwrap().changed);
    // Nothing new is granted, and what was granted is charged as ever.
    assert!(edge.want(want("u", "asset", 1, 1)).await.is_err());
    edge.report(used(lease, 2)).await;
    assert_eq!(farebox.money("u").await, "-5 0 0");
    farebox.credit("u", "5").await;
    assert!(farebox.limit("u", "0").await.unwrap().changed);
    let negative = farebox.limit("u", "-1").await.unwrap_err();
    assert_eq!(negative.to_string(), "the credit limit is -1; give 0 or more");
    let lines = "SELECT action, subject, reason, JSON_UNQUOTE(JSON_EXTRACT(before_json, '$.credit_limit')),
        JSON_UNQUOTE(JSON_EXTRACT(after_json, '$.credit_limit')) FROM audit_log WHERE action <> 'account.credit'";
    assert_eq!(
        farebox.database.rows(lines).await,
        [
            "account.credit_limit u contract 3 0 10",
            "account.credit_limit u contract 3 10 5",
            "account.credit_limit u contract 3 5 0",
        ]
    );
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_was_set_aside_for_uses_the_limit_and_the_rest_is_owed() {
    let farebox = Fixture::new(&[], &[("asset", "1")]).await;
    farebox.limit("u", "2").await.unwrap();
    let line = JournalReport { line: 1, key: key("u", "asset"), used: 5 };
    farebox.gateway("edge-1").send(vec![], vec![], vec![line]).await;
    assert_eq!(farebox.money("u").await, "-2 0 3");
    // A higher limit takes what is owed: the account is never further in debt than its limit, and may spend what is left.
    let raised = farebox.limit("u", "4").await.unwrap();
    assert_eq!((raised.collected, raised.available), (nanos("2"), nanos("0")));
    assert_eq!(farebox.money("u").await, "-4 0 1");
    farebox.credit("u", "0.5").await;
    assert_eq!(farebox.money("u").await, "-4 0 0.5");
    farebox.credit("u", "5.5").await;
    assert_eq!(farebox.money("u").await, "1 0 0");
    // By hand, an account may be taken down to its limit.
    let taken = farebox.app.credit(&credit("u", "-5", "fee")).await.unwrap();
    assert_eq!(taken.balance, nanos("-4"));
    assert!(farebox.app.credit(&credit("u", "-0.1", "more")).await.is_err());
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credit_limit_pays_nobody_out() {
    let farebox = orders::with_payment(Fixture::new(&[], &[("asset", "1")]).await);
    farebox.limit("u", "100").await.unwrap();
    let order_id = orders::paid(&farebox.app, "u", "10", "pay_1").await;
    farebox.told(deduct("a", "u", "asset", 4)).await;
    let refund = |amount: &str, allow_receivable| NewRefund {
        order_id: order_id.clone(),
        amount: Some(nanos(amount)),
        reason: "test".to_owned(),
        key: format!("key-{amount}"),
        actor: "tests".to_owned(),
        allow_receivable,
    };
    let err = farebox.app.refund(&refund("7", false)).await.unwrap_err();
    assert!(matches!(err, RefundError::Refusal(_)), "{err}");
    assert!(err.to_string().starts_with("the account has 6 available, less than 7"), "{err}");
    farebox.app.refund(&refund("6", false)).await.unwrap();
    assert_eq!(farebox.money("u").await, "0 0 0");
    // Where the account may owe it, it owes it as it owes everything: below zero first.
    farebox.app.refund(&refund("4", true)).await.unwrap();
    assert_eq!(farebox.money("u").await, "-4 0 0");
    farebox.assert_sound().await;
}
