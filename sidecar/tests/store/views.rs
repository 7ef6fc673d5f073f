//! What users see of their own account: nothing is written, pages hold still, sums add up.

use farebox_core::call::CheckRequest;
use farebox_core::money::Nanos;
use farebox_core::wire::JournalReport;
use farebox_sidecar::app::{PageError, Period, RecordFilter, StatementView, UsageView, ViewError};

use crate::calls::{deduct, refund};
use crate::fixture::{Fixture, key, nanos, used, want};

fn name(account: &str) -> farebox_core::id::AccountId {
    account.parse().unwrap()
}

impl Fixture {
    /// How many rows there are that a view might have written.
    async fn rows(&self) -> Vec<String> {
        let mut counts = Vec::new();
        for table in ["user_balance", "free_quota", "usage_day", "price_version", "ledger_entry"] {
            counts.extend(self.database.rows(format!("SELECT COUNT(*) FROM {table}")).await);
        }
        counts
    }

    async fn usage(&self, account: &str, period: Period) -> UsageView {
        self.app.stats(&name(account), period, None).await.unwrap().usage
    }

    async fn statement(&self, account: &str, month: &str) -> StatementView {
        self.app.statement(&name(account), month).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_an_account_writes_nothing() {
    let farebox = Fixture::new(&[("b", 5), ("a", 3)], &[("a", "0.5"), ("c", "1")]).await;
    let before = farebox.rows().await;
    let stranger = name("stranger");
    let account = farebox.app.own_account(&stranger).await.unwrap();
    assert_eq!((account.balance, account.available), (Nanos::ZERO, Nanos::ZERO));
    let quotas = account.free_quotas.iter();
    let quotas: Vec<_> =
        quotas.map(|quota| (quota.service.as_str(), quota.remaining, quota.total)).collect();
    assert_eq!(quotas, [("a", 3, 3), ("b", 5, 5)], "in order of their names");
    assert_eq!(farebox.usage("stranger", Period::Month).await, UsageView::default());
    assert!(farebox.app.stats_summary(&stranger).await.unwrap().services.is_empty());
    let records = farebox.app.records(&stranger, &RecordFilter::default()).await.unwrap();
    assert!(records.records.is_empty() && records.next_cursor.is_none());
    let month = account.month.clone();
    let statement = farebox.statement("stranger", &month).await;
    assert_eq!((statement.opening, statement.closing), (Nanos::ZERO, Nanos::ZERO));
    for (service, units, expected) in [("a", 3, true), ("a", 4, false), ("c", 1, false)] {
        let request = CheckRequest {
            user_id: stranger.clone(),
            service: service.parse().unwrap(),
            count: units,
            price: None,
        };
        let quote = farebox.app.quote(&request).await.unwrap();
        assert_eq!(quote.allowed, expected, "{units} {service}: {quote:?}");
    }
    assert_eq!(farebox.rows().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_is_what_a_check_tells() {
    let farebox = Fixture::new(&[("a", 3)], &[("a", "0.5")]).await;
    farebox.credit("u", "2").await;
    farebox.told(deduct("d", "u", "a", 1)).await;
    for units in [1, 2, 3, 6, 7] {
        let request = CheckRequest {
            user_id: name("u"),
            service: "a".parse().unwrap(),
            count: units,
            price: None,
        };
        let quote = farebox.app.quote(&request).await.unwrap();
        let checked = farebox.app.check(std::slice::from_ref(&request)).await.remove(0).unwrap();
        assert_eq!(quote, checked, "{units}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_records_neither_skip_nor_repeat_while_new_ones_are_written() {
    let farebox = Fixture::new(&[("a", 1_000), ("b", 1_000)], &[]).await;
    for number in 0..11 {
        farebox.told(deduct(&format!("d{number}"), "u", "a", 1)).await;
    }
    let same = "UPDATE billing_record SET created_at = '2026-01-01 00:00:00.123' ORDER BY billing_record_id LIMIT 7";
    assert_eq!(farebox.database.run(same).await, 7);
    let newest =
        "SELECT billing_record_id FROM billing_record WHERE user_id = 'u' AND service_name = 'a'
        ORDER BY created_at DESC, billing_record_id DESC";
    let expected = farebox.database.rows(newest).await;
    let mut calls = 0;
    for (limit, pages) in [(1, 11), (2, 6), (3, 4), (11, 1), (200, 1)] {
        let (mut seen, mut cursor, mut count) = (Vec::new(), None, 0);
        loop {
            let service = Some("a".parse().unwrap());
            let filter = RecordFilter { service, limit: Some(limit), cursor, ..Default::default() };
            let page = farebox.app.records(&name("u"), &filter).await.unwrap();
            seen.extend(page.records.into_iter().map(|record| record.id));
            count += 1;
            // New records, of this user and of others, stand before the first page or are no part of it.
            calls += 1;
            farebox.told(deduct(&format!("v{calls}"), "v", "a", 1)).await;
            farebox.told(deduct(&format!("b{calls}"), "u", "b", 1)).await;
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!((&seen, count), (&expected, pages), "limit {limit}");
    }
    for (limit, is_good) in [(0, false), (1, true), (200, true), (201, false)] {
        let filter = RecordFilter { limit: Some(limit), ..Default::default() };
        let page = farebox.app.records(&name("u"), &filter).await;
        assert_eq!(page.is_ok(), is_good, "{limit}");
        assert!(is_good || matches!(page, Err(ViewError::Page(PageError::Limit { .. }))));
    }
    let garbage = RecordFilter { cursor: Some("x".to_owned()), ..Default::default() };
    let page = farebox.app.records(&name("u"), &garbage).await;
    assert!(matches!(page, Err(ViewError::Page(PageError::Cursor))));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_of_the_time_that_was_asked_for() {
    let farebox = Fixture::new(&[("a", 1_000)], &[]).await;
    for number in 0..4 {
        farebox.told(deduct(&format!("d{number}"), "u", "a", 1)).await;
    }
    // In Shanghai: one before midnight of the 5th, one at midnight, one a millisecond before the next, one at that.
    for (number, time) in [
        "2026-03-04 15:59:59.999",
        "2026-03-04 16:00:00.000",
        "2026-03-05 15:59:59.999",
        "2026-03-05 16:00:00.000",
    ]
    .into_iter()
    .enumerate()
    {
        let sql = format!(
            "UPDATE billing_record SET created_at = '{time}' WHERE billing_record_id = (SELECT * FROM (
               SELECT billing_record_id FROM billing_record ORDER BY billing_record_id LIMIT 1 OFFSET {number}) AS row_of_it)"
        );
        assert_eq!(farebox.database.run(sql).await, 1);
    }
    let moment = |text: &str| farebox.app.moment(text);
    for (from, to, expected) in [
        (moment("2026-03-05"), moment("2026-03-06"), 2),
        (moment("2026-03-05"), None, 3),
        (None, moment("2026-03-05"), 1),
        (moment("2026-03-04T16:00:00Z"), moment("2026-03-04T16:00:00.001Z"), 1),
        (moment("2026-03-07"), moment("2026-03-01"), 0),
    ] {
        let filter = RecordFilter { from, to, ..Default::default() };
        let page = farebox.app.records(&name("u"), &filter).await.unwrap();
        assert_eq!(page.records.len(), expected, "{from:?} {to:?}");
    }
    assert!(moment("yesterday").is_none() && moment("2026-02-30").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_add_up_whatever_charged_and_whenever_it_went_back() {
    let farebox = Fixture::new(&[("a", 3)], &[("a", "0.5"), ("b", "1")]).await;
    farebox.credit("u", "5").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "a", 5, 5)).await.unwrap().lease;
    edge.report(used(lease, 2)).await;
    edge.report(used(lease, 5)).await;
    farebox.told(deduct("d", "u", "b", 3)).await;
    let record = "SELECT billing_record_id FROM billing_record WHERE service_name = 'b'";
    let record = farebox.database.rows(record).await.remove(0);
    farebox.told(refund("back", &record, Some(1))).await;
    // What no money was there for.
    let line = JournalReport { line: 1, key: key("u", "b"), used: 4 };
    edge.send(vec![], vec![], vec![line]).await;

    let usage = UsageView {
        total_count: 12,
        free_count: 3,
        paid_count: 9,
        total_cost: nanos("8"),
        owed: nanos("2"),
        refunded_count: 1,
        refunded_cost: nanos("1"),
    };
    assert_eq!(farebox.usage("u", Period::Today).await, usage);
    assert_eq!(farebox.usage("u", Period::Month).await, usage);
    assert_eq!(farebox.usage("v", Period::Month).await, UsageView::default(), "nobody else's");
    let summary = farebox.app.stats_summary(&name("u")).await.unwrap();
    let services: Vec<_> = summary
        .services
        .iter()
        .map(|service| (service.service_name.as_str(), service.usage.total_count))
        .collect();
    assert_eq!((summary.usage, services), (usage, vec![("a", 5), ("b", 7)]));
    let only = "a".parse().unwrap();
    let only = farebox.app.stats(&name("u"), Period::Month, Some(&only)).await.unwrap();
    assert_eq!((only.usage.total_count, only.usage.total_cost), (5, nanos("1")));

    // Yesterday is no part of today, and last month none of this.
    farebox
        .database
        .run("UPDATE usage_day SET day = day - INTERVAL 1 MONTH WHERE service_name = 'b'")
        .await;
    assert_eq!(farebox.usage("u", Period::Month).await.total_count, 5);
    farebox
        .database
        .run("UPDATE usage_day SET day = day - INTERVAL 1 DAY WHERE service_name = 'a'")
        .await;
    assert_eq!(farebox.usage("u", Period::Today).await.total_count, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_adds_up_and_months_follow_each_other() {
    let farebox = Fixture::new(&[("a", 2)], &[("a", "0.3"), ("b", "0.07")]).await;
    let credits = ["1", "0.000000001", "2.5"];
    for (number, amount) in credits.iter().enumerate() {
        farebox.credit("u", amount).await;
        farebox.told(deduct(&format!("a{number}"), "u", "a", 2)).await;
        farebox.told(deduct(&format!("b{number}"), "u", "b", 3)).await;
    }
    let record = "SELECT billing_record_id FROM billing_record WHERE service_name = 'b' LIMIT 1";
    let record = farebox.database.rows(record).await.remove(0);
    farebox.told(refund("back", &record, Some(2))).await;
    // The first five movements were in February of a leap year, from its first millisecond to its last, in Shanghai.
    for (number, time) in [
        "2028-01-31 16:00:00.000",
        "2028-02-05 00:00:00",
        "2028-02-05 00:01:00",
        "2028-02-28 16:00:00",
        "2028-02-29 15:59:59.999",
    ]
    .into_iter()
    .enumerate()
    {
        let sql = format!(
            "UPDATE ledger_entry SET created_at = '{time}' WHERE user_id = 'u' AND user_seq = {}",
            number + 1
        );
        assert_eq!(farebox.database.run(sql).await, 1);
    }
    let later = "UPDATE ledger_entry SET created_at = '2028-02-29 16:00:00' WHERE user_seq > 5";
    farebox.database.run(later).await;
    let months = ["2028-01", "2028-02", "2028-03", "2028-04"];
    let mut opening = Nanos::ZERO;
    let mut lines = Vec::new();
    for month in months {
        let statement = farebox.statement("u", month).await;
        assert_eq!(statement.opening, opening, "{month}");
        let moved = statement.movements.iter().map(|movement| movement.amount);
        let closing = moved.fold(opening, |sum, amount| sum.checked_add(amount).unwrap());
        assert_eq!(statement.closing, closing, "{month}");
        opening = closing;
        lines.push(statement.movements.len());
    }
    let balance = farebox.view("u").await.balance;
    assert_eq!(opening, balance);
    // Of February: a credit, then a and b of one day as a line each; the free units of a cost nothing.
    assert_eq!((lines[0], lines[3]), (0, 0));
    let february = farebox.statement("u", "2028-02").await;
    assert_eq!(
        (february.from.as_str(), february.to.as_str()),
        ("2028-01-31T16:00:00.000Z", "2028-02-29T16:00:00.000Z")
    );
    let days: Vec<&str> = february.movements.iter().map(|movement| movement.day.as_str()).collect();
    assert_eq!((days.first(), days.last()), (Some(&"2028-02-01"), Some(&"2028-02-29")));

    let csv = february.to_csv();
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == 6), "{csv}");
    assert_eq!(rows.first().unwrap().join(","), "day,kind,service,count,amount,currency");
    assert_eq!(rows[1][1..], ["opening_balance", "", "", "0", "CNY"]);
    assert_eq!(rows.last().unwrap()[1], "closing_balance");
    for month in ["2028-13", "2028", "28-02", "2028-2", "", "2028-02-01", "１２３４-01"] {
        let refused = farebox.app.statement(&name("u"), month).await;
        assert!(matches!(refused, Err(ViewError::Month { .. })), "{month}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_of_a_database_that_had_none_begin_with_the_month_before() {
    let farebox = Fixture::new(&[("a", 9)], &[]).await;
    for number in 0..3 {
        farebox.told(deduct(&format!("d{number}"), "u", "a", 1)).await;
    }
    let (old, older) = ("created_at - INTERVAL 1 MONTH", "created_at - INTERVAL 3 MONTH");
    for (time, offset) in [(old, 1), (older, 2)] {
        let sql = format!(
            "UPDATE billing_record SET created_at = {time} WHERE billing_record_id = (SELECT * FROM (
               SELECT billing_record_id FROM billing_record ORDER BY billing_record_id LIMIT 1 OFFSET {offset}) AS row_of_it)"
        );
        assert_eq!(farebox.database.run(sql).await, 1);
    }
    assert_eq!(farebox.app.begin_statistics().await.unwrap(), 0, "there are statistics");
    farebox.database.run("DELETE FROM usage_day").await;
    assert_eq!(farebox.app.begin_statistics().await.unwrap(), 2, "today, and a month ago");
    assert_eq!(farebox.app.begin_statistics().await.unwrap(), 0);
    assert_eq!(farebox.usage("u", Period::Today).await.total_count, 1);
}
