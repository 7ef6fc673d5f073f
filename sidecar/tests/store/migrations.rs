//! Empty databases and databases of the predecessor end in the same schema.

use farebox_sidecar::app::{App, CallbackError, NotReady};
use farebox_sidecar::store::Store;

use crate::database::Database;
use crate::fixture::{Fixture, settings, used, want};
use crate::orders;

/// The predecessor's tables with a billing type of its two ages, and rows that only it could write.
async fn predecessor(billing_type: &str) -> Database {
    let database = Database::create().await;
    for sql in [
        "CREATE TABLE user_balance (
           user_balance_id VARCHAR(36) NOT NULL, user_id VARCHAR(36) NOT NULL, balance DECIMAL(10,2) DEFAULT 0.00,
           created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP,
           updated_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
           PRIMARY KEY (user_balance_id), UNIQUE KEY uk_user_id (user_id)
         ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci".to_owned(),
        "CREATE TABLE free_quota (
           free_quota_id VARCHAR(36) NOT NULL, user_id VARCHAR(36) NOT NULL, service_name VARCHAR(32) NOT NULL,
           total_quota INT DEFAULT 0, used_quota INT DEFAULT 0, reset_month VARCHAR(7) NOT NULL,
           created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP,
           updated_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
           PRIMARY KEY (free_quota_id), UNIQUE KEY uk_user_service_month (user_id, service_name, reset_month)
         ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci".to_owned(),
        format!("CREATE TABLE billing_record (
           billing_record_id VARCHAR(36) NOT NULL, user_id VARCHAR(36) NOT NULL, service_name VARCHAR(32) NOT NULL,
           type {billing_type} NOT NULL, amount DECIMAL(10,4) DEFAULT 0, count INT DEFAULT 1,
           created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (billing_record_id),
           KEY idx_user_date (user_id, created_at)
         ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci"),
        "INSERT INTO user_balance (user_balance_id, user_id, balance) VALUES
           ('b1', 'rich', 99999999.99), ('b2', 'poor', 0.01), ('b3', 'owing', -3.50), ('b4', 'none', NULL), ('b5', 'zero', 0)".to_owned(),
        "INSERT INTO free_quota (free_quota_id, user_id, service_name, total_quota, used_quota, reset_month) VALUES
           ('q1', 'rich', 'passport', 10000, 120, '2025-12'), ('q2', 'poor', 'passport', 100, 117, '2025-12'),
           ('q3', 'none', 'passport', NULL, NULL, '2025-12')".to_owned(),
        "INSERT INTO billing_record (billing_record_id, user_id, service_name, type, amount, count, created_at) VALUES
           ('r1', 'rich', 'passport', 1, 0, 120, '2025-12-01 08:00:00'), ('r2', 'poor', 'passport', 2, 0.0123, 12, '2025-12-02 08:00:00')".to_owned(),
    ] {
        database.run(sql).await;
    }
    database
}

/// The predecessor's orders: paid and pending ones with what it wrote where it knew no payment, a failed one, and an odd one.
const ORDERS: [&str; 2] = [
    "CREATE TABLE recharge_order (
       order_id VARCHAR(64) NOT NULL, user_id VARCHAR(36) NOT NULL, amount DECIMAL(10,2) NOT NULL,
       payment_order_id VARCHAR(64) DEFAULT NULL, status ENUM('pending','success','failed') DEFAULT 'pending',
       created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP,
       updated_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
       PRIMARY KEY (order_id), UNIQUE KEY uk_payment_order_id (payment_order_id), KEY idx_user_id (user_id)
     ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci",
    "INSERT INTO recharge_order (order_id, user_id, amount, payment_order_id, status, created_at, updated_at) VALUES
       ('o1', 'rich', 100.00, 'o1', 'success', '2025-11-01 08:00:00', '2025-11-01 08:01:00'),
       ('o2', 'rich', 99999999.99, '', 'pending', '2025-11-02 08:00:00', '2025-11-02 08:00:00'),
       ('o3', 'poor', 5.50, NULL, 'pending', '2025-11-03 08:00:00', '2025-11-03 08:00:00'),
       ('o4', 'poor', 6.00, NULL, 'failed', '2025-11-04 08:00:00', '2025-11-04 08:02:00'),
       ('o5', 'rich', 0.29, 'pay-5', 'success', '2025-11-05 08:00:00', '2025-11-05 08:03:00'),
       ('o6', 'new', 0.00, NULL, 'pending', '2025-11-06 08:00:00', '2025-11-06 08:00:00'),
       ('o7', 'none', 7.00, NULL, NULL, NULL, NULL),
       ('o8', 'rich', -8.00, NULL, 'pending', '2025-11-08 08:00:00', '2025-11-08 08:00:00')",
];

/// The predecessor's database with its table of orders.
async fn predecessor_with_orders() -> Database {
    let database = predecessor("TINYINT").await;
    for sql in ORDERS {
        database.run(sql).await;
    }
    database
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_the_predecessor_go_on_where_they_stood() {
    let fixture = Fixture::on(predecessor_with_orders().await, &[], &[]).await;
    let farebox = orders::with_payment(fixture);
    let rows = "SELECT order_id, user_id, amount, refunded_amount, currency, payment_order_id, status, source,
            ask_at <= UTC_TIMESTAMP(3), paid_at, credited_at, idempotency_key
        FROM recharge_order ORDER BY order_id";
    assert_eq!(
        farebox.database.rows(rows).await,
        [
            "o1 rich 100.000000000 0.000000000 CNY NULL paid predecessor NULL NULL NULL NULL",
            "o2 rich 99999999.990000000 0.000000000 CNY NULL pending predecessor 1 NULL NULL NULL",
            "o3 poor 5.500000000 0.000000000 CNY NULL pending predecessor 1 NULL NULL NULL",
            "o4 poor 6.000000000 0.000000000 CNY NULL failed predecessor NULL NULL NULL NULL",
            "o5 rich 0.290000000 0.000000000 CNY pay-5 paid predecessor NULL NULL NULL NULL",
            "o6 new 0.000000000 0.000000000 CNY NULL pending predecessor 1 NULL NULL NULL",
            "o7 none 7.000000000 0.000000000 CNY NULL pending predecessor 1 NULL NULL NULL",
            "o8 rich -8.000000000 0.000000000 CNY NULL pending predecessor 1 NULL NULL NULL",
        ]
    );
    let times = "SELECT created_at, updated_at FROM recharge_order WHERE order_id = 'o1'";
    assert_eq!(
        farebox.database.rows(times).await,
        ["2025-11-01 08:00:00.000 2025-11-01 08:01:00.000"]
    );
    let entries = "SELECT COUNT(*) FROM ledger_entry WHERE kind = 'recharge'";
    assert_eq!(farebox.database.rows(entries).await, ["0"]);
    farebox.assert_sound().await;

    // What is pending is paid once.
    for credited in [true, false, false] {
        let noted = farebox.app.callback(&orders::success("o3", "pay-3", "5.5")).await.unwrap();
        assert_eq!((noted.state.as_str(), noted.credited), ("paid", credited));
    }
    assert_eq!(farebox.money("poor").await, "5.51 0 0");
    // What was paid there is not paid again. Its payment becomes known, so that it can be given back.
    let books = farebox.books().await;
    for (order, payment, amount) in [("o1", "pay-1", "100"), ("o5", "pay-5", "0.29")] {
        for _ in 0..2 {
            let noted =
                farebox.app.callback(&orders::success(order, payment, amount)).await.unwrap();
            assert_eq!(
                (noted.state.as_str(), noted.credited, noted.changed),
                ("paid", false, false)
            );
        }
    }
    assert_eq!(farebox.books().await, books);
    let known = "SELECT payment_order_id, credited_at FROM recharge_order WHERE order_id = 'o1'";
    assert_eq!(farebox.database.rows(known).await, ["pay-1 NULL"]);
    // Nothing was ordered, so nothing can be paid, and less than nothing takes nothing away.
    for (order, payment, amount) in [("o6", "pay-6", "0"), ("o8", "pay-8", "-8")] {
        let odd = farebox.app.callback(&orders::success(order, payment, amount)).await;
        assert!(matches!(odd, Err(CallbackError::Mismatch { kind: "amount", .. })), "{odd:?}");
    }
    assert_eq!(farebox.anomalies().await, ["amount o6 pay-6 1", "amount o8 pay-8 1"]);
    assert_eq!(farebox.books().await, books);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_of_orders_that_broke_off_can_run_again() {
    let (whole, broken) = (predecessor_with_orders().await, predecessor_with_orders().await);
    let [shape, fill, widen, states, tighten] = [
        include_str!("../../../migrations/20261122000024_recharge_order.sql"),
        include_str!("../../../migrations/20261122000025_recharge_order_without_defaults.sql"),
        include_str!("../../../migrations/20261122000026_recharge_order_widen.sql"),
        include_str!("../../../migrations/20261122000027_recharge_order_states.sql"),
        include_str!("../../../migrations/20261122000028_recharge_order_tighten.sql"),
    ];
    for sql in [shape, shape, fill, fill, widen, states, states, tighten, states] {
        broken.run(sql).await;
    }
    Store::connect(&whole.options, 2).await.unwrap().migrate().await.unwrap();
    // The two began at different times: only these columns tell.
    let without = ["ask_at"];
    let mut rows = whole.dump(&["recharge_order"], &without).await;
    let mut again = broken.dump(&["recharge_order"], &without).await;
    for row in rows.iter_mut().chain(&mut again).filter(|row| row.starts_with("recharge_order|o7"))
    {
        row.truncate(row.find("|2").unwrap_or(row.len()));
    }
    assert_eq!(again, rows);
    let due =
        "SELECT COUNT(*) FROM recharge_order WHERE (status = 'pending') = (ask_at IS NOT NULL)";
    assert_eq!(broken.rows(due).await, ["8"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn money_and_quotas_of_the_predecessor_carry_over_exactly() {
    for billing_type in ["ENUM('free','balance')", "TINYINT"] {
        let farebox =
            Fixture::on(predecessor(billing_type).await, &[], &[("passport", "0.001")]).await;
        let balances = "SELECT user_id, balance, receivable, currency, entry_seq FROM user_balance ORDER BY user_balance_id";
        assert_eq!(
            farebox.database.rows(balances).await,
            [
                "rich 99999999.990000000 0.000000000 CNY 1",
                "poor 0.010000000 0.000000000 CNY 1",
                "owing 0.000000000 3.500000000 CNY 0",
                "none 0.000000000 0.000000000 CNY 0",
                "zero 0.000000000 0.000000000 CNY 0",
            ]
        );
        let quotas = "SELECT user_id, total_quota, used_quota, held_quota FROM free_quota ORDER BY free_quota_id";
        assert_eq!(
            farebox.database.rows(quotas).await,
            ["rich 10000 120 0", "poor 100 100 0", "none 0 0 0"]
        );
        let records = &farebox.view("poor").await.records;
        assert_eq!(
            (
                records[0].kind.as_str(),
                records[0].amount.to_string().as_str(),
                records[0].paid_units
            ),
            ("balance", "0.0123", 12)
        );
        assert_eq!(farebox.view("rich").await.records[0].kind, "free");
        farebox.assert_sound().await;

        // The predecessor's users go on.
        let mut edge = farebox.gateway("edge-1");
        let grant = edge.want(want("rich", "passport", 10, 10)).await.unwrap();
        edge.report(used(grant.lease, 1)).await;
        farebox.credit("owing", "5").await;
        assert_eq!(farebox.money("owing").await, "1.5 0 0");
        farebox.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_paths_end_in_the_same_schema() {
    let old = Fixture::on(predecessor_with_orders().await, &[], &[]).await;
    let new = Fixture::new(&[], &[]).await;
    let columns = "SELECT table_name, column_name, column_type, is_nullable, COALESCE(column_default, 'none'), COALESCE(collation_name, 'none'), column_comment
        FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position";
    let indexes = "SELECT table_name, index_name, seq_in_index, column_name, non_unique
        FROM information_schema.statistics WHERE table_schema = DATABASE() ORDER BY table_name, index_name, seq_in_index";
    let checks = "SELECT constraint_name, check_clause FROM information_schema.check_constraints
        WHERE constraint_schema = DATABASE() ORDER BY constraint_name";
    for schema in [columns, indexes, checks] {
        let rows = new.database.rows(schema).await;
        assert!(!rows.is_empty());
        assert_eq!(old.database.rows(schema).await, rows);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_generation_of_the_predecessor_is_refused_and_left_as_it_is() {
    for (change, column) in [
        ("ALTER TABLE user_balance RENAME COLUMN user_id TO uid", "user_balance.uid"),
        ("ALTER TABLE free_quota RENAME COLUMN user_id TO uid", "free_quota.uid"),
        ("ALTER TABLE billing_record RENAME COLUMN user_id TO uid", "billing_record.uid"),
        (
            "ALTER TABLE free_quota ADD COLUMN app_id VARCHAR(36) NOT NULL DEFAULT '', DROP KEY uk_user_service_month,
             ADD UNIQUE KEY uk_user_app_service_month (user_id, app_id, service_name, reset_month)",
            "free_quota.app_id",
        ),
        (
            "ALTER TABLE recharge_order RENAME COLUMN payment_order_id TO payment_id",
            "recharge_order.payment_id",
        ),
        ("ALTER TABLE recharge_order RENAME COLUMN user_id TO uid", "recharge_order.uid"),
    ] {
        let database = predecessor_with_orders().await;
        database.run(change).await;
        let columns = "SELECT table_name, column_name, column_type FROM information_schema.columns
            WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position";
        let before = (database.rows(columns).await, database.dump(&["*"], &[]).await);
        let store = Store::connect(&database.options, 2).await.unwrap();
        let refusal = store.migrate().await.unwrap_err();
        assert_eq!(
            refusal.to_string(),
            format!(
                "{column}: this database is of a later generation of billing-service, which this version cannot take over \
                 yet; nothing was changed; name another database in data.database.source"
            )
        );
        assert!(!refusal.is_outage());
        assert_eq!((database.rows(columns).await, database.dump(&["*"], &[]).await), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_again_does_nothing_and_readiness_says_what_is_missing() {
    let database = Database::create().await;
    let store = Store::connect(&database.options, 2).await.unwrap();
    let app = App::new(store.clone(), settings(&[], &[]));
    assert!(matches!(app.ready().await, Err(NotReady::Pending { version: 20261122000001 })));
    let files = std::fs::read_dir("../migrations").unwrap().count();
    assert_eq!(store.migrate().await.unwrap(), files);
    assert_eq!(store.migrate().await.unwrap(), 0);
    app.ready().await.unwrap();
    database
        .run("UPDATE _sqlx_migrations SET success = FALSE WHERE version = 20261122000005")
        .await;
    assert!(matches!(app.ready().await, Err(NotReady::Broken { version: 20261122000005 })));
}
