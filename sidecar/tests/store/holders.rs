//! Gateways and leases as operators see them: who holds what, in pages, and asking for it back.

use std::collections::BTreeSet;

use farebox_core::wire::Report;
use farebox_sidecar::app::{
    AuditFilter, GatewayFilter, HoldersError, LeaseFilter, LeaseView, PageError, RecallError,
};
use farebox_sidecar::store::lease_plans;
use sqlx::{AssertSqlSafe, Row as _};

use crate::fixture::{Fixture, nanos, used, want};

async fn gateways(farebox: &Fixture) -> Vec<String> {
    let page = farebox.app.gateways(&GatewayFilter::default()).await.unwrap();
    let line = |gateway: farebox_sidecar::app::GatewayView| {
        format!(
            "{} {} {} {} {} {}+{} {}",
            gateway.gateway,
            gateway.epoch,
            gateway.state,
            gateway.open_leases,
            gateway.recalled_leases,
            gateway.free_units,
            gateway.paid_units,
            gateway.at_risk
        )
    };
    page.gateways.into_iter().map(line).collect()
}

async fn leases(farebox: &Fixture, filter: LeaseFilter) -> Vec<LeaseView> {
    farebox.app.leases(&filter).await.unwrap().leases
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_tells_what_it_holds_and_whether_it_lives() {
    let farebox = Fixture::new(&[("asset", 2)], &[("asset", "0.5")]).await;
    farebox.credit("u", "10").await;
    farebox.credit("v", "10").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 6, 6)).await.unwrap().lease;
    edge.want(want("v", "asset", 4, 4)).await.unwrap();
    let mut other = farebox.gateway("edge-2");
    other.send(vec![], vec![], vec![]).await;
    // 2 free and 4 paid of u, 2 free and 2 paid of v.
    assert_eq!(gateways(&farebox).await, ["edge-1 1 alive 2 0 4+6 3", "edge-2 1 alive 0 0 0+0 0"]);
    edge.report(used(lease, 5)).await;
    assert_eq!(gateways(&farebox).await[0], "edge-1 1 alive 2 0 2+3 1.5");
    let past = "UPDATE gateway SET last_seen_at = last_seen_at - INTERVAL 30 SECOND";
    farebox.database.run(past).await;
    assert_eq!(
        gateways(&farebox).await,
        ["edge-1 1 silent 2 0 2+3 1.5", "edge-2 1 gone 0 0 0+0 0"]
    );
    // A new process of the same name: the old one is told as long as it holds something.
    let mut again = farebox.gateway("edge-1");
    again.send(vec![], vec![], vec![]).await;
    assert_eq!(
        gateways(&farebox).await,
        ["edge-1 1 silent 2 2 2+3 1.5", "edge-1 2 alive 0 0 0+0 0", "edge-2 1 gone 0 0 0+0 0"]
    );
    let ended = "UPDATE lease SET reclaim_at = UTC_TIMESTAMP(3) - INTERVAL 1 SECOND";
    farebox.database.run(ended).await;
    farebox.app.reclaim().await.unwrap();
    assert_eq!(gateways(&farebox).await, ["edge-1 2 alive 0 0 0+0 0", "edge-2 1 gone 0 0 0+0 0"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_gateways_neither_skip_nor_repeat_while_others_come() {
    let farebox = Fixture::new(&[], &[("asset", "1")]).await;
    for name in ["b", "d", "f", "h"] {
        farebox.gateway(name).send(vec![], vec![], vec![]).await;
    }
    for limit in [1, 2, 3, 200] {
        let (mut seen, mut cursor, mut rounds) = (Vec::new(), None, 0);
        loop {
            let filter = GatewayFilter { limit: Some(limit), cursor };
            let page = farebox.app.gateways(&filter).await.unwrap();
            seen.extend(page.gateways.into_iter().map(|gateway| gateway.gateway));
            rounds += 1;
            // One that stands before what was read.
            farebox.gateway(&format!("a{limit}-{rounds}")).send(vec![], vec![], vec![]).await;
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        seen.retain(|name| !name.starts_with('a'));
        assert_eq!(seen, ["b", "d", "f", "h"], "limit {limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_tells_whose_units_it_holds_and_what_became_of_them() {
    let farebox = Fixture::new(&[("asset", 2)], &[("asset", "0.5")]).await;
    farebox.credit("u", "10").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 10, 10)).await.unwrap().lease;
    edge.report(Report { in_flight: 3, ..used(lease, 5) }).await;
    let told = &leases(&farebox, LeaseFilter::default()).await[0];
    let LeaseView { account, service, gateway, price, .. } = told;
    assert_eq!(
        (told.id, account.as_str(), service.as_str(), gateway.as_str(), *price),
        (lease, "u", "asset", "edge-1", nanos("0.5"))
    );
    assert_eq!(
        (told.free_granted, told.paid_granted, told.free_used, told.paid_used),
        (2, 8, 2, 3)
    );
    assert_eq!((told.in_flight, told.free_held, told.paid_held), (3, 0, 5));
    assert_eq!((told.held, told.recalled, told.is_route_price), (nanos("2.5"), false, false));
    assert!(told.not_after.is_some() && told.renewed_at < told.reclaim_at);
    assert_eq!(farebox.view("u").await.held, told.held);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_found_by_gateway_account_and_service() {
    let farebox = Fixture::new(&[], &[("asset", "1"), ("coin", "1")]).await;
    for account in ["u", "v"] {
        farebox.credit(account, "100").await;
    }
    let (mut one, mut two) = (farebox.gateway("edge-1"), farebox.gateway("edge-2"));
    one.want(want("u", "asset", 1, 1)).await.unwrap();
    two.want(want("u", "coin", 1, 1)).await.unwrap();
    two.want(want("v", "asset", 1, 1)).await.unwrap();
    let ended = one.want(want("v", "coin", 1, 1)).await.unwrap().lease;
    one.report(Report { close: true, ..used(ended, 1) }).await;
    let filter = |gateway: &str, account: &str, service: &str| LeaseFilter {
        gateway: gateway.parse().ok(),
        account: account.parse().ok(),
        service: service.parse().ok(),
        ..LeaseFilter::default()
    };
    let all = ["edge-2 v asset", "edge-2 u coin", "edge-1 u asset"];
    for (filter, found) in [
        (filter("", "", ""), &all[..]),
        (filter("edge-2", "", ""), &all[..2]),
        (filter("edge-1", "", ""), &all[2..]),
        (filter("", "u", ""), &all[1..]),
        (filter("", "", "coin"), &all[1..2]),
        (filter("edge-2", "u", ""), &all[1..2]),
        (filter("edge-2", "", "asset"), &all[..1]),
        (filter("edge-1", "u", "asset"), &all[2..]),
        (filter("edge-1", "v", "coin"), &[]),
        (filter("edge-3", "", ""), &[]),
    ] {
        let line =
            |lease: LeaseView| format!("{} {} {}", lease.gateway, lease.account, lease.service);
        let lines: Vec<String> =
            leases(&farebox, filter.clone()).await.into_iter().map(line).collect();
        assert_eq!(lines, found, "{filter:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_leases_neither_skip_nor_repeat_while_others_begin() {
    let farebox = Fixture::new(&[], &[("asset", "1")]).await;
    let mut edge = farebox.gateway("edge-1");
    let mut expected = Vec::new();
    for number in 0..5 {
        let account = format!("u{number}");
        farebox.credit(&account, "100").await;
        expected.push(edge.want(want(&account, "asset", 1, 1)).await.unwrap().lease);
    }
    expected.reverse();
    // Recalled ones stand in another part of the index.
    for lease in [expected[1], expected[3]] {
        farebox.app.recall(lease, "r", "tests").await.unwrap();
    }
    let mut last = 0;
    for (limit, gateway) in
        [(1, None), (2, None), (1, Some("edge-1")), (2, Some("edge-1")), (5, None)]
    {
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let gateway = gateway.map(|name: &str| name.parse().unwrap());
            let filter =
                LeaseFilter { gateway, limit: Some(limit), cursor, ..LeaseFilter::default() };
            let page = farebox.app.leases(&filter).await.unwrap();
            assert!(page.leases.len() <= limit as usize);
            seen.extend(page.leases.iter().map(|lease| lease.id));
            cursor = page.next_cursor;
            last += 1;
            let account = format!("later-{last}");
            farebox.credit(&account, "1").await;
            edge.want(want(&account, "asset", 1, 1)).await.unwrap();
            if cursor.is_none() {
                break;
            }
        }
        let unique: BTreeSet<u64> = seen.iter().copied().collect();
        assert_eq!(unique.len(), seen.len(), "{seen:?}");
        seen.retain(|lease| expected.contains(lease));
        assert_eq!(seen, expected, "limit {limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_recalled_once_and_its_units_come_home() {
    let farebox = Fixture::new(&[], &[("asset", "1")]).await;
    farebox.credit("u", "10").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 6, 6)).await.unwrap().lease;
    for _ in 0..2 {
        assert!(farebox.app.recall(lease, "stuck", "ann").await.unwrap().recalled);
    }
    let about = AuditFilter { by: Some("ann".to_owned()), ..AuditFilter::default() };
    let actions = farebox.app.audit(&about).await.unwrap().actions;
    let [action] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(
        (action.action.as_str(), action.subject.clone()),
        ("lease.recall", lease.to_string())
    );
    assert_eq!(
        (&action.before["recalled"], &action.after["recalled"]),
        (&false.into(), &true.into())
    );
    assert_eq!(action.after["paid_held"], 6);
    // The gateway hears of it with its next message.
    let reply = edge.report(used(lease, 2)).await;
    assert_eq!(reply.recalls.iter().map(|recall| recall.lease).collect::<Vec<_>>(), [lease]);
    edge.report(Report { returned: 4, close: true, ..used(lease, 2) }).await;
    assert_eq!(farebox.money("u").await, "8 0 0");
    let ended = farebox.app.recall(lease, "stuck", "ann").await.unwrap_err();
    assert!(matches!(ended, RecallError::Ended { .. }), "{ended}");
    let unknown = farebox.app.recall(lease + 1, "stuck", "ann").await.unwrap_err();
    assert!(matches!(unknown, RecallError::Unknown { .. }), "{unknown}");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn page_sizes_and_cursors_out_of_bounds_are_refused() {
    let farebox = Fixture::new(&[], &[]).await;
    for limit in [0, 201] {
        let found =
            farebox.app.leases(&LeaseFilter { limit: Some(limit), ..LeaseFilter::default() }).await;
        assert!(matches!(found, Err(HoldersError::Page(PageError::Limit { .. }))), "{found:?}");
        let found = farebox.app.gateways(&GatewayFilter { limit: Some(limit), cursor: None }).await;
        assert!(matches!(found, Err(HoldersError::Page(PageError::Limit { .. }))), "{found:?}");
    }
    let cursor = Some("x".to_owned());
    let found = farebox.app.gateways(&GatewayFilter { limit: None, cursor: cursor.clone() }).await;
    assert!(matches!(found, Err(HoldersError::Page(PageError::Cursor))), "{found:?}");
    let found = farebox.app.leases(&LeaseFilter { cursor, ..LeaseFilter::default() }).await;
    assert!(matches!(found, Err(HoldersError::Page(PageError::Cursor))), "{found:?}");
}

/// 100,000 open leases of 20 gateways, among as many that have ended.
async fn crowd(farebox: &Fixture) {
    let digits = "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
        UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    let n = format!(
        "(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d AS i
          FROM {digits} AS a, {digits} AS b, {digits} AS c, {digits} AS e, {digits} AS f) AS n"
    );
    let leases = format!(
        "INSERT INTO lease (gateway_id, epoch, user_id, service_name, price, reset_month, free_granted, paid_granted, state,
           open_key, reclaim_at, recall, created_at, updated_at)
         SELECT CONCAT('edge-', i % 20), 1, CONCAT('u', i), CONCAT('s', i % 3), 1, '2026-11', 0, 0, IF(j = 1, 'open', 'closed'),
           IF(j = 1, UNHEX(SHA2(i, 256)), NULL), NOW(), i % 7 = 0, NOW(), NOW()
         FROM {n}, (SELECT 1 AS j UNION ALL SELECT 2) AS m"
    );
    assert_eq!(farebox.database.run(leases).await, 200_000);
    farebox.database.run("ANALYZE TABLE lease").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_100_000_leases_reads_what_it_shows() {
    let farebox = Fixture::new(&[], &[]).await;
    crowd(&farebox).await;
    for (index, sql) in lease_plans() {
        let sql = [
            ("lease_id < ?", "lease_id < 9223372036854775807"),
            ("user_id = ?", "user_id = 'u7'"),
            ("gateway_id = ?", "gateway_id = 'edge-7'"),
            ("service_name = ?", "service_name = 's1'"),
            ("LIMIT ?", "LIMIT 21"),
        ]
        .iter()
        .fold(sql, |sql, (from, to)| sql.replace(from, to));
        let explain = sqlx::query(AssertSqlSafe(format!("EXPLAIN FORMAT = TRADITIONAL {sql}")));
        let plan = explain.fetch_all(&farebox.database.pool).await.unwrap();
        for line in &plan {
            let text = |column: &str| {
                line.try_get::<Option<String>, _>(column).unwrap().unwrap_or_default()
            };
            if text("table") == "lease" {
                assert_eq!(text("key"), index, "{sql}");
                assert!(!text("Extra").contains("filesort"), "{}: {sql}", text("Extra"));
            }
        }
    }
    let edge =
        LeaseFilter { gateway: "edge-7".parse().ok(), limit: Some(200), ..LeaseFilter::default() };
    let (mut count, mut cursor) = (0, None);
    loop {
        let page = farebox.app.leases(&LeaseFilter { cursor, ..edge.clone() }).await.unwrap();
        count += page.leases.len();
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(count, 5_000);
}
