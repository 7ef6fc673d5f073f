//! Requests that cannot be written or read, among others that can.

use farebox_core::call::CheckRequest;

use super::in_seconds;
use crate::calls::{deduct, say};
use crate::fixture::Fixture;

/// Fifty users with a row each, and four whose rows or answers are broken.
async fn poisoned() -> Fixture {
    let farebox = Fixture::new(&[("asset", 10)], &[("asset", "0.1"), ("payment", "0.1")]).await;
    for user in ["unreadable", "odd", "torn", "garbled"] {
        farebox.record(deduct(&format!("first-{user}"), user, "asset", 1)).await;
        farebox.credit(user, "1").await;
    }
    for sql in [
        "UPDATE user_balance SET balance = 9999999999 WHERE user_id = 'unreadable'",
        "UPDATE free_quota SET fence = -1 WHERE user_id = 'odd'",
        "UPDATE free_quota SET used_quota = 0 WHERE user_id = 'torn'",
        "UPDATE idempotency_key SET response = 'nonsense' WHERE idempotency_key = 'first-garbled'",
    ] {
        assert_eq!(farebox.database.run(sql).await, 1, "{sql}");
    }
    let check =
        "ALTER TABLE free_quota ADD CONSTRAINT ck_torn CHECK (user_id <> 'torn' OR used_quota = 0)";
    farebox.database.run(check).await;
    farebox
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_account_fails_its_own_requests_and_no_others() {
    let farebox = poisoned().await;
    let mut requests: Vec<_> =
        (0..50).map(|user| deduct(&format!("k{user}"), &format!("u{user}"), "asset", 2)).collect();
    for (place, key, user, service) in [
        (7, "x1", "unreadable", "asset"),
        (20, "x2", "odd", "asset"),
        (30, "x3", "torn", "asset"),
        (31, "x4", "torn", "payment"),
        (45, "first-garbled", "garbled", "asset"),
        (46, "x5", "garbled", "asset"),
    ] {
        requests.insert(place, deduct(key, user, service, 1));
    }
    let answers = farebox.app.call(requests, in_seconds(20)).await;
    for (place, answer) in answers.into_iter().enumerate() {
        let told = say(answer);
        let expected = match place {
            7 => "user_balance.balance of unreadable cannot be read",
            20 => "free_quota.fence of ",
            30 => "the database refused a statement: ",
            // The rest of a broken account works as far as it is sound.
            31 => "0 free, 1 paid for 0.1, leaves 0.9",
            45 => "idempotency_key.response of first-garbled cannot be read",
            46 => "1 free, 0 paid for 0, leaves 1",
            _ => "2 free, 0 paid for 0, leaves 0",
        };
        assert!(told.starts_with(expected), "{place}: {told}");
    }
    let records = "SELECT COUNT(*) FROM billing_record WHERE user_id LIKE 'u%' AND count = 2";
    assert_eq!(farebox.database.rows(records).await, ["50"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_account_fails_its_own_checks_and_no_others() {
    let farebox = poisoned().await;
    let check = |user: &str| CheckRequest {
        user_id: user.parse().unwrap(),
        service: "asset".parse().unwrap(),
        count: 1,
        price: None,
    };
    let mut requests: Vec<_> = (0..50).map(|user| check(&format!("u{user}"))).collect();
    requests.insert(7, check("unreadable"));
    requests.insert(20, check("odd"));
    let told = farebox.app.check(&requests).await;
    for (place, told) in told.into_iter().enumerate() {
        let expected = match place {
            7 => "user_balance.balance of unreadable cannot be read",
            20 => "free_quota.fence of ",
            _ => "true",
        };
        let told = told.map_or_else(|err| err.to_string(), |reply| reply.allowed.to_string());
        assert!(told.starts_with(expected), "{place}: {told}");
    }
}
