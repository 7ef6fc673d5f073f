//! The errors by which a database makes a transaction give way, raised inside it at every statement that writes.

use super::BUSY;
use crate::calls::deduct;
use crate::fixture::Fixture;

/// Deadlock, lock wait timeout, MariaDB's snapshot conflict.
const NUMBERS: [u16; 3] = [1213, 1205, 1020];

/// What a deduct writes, in its order.
const STATEMENTS: [(&str, &str); 6] = [
    ("INSERT", "free_quota"),
    ("INSERT", "idempotency_key"),
    ("INSERT", "billing_record"),
    ("INSERT", "ledger_entry"),
    ("UPDATE", "free_quota"),
    ("UPDATE", "user_balance"),
];

/// The tables beside those that say what to raise.
const TABLES: [&str; 6] = [
    "user_balance",
    "free_quota",
    "billing_record",
    "ledger_entry",
    "idempotency_key",
    "price_version",
];

impl Fixture {
    /// Makes the statements fail on demand. They are counted by a column that numbers its rows: a rollback takes the rows
    /// back, and never the numbers.
    async fn rig(&self) {
        for sql in [
            "CREATE TABLE execution (number BIGINT AUTO_INCREMENT PRIMARY KEY)",
            "CREATE TABLE fault (statement VARCHAR(64), number INT, since BIGINT, until BIGINT)",
            "INSERT INTO fault VALUES ('', 0, 0, 0)",
        ] {
            self.database.run(sql).await;
        }
        for (event, table) in STATEMENTS {
            let sql = format!(
                "CREATE TRIGGER tr_{event}_{table} BEFORE {event} ON {table} FOR EACH ROW
                 BEGIN
                   DECLARE last BIGINT DEFAULT (SELECT until FROM fault WHERE statement = '{event} {table}');
                   DECLARE wanted INT DEFAULT (SELECT number FROM fault);
                   IF last IS NOT NULL THEN
                     INSERT INTO execution VALUES (NULL);
                     IF LAST_INSERT_ID() <= last THEN
                       SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = wanted, MESSAGE_TEXT = 'forced';
                     END IF;
                   END IF;
                 END"
            );
            self.database.run(sql).await;
        }
    }

    /// Lets this statement fail so often, with this error.
    async fn fail(&self, (event, table): (&str, &str), number: u16, times: u32) {
        let since = self.executions().await;
        let sql = format!(
            "UPDATE fault SET statement = '{event} {table}', number = {number}, since = {since}, until = {since} + {times}"
        );
        self.database.run(sql).await;
    }

    /// How often the statement has begun to change a row since then.
    async fn executed(&self) -> u64 {
        let since = self.database.rows("SELECT since FROM fault").await[0].parse::<u64>().unwrap();
        self.executions().await - since - 1
    }

    async fn executions(&self) -> u64 {
        let done = sqlx::query("INSERT INTO execution VALUES (NULL)").execute(&self.database.pool);
        done.await.unwrap().last_insert_id()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_gives_way_is_tried_again_whole() {
    let farebox = Fixture::new(&[("asset", 1)], &[("asset", "0.1")]).await;
    farebox.rig().await;
    for number in NUMBERS {
        for statement in STATEMENTS {
            let user = format!("u-{number}-{}-{}", statement.0, statement.1);
            farebox.credit(&user, "1").await;
            farebox.fail(statement, number, 2).await;
            let told = farebox.told(deduct(&user, &user, "asset", 3)).await;
            assert_eq!(told, "1 free, 2 paid for 0.2, leaves 0.8", "{user}");
            assert!(2 < farebox.executed().await, "{user}: it failed twice");
        }
    }
    assert_eq!(farebox.database.rows("SELECT COUNT(*) FROM billing_record").await, ["18"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_bounded_and_leave_no_row_behind() {
    let farebox = Fixture::new(&[("asset", 1)], &[("asset", "0.1")]).await;
    farebox.rig().await;
    farebox.credit("u", "1").await;
    let before = farebox.database.dump(&TABLES, &[]).await;
    for number in NUMBERS {
        // By then, every other row of the transaction was written.
        farebox.fail(("UPDATE", "user_balance"), number, 1_000).await;
        assert_eq!(farebox.told(deduct("k", "u", "asset", 3)).await, BUSY, "{number}");
        let attempts = farebox.executed().await;
        assert!((2..=8).contains(&attempts), "{number}: {attempts} attempts");
        assert_eq!(farebox.database.dump(&TABLES, &[]).await, before, "{number}");
    }
    // A user that nobody knows leaves nothing either.
    farebox.fail(("INSERT", "idempotency_key"), 1213, 1_000).await;
    assert_eq!(farebox.told(deduct("k", "new", "asset", 1)).await, BUSY);
    assert_eq!(farebox.database.dump(&TABLES, &[]).await, before);
    // The same key is served once the fault is over.
    farebox.fail(("INSERT", "idempotency_key"), 1213, 0).await;
    let told = farebox.told(deduct("k", "u", "asset", 3)).await;
    assert_eq!(told, "1 free, 2 paid for 0.2, leaves 0.8");
    farebox.assert_sound().await;
}
