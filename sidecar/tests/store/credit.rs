//! Credits and debits by operators.

use farebox_sidecar::app::CreditError;
use tokio::task::JoinSet;

use crate::fixture::{Fixture, credit, nanos, want};

#[tokio::test(flavor = "multi_thread")]
async fn a_credit_counts_once_per_key() {
    let farebox = Fixture::new(&[], &[]).await;
    let first = farebox.app.credit(&credit("u", "10.5", "k")).await.unwrap();
    assert_eq!(
        (first.balance, first.collected, first.replayed, first.new_account),
        (nanos("10.5"), nanos("0"), false, true)
    );
    let second = farebox.app.credit(&credit("u", "-1", "l")).await.unwrap();
    assert!(!second.new_account);
    farebox.app.credit(&credit("u", "1", "m")).await.unwrap();
    let mut copies = JoinSet::new();
    for _ in 0..8 {
        let app = farebox.app.clone();
        copies.spawn(async move { app.credit(&credit("u", "10.5", "k")).await.unwrap() });
    }
    assert!(
        copies.join_all().await.iter().all(|copy| copy.replayed && copy.balance == first.balance)
    );
    for other in [credit("u", "10.6", "k"), credit("v", "10.5", "k")] {
        assert!(matches!(farebox.app.credit(&other).await, Err(CreditError::Conflict { .. })));
    }
    assert_eq!(farebox.money("u").await, "10.5 0 0");
    assert_eq!(
        farebox.database.rows("SELECT actor, action, subject, reason FROM audit_log").await,
        ["tests account.credit u test"; 3]
    );
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debit_never_takes_what_a_lease_holds() {
    let farebox = Fixture::new(&[], &[("asset", "1")]).await;
    farebox.credit("u", "10").await;
    farebox.gateway("edge-1").want(want("u", "asset", 4, 4)).await.unwrap();
    let error = farebox.app.credit(&credit("u", "-6.000000001", "k")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "u has 6 CNY available, less than 6.000000001 CNY; take at most what is available, or wait until its leases give \
         back what they hold"
    );
    farebox.app.credit(&credit("u", "-6", "k")).await.unwrap();
    assert_eq!(farebox.money("u").await, "4 4 0");
    assert!(matches!(
        farebox.app.credit(&credit("new", "-1", "l")).await,
        Err(CreditError::Insufficient { .. })
    ));
    assert!(farebox.app.account(&"new".parse().unwrap()).await.unwrap().is_none());
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_out_of_bounds_are_refused_by_name() {
    let farebox = Fixture::new(&[], &[]).await;
    let refused = async |amount: &str, key: &str| {
        farebox.app.credit(&credit("u", amount, key)).await.unwrap_err().to_string()
    };
    assert_eq!(refused("0", "k").await, "the amount is 0; give an amount above or below it");
    assert_eq!(refused("1", "").await, "key has 0 bytes; give 1 to 255");
    farebox.credit("u", "9223372036").await;
    assert_eq!(
        refused("1", "k").await,
        "a balance of 9223372036 and a credit of 1 are more than 9223372036.854775807"
    );
    farebox.assert_sound().await;
}
