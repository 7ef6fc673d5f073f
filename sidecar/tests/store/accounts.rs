//! Accounts in pages, as operators read them.

use farebox_sidecar::app::{AccountFilter, AccountsError, Found, PageError};

use crate::fixture::{Fixture, want};

async fn read(farebox: &Fixture, filter: &AccountFilter) -> (Vec<String>, Option<String>) {
    let page = farebox.app.accounts(filter).await.unwrap();
    let names = page.accounts.into_iter().map(|line| line.account).collect();
    (names, page.next_cursor)
}

fn beginning(prefix: &str) -> AccountFilter {
    AccountFilter { prefix: Some(prefix.parse().unwrap()), ..AccountFilter::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_finds_the_names_that_begin_so_and_no_pattern() {
    let farebox = Fixture::new(&[], &[]).await;
    for account in ["ann", "anna", "Ann", "a_n", "a%", "a|b", "bob", "资产"] {
        farebox.credit(account, "1").await;
    }
    for (prefix, found) in [
        ("ann", &["ann", "anna"][..]),
        ("A", &["Ann"]),
        ("a_", &["a_n"]),
        ("a%", &["a%"]),
        ("a|", &["a|b"]),
        ("资", &["资产"]),
        ("%", &[]),
        ("c", &[]),
    ] {
        assert_eq!(read(&farebox, &beginning(prefix)).await.0, found, "{prefix}");
    }
    let all = read(&farebox, &AccountFilter::default()).await;
    assert_eq!(all.0, ["Ann", "a%", "a_n", "ann", "anna", "a|b", "bob", "资产"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_tells_the_money_of_its_account() {
    let farebox = Fixture::new(&[], &[("asset", "1")]).await;
    farebox.credit("u", "10").await;
    farebox.gateway("edge-1").want(want("u", "asset", 4, 4)).await.unwrap();
    farebox.limit("u", "5").await.unwrap();
    farebox.freeze("u").await;
    let page = farebox.app.accounts(&beginning("u")).await.unwrap();
    let json = serde_json::to_value(&page).unwrap();
    assert_eq!(
        json,
        serde_json::json!({ "accounts": [
            {
                "account": "u", "currency": "CNY", "balance": "10", "held": "4", "receivable": "0",
                "credit_limit": "5", "frozen": true,
            },
        ] })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_neither_skip_nor_repeat_accounts_while_new_ones_begin() {
    let farebox = Fixture::new(&[], &[]).await;
    let expected = ["u1", "u2", "u3", "u4", "u5"];
    for account in expected {
        farebox.credit(account, "1").await;
    }
    // One that cannot be read is left out, and hides nothing.
    farebox.credit("u35", "1").await;
    farebox
        .database
        .run("UPDATE user_balance SET balance = 9999999999 WHERE user_id = 'u35'")
        .await;
    for limit in [1, 2, 3, 6, 200] {
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let filter = AccountFilter { limit: Some(limit), cursor, ..beginning("u") };
            let (names, next) = read(&farebox, &filter).await;
            assert!(names.len() <= limit as usize);
            seen.extend(names);
            assert!(seen.len() <= expected.len(), "limit {limit}: {seen:?}");
            farebox.credit(&format!("t{limit}-{}", seen.len()), "1").await;
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "limit {limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_sizes_and_cursors_out_of_bounds_are_refused() {
    let farebox = Fixture::new(&[], &[]).await;
    for limit in [0, 201, u32::MAX] {
        let filter = AccountFilter { limit: Some(limit), ..AccountFilter::default() };
        let error = farebox.app.accounts(&filter).await.unwrap_err();
        assert_eq!(error.to_string(), format!("limit is {limit}; write 1 to 200"));
    }
    for cursor in ["", "#", "x", "_w"] {
        let filter = AccountFilter { cursor: Some(cursor.to_owned()), ..AccountFilter::default() };
        let answer = farebox.app.accounts(&filter).await;
        assert!(
            matches!(answer, Err(AccountsError::Page(PageError::Cursor))),
            "{cursor}: {answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_names_are_looked_up_at_once_each_for_itself() {
    let farebox = Fixture::new(&[("asset", 10)], &[("asset", "1")]).await;
    for account in ["ann", "broken", "bob"] {
        farebox.credit(account, "5").await;
    }
    farebox.gateway("edge-1").want(want("ann", "asset", 12, 12)).await.unwrap();
    farebox
        .database
        .run("UPDATE user_balance SET balance = 9999999999 WHERE user_id = 'broken'")
        .await;
    let names = ["bob", "nobody", "ann", "broken", "bob"].map(|name| name.parse().unwrap());
    let found = farebox.app.find_accounts(&names).await.unwrap();
    let told = found.iter().map(|found| match found {
        Found::Account(standing) => {
            let quota = &standing.free_quotas[0];
            format!(
                "{} {}-{}={} {}/{}",
                standing.account,
                standing.balance,
                standing.held,
                standing.available,
                quota.remaining,
                quota.total
            )
        }
        Found::Nothing => "nothing".to_owned(),
        Found::Unreadable => "unreadable".to_owned(),
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        ["bob 5-0=5 10/10", "nothing", "ann 5-2=3 0/10", "unreadable", "bob 5-0=5 10/10"]
    );
}
