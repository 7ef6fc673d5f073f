//! The audit log: what operators did, as they read it.

use farebox_sidecar::app::{AuditError, AuditFilter, AuditPage, AuditView, Credit, PageError};

use crate::fixture::{Fixture, credit};

async fn read(farebox: &Fixture, filter: AuditFilter) -> Vec<String> {
    let text = |action: &AuditView| format!("{} {} {}", action.by, action.action, action.subject);
    farebox.app.audit(&filter).await.unwrap().actions.iter().map(text).collect()
}

fn by(who: &str, account: &str, key: &str) -> Credit {
    Credit { actor: who.to_owned(), ..credit(account, "1", key) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_tells_who_did_what_why_and_what_it_changed() {
    let farebox = Fixture::new(&[], &[]).await;
    farebox.app.credit(&by("ann", "u", "k")).await.unwrap();
    farebox.app.credit(&by("bob", "u", "l")).await.unwrap();
    // A repeat does nothing, and one that is refused did nothing.
    farebox.app.credit(&by("bob", "u", "l")).await.unwrap();
    farebox.app.credit(&credit("u", "-5", "m")).await.unwrap_err();
    let page = farebox.app.audit(&AuditFilter::default()).await.unwrap();
    let [newest, oldest] = &page.actions[..] else { panic!("{page:?}") };
    assert_eq!(page.next_cursor, None);
    assert_eq!(
        [&newest.by, &newest.action, &newest.subject, &newest.reason],
        ["bob", "account.credit", "u", "test"]
    );
    assert!(newest.at.ends_with('Z') && oldest.id < newest.id);
    assert_eq!((&newest.before["balance"], &newest.after["balance"]), (&"1".into(), &"2".into()));
    assert_eq!((&oldest.by, &oldest.before["balance"]), (&"ann".to_owned(), &"0".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_what_its_filter_says() {
    let farebox = Fixture::new(&[], &[]).await;
    for (who, account, key) in [("ann", "u", "1"), ("bob", "u", "2"), ("ann", "v", "3")] {
        farebox.app.credit(&by(who, account, key)).await.unwrap();
    }
    let account =
        |name: &str| AuditFilter { account: Some(name.parse().unwrap()), ..AuditFilter::default() };
    let ann = || AuditFilter { by: Some("ann".to_owned()), ..AuditFilter::default() };
    let u = ["bob account.credit u", "ann account.credit u"];
    assert_eq!(read(&farebox, account("u")).await, u);
    assert_eq!(read(&farebox, account("U")).await, [""; 0], "names have a case");
    assert_eq!(read(&farebox, ann()).await, ["ann account.credit v", "ann account.credit u"]);
    let both = AuditFilter { account: account("v").account, ..ann() };
    assert_eq!(read(&farebox, both).await, ["ann account.credit v"]);

    // What was done to an account's order was done to the account.
    farebox
        .database
        .run(
            "INSERT INTO audit_log (actor, action, subject, reason, before_json, after_json, created_at)
             VALUES ('eve', 'order.refund', 'o1', 'r', 'no JSON', '{}', '2026-01-01 00:00:00.000')",
        )
        .await;
    farebox
        .database
        .run(
            "INSERT INTO recharge_order (order_id, user_id, amount, currency, status, source, created_at, updated_at)
             VALUES ('o1', 'v', 1, 'CNY', 'pending', 'farebox', UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))",
        )
        .await;
    let v = ["eve order.refund o1", "ann account.credit v"];
    assert_eq!(read(&farebox, account("v")).await, v);
    assert_eq!(read(&farebox, account("u")).await, u);
    let since = |moment: &str| AuditFilter {
        since: Some(moment.parse().unwrap()),
        by: Some("eve".to_owned()),
        ..AuditFilter::default()
    };
    for (moment, found) in [
        ("2026-01-01T00:00:00Z", 1),
        ("2026-01-01T08:00:00+08:00", 1),
        ("2026-01-01T00:00:00.001Z", 0),
    ] {
        assert_eq!(read(&farebox, since(moment)).await.len(), found, "{moment}");
    }
    let odd = farebox.app.audit(&since("2026-01-01T00:00:00Z")).await.unwrap();
    assert_eq!(odd.actions[0].before, "no JSON");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_neither_skip_nor_repeat_actions_while_new_ones_are_done() {
    let farebox = Fixture::new(&[], &[]).await;
    for key in 0..5 {
        farebox.app.credit(&credit("u", "1", &format!("{key}"))).await.unwrap();
    }
    let all = "SELECT audit_log_id FROM audit_log ORDER BY audit_log_id DESC";
    let expected = farebox.database.rows(all).await;
    for (limit, pages) in [(1, 5), (2, 3), (5, 1), (200, 1)] {
        let newest = expected[0].parse::<i64>().unwrap() + 1;
        let (mut seen, mut cursor, mut count) = (Vec::new(), Some(newest.to_string()), 0);
        while let Some(place) = cursor {
            let filter =
                AuditFilter { limit: Some(limit), cursor: Some(place), ..AuditFilter::default() };
            let AuditPage { actions, next_cursor } = farebox.app.audit(&filter).await.unwrap();
            seen.extend(actions.iter().map(|action| action.id.to_string()));
            count += 1;
            assert!(count <= pages, "limit {limit}: {seen:?}");
            farebox.app.credit(&credit("v", "1", &format!("{limit} {count}"))).await.unwrap();
            cursor = next_cursor;
        }
        assert_eq!((&seen, count), (&expected, pages), "limit {limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_sizes_cursors_and_moments_out_of_bounds_are_refused() {
    let farebox = Fixture::new(&[], &[]).await;
    for limit in [0, 201, u32::MAX] {
        let filter = AuditFilter { limit: Some(limit), ..AuditFilter::default() };
        let error = farebox.app.audit(&filter).await.unwrap_err();
        assert_eq!(error.to_string(), format!("limit is {limit}; write 1 to 200"));
    }
    for cursor in ["", "x", "0", "-1", "9223372036854775808", "1 OR TRUE"] {
        let filter = AuditFilter { cursor: Some(cursor.to_owned()), ..AuditFilter::default() };
        let answer = farebox.app.audit(&filter).await;
        assert!(matches!(answer, Err(AuditError::Page(PageError::Cursor))), "{cursor}: {answer:?}");
    }
    let since = Some("0000-01-01T00:00:00Z".parse().unwrap());
    let error = farebox.app.audit(&AuditFilter { since, ..AuditFilter::default() }).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "since is in the year 0; write a year from 1970 to 9999"
    );
}
