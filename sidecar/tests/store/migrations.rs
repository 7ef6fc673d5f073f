//! Empty databases and databases of the predecessor end in the same schema.

use farebox_sidecar::app::{App, NotReady};
use farebox_sidecar::store::Store;

use crate::database::Database;
use crate::fixture::{Fixture, settings, used, want};

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
    let old = Fixture::on(predecessor("TINYINT").await, &[], &[]).await;
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
    ] {
        let database = predecessor("ENUM('free','balance')").await;
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
    assert_eq!(store.migrate().await.unwrap(), 31);
    assert_eq!(store.migrate().await.unwrap(), 0);
    app.ready().await.unwrap();
    database
        .run("UPDATE _sqlx_migrations SET success = FALSE WHERE version = 20261122000005")
        .await;
    assert!(matches!(app.ready().await, Err(NotReady::Broken { version: 20261122000005 })));
}
