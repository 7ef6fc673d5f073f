//! Orders as their users and operators see them.

use farebox_core::order::{PaymentStatus, State};
use farebox_sidecar::app::{OrderFilter, OrdersError, Page, PageError};

use super::{fixture, news, order, paid};
use crate::fixture::Fixture;

fn filter(account: Option<&str>, limit: u32, cursor: Option<String>) -> OrderFilter {
    let account = account.map(|account| account.parse().unwrap());
    OrderFilter { account, limit: Some(limit), cursor, ..OrderFilter::default() }
}

fn ids(page: &Page) -> Vec<String> {
    page.orders.iter().map(|order| order.order_id.clone()).collect()
}

/// The ids of all orders, newest first, by the database's own word.
async fn newest(farebox: &Fixture) -> Vec<String> {
    let sql = "SELECT order_id FROM recharge_order ORDER BY created_at DESC, order_id DESC";
    farebox.database.rows(sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_neither_skip_nor_repeat_orders_while_new_ones_are_made() {
    let farebox = fixture().await;
    for _ in 0..11 {
        order(&farebox.app, "u", "1").await;
    }
    // Several orders of one moment: their ids decide.
    let same = "UPDATE recharge_order SET created_at = '2026-01-01 00:00:00.123' ORDER BY order_id LIMIT 7";
    assert_eq!(farebox.database.run(same).await, 7);
    let expected = newest(&farebox).await;
    for (limit, pages) in [(1, 11), (2, 6), (3, 4), (11, 1), (200, 1)] {
        let (mut seen, mut cursor, mut count) = (Vec::new(), None, 0);
        loop {
            let page = farebox.app.orders(&filter(Some("u"), limit, cursor)).await.unwrap();
            seen.extend(ids(&page));
            count += 1;
            assert!(count <= pages, "limit {limit}: {seen:?}");
            // New orders, of this user and of others, stand before the first page.
            order(&farebox.app, "u", "1").await;
            order(&farebox.app, "v", "1").await;
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!((&seen, count), (&expected, pages), "limit {limit}");
        farebox
            .database
            .run("DELETE FROM recharge_order WHERE idempotency_key IS NOT NULL AND user_id = 'v'")
            .await;
        let known = expected.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ");
        farebox
            .database
            .run(format!("DELETE FROM recharge_order WHERE order_id NOT IN ({known})"))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_what_its_filter_says() {
    let farebox = fixture().await;
    let pending = order(&farebox.app, "u", "1").await;
    let paid_by_u = paid(&farebox.app, "u", "1", "p1").await;
    let failed = order(&farebox.app, "u", "1").await;
    farebox.app.callback(&news(&failed, "p2", "1", PaymentStatus::Failed)).await.unwrap();
    let paid_by_v = paid(&farebox.app, "v", "1", "p3").await;
    let page = async |account: Option<&str>, state| {
        let filter = OrderFilter { state, ..filter(account, 200, None) };
        let mut found = ids(&farebox.app.orders(&filter).await.unwrap());
        found.sort();
        found
    };
    let sorted = |mut ids: Vec<&String>| {
        ids.sort();
        ids.into_iter().cloned().collect::<Vec<_>>()
    };
    assert_eq!(page(None, None).await, sorted(vec![&pending, &paid_by_u, &failed, &paid_by_v]));
    assert_eq!(page(Some("u"), None).await, sorted(vec![&pending, &paid_by_u, &failed]));
    assert_eq!(page(None, Some(State::Paid)).await, sorted(vec![&paid_by_u, &paid_by_v]));
    assert_eq!(page(Some("v"), Some(State::Paid)).await, std::slice::from_ref(&paid_by_v));
    assert_eq!(page(Some("v"), Some(State::Pending)).await, Vec::<String>::new());
    assert_eq!(page(Some("V"), None).await, Vec::<String>::new(), "names have a case");

    // A filtered list goes on where its page ended.
    let with_state = |cursor| OrderFilter { state: Some(State::Paid), ..filter(None, 1, cursor) };
    let first = farebox.app.orders(&with_state(None)).await.unwrap();
    let second = farebox.app.orders(&with_state(first.next_cursor.clone())).await.unwrap();
    assert_eq!([ids(&first), ids(&second)].concat().len(), 2);
    assert_eq!(second.next_cursor, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn page_sizes_and_cursors_out_of_bounds_are_refused() {
    let farebox = fixture().await;
    order(&farebox.app, "u", "1").await;
    for limit in [0, 201, u32::MAX] {
        let error = farebox.app.orders(&filter(None, limit, None)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("limit is {limit}; write 1 to 200"));
    }
    for limit in [1, 200] {
        assert_eq!(farebox.app.orders(&filter(None, limit, None)).await.unwrap().orders.len(), 1);
    }
    let encode = |text: &str| {
        use base64::Engine as _;
        base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text)
    };
    for broken in [
        String::new(),
        "x".to_owned(),
        encode(""),
        encode("1700000000123"),
        encode("x order"),
        // Moments that the calendar has and a DATETIME has not.
        encode("-62198755200000 order"),
        encode("253402300800000 order"),
        encode("8000000000000000 order"),
        encode("-8000000000000000 order"),
        encode("9223372036854775807 order"),
    ] {
        let answer = farebox.app.orders(&filter(None, 1, Some(broken.clone()))).await;
        assert!(
            matches!(answer, Err(OrdersError::Page(PageError::Cursor))),
            "{broken}: {answer:?}"
        );
    }
    // A cursor is a place, whether or not an order stands there.
    for (place, orders) in [("0 x", 0), ("1700000000123 x' OR TRUE -- ", 0), ("4102444800000 x", 1)]
    {
        let page = farebox.app.orders(&filter(None, 1, Some(encode(place)))).await.unwrap();
        assert_eq!(page.orders.len(), orders, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_sees_no_order_of_another_one() {
    let farebox = fixture().await;
    let id = paid(&farebox.app, "u", "10.5", "p1").await;
    let (owner, other) = ("u".parse().unwrap(), "v".parse().unwrap());
    let view = farebox.app.order(&id, Some(&owner)).await.unwrap();
    assert_eq!(farebox.app.order(&id, None).await.unwrap(), view);
    assert_eq!(
        (view.user_id.as_str(), view.amount.to_string(), view.state, view.payment_id.as_deref()),
        ("u", "10.5".to_owned(), State::Paid, Some("p1"))
    );
    assert_eq!(view.payment_method.as_deref(), Some("alipay"));
    assert!(view.paid_at.is_some() && view.credited_at.is_some() && view.failure.is_none());
    for (order_id, account) in
        [(id.as_str(), Some(&other)), ("recharge_x", None), ("", None), (&*"x".repeat(65), None)]
    {
        let error = farebox.app.order(order_id, account).await.unwrap_err();
        assert_eq!(error.to_string(), format!("there is no order {order_id}"));
        assert!(matches!(error, OrdersError::Unknown { .. }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_hides_no_other_order() {
    let farebox = fixture().await;
    for _ in 0..6 {
        order(&farebox.app, "u", "1").await;
    }
    let expected = newest(&farebox).await;
    for broken in [0, 2, 3, 5] {
        let id = &expected[broken];
        // More than an amount in this process can be.
        let sql = format!("UPDATE recharge_order SET amount = 9999999999 WHERE order_id = '{id}'");
        farebox.database.run(sql).await;
        for limit in 1..=4 {
            let (mut seen, mut cursor, mut pages) = (Vec::new(), None, 0);
            loop {
                let page = farebox.app.orders(&filter(None, limit, cursor)).await.unwrap();
                seen.extend(ids(&page));
                pages += 1;
                assert!(pages <= expected.len(), "limit {limit}, broken {broken}: {seen:?}");
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            let readable: Vec<_> = expected.iter().filter(|other| *other != id).cloned().collect();
            assert_eq!(seen, readable, "limit {limit}, broken {broken}");
        }
        let sql = format!("UPDATE recharge_order SET amount = 1 WHERE order_id = '{id}'");
        farebox.database.run(sql).await;
    }
}
