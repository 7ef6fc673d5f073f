//! Free quotas of very many accounts: made ahead of their month by a sidecar that is killed and one that goes on; and read
//! ahead of traffic after the database was started again.

use std::env;
use std::time::{Duration, Instant};

use farebox_tests::{Plan, Stack, StackError, eventually, run};

use crate::cold::numbered;

/// How many accounts there are, unless `FAREBOX_TEST_ACCOUNTS` says so: 1000000 takes some minutes.
const ACCOUNTS: u64 = 20_000;

/// Each account uses all of them.
const SERVICES: [&str; 3] = ["asset", "passport", "payment"];

/// Noon of 2037-05-29 in Asia/Shanghai, when June is due to be prepared, and ten minutes later. Far ahead, so that nothing of
/// today is newer.
const NOON: &str = "2127182400";
const LATER: &str = "2127183000";

fn started<T>(part: Result<T, StackError>) -> T {
    part.unwrap_or_else(|err| panic!("{err}"))
}

fn accounts(default: u64) -> u64 {
    let count = env::var("FAREBOX_TEST_ACCOUNTS").ok();
    count.map_or(default, |count| count.parse().expect("a whole number"))
}

/// Accounts that have used a unit of each service in this month.
fn fill(stack: &Stack, accounts: u64, month: &str) {
    let times = "UTC_TIMESTAMP(3), UTC_TIMESTAMP(3)";
    stack.sql(&numbered(
        "INSERT INTO user_balance
           (user_balance_id, user_id, balance, held, receivable, currency, entry_seq, created_at, updated_at)",
        &format!("UUID(), CONCAT('user-', n), 0, 0, 0, 'CNY', 0, {times}"),
        accounts,
    ));
    for service in SERVICES {
        stack.sql(&numbered(
            "INSERT INTO free_quota
               (free_quota_id, user_id, service_name, reset_month, total_quota, used_quota, held_quota, created_at, updated_at)",
            &format!("UUID(), CONCAT('user-', n), '{service}', '{month}', 1000, 1, 0, {times}"),
            accounts,
        ));
    }
}

/// Stops the database's clock at this time, for connections that are made from now on.
fn set_clock(stack: &Stack, seconds: &str) {
    stack.sql(&format!("SET GLOBAL init_connect = 'SET timestamp = {seconds}'"));
}

/// Rows that are made, as the job counts them.
fn made(stack: &Stack) -> u64 {
    let count = stack.sql_one("SELECT row_count FROM free_quota_run WHERE reset_month = '2037-06'");
    count.parse().unwrap_or(0)
}

fn number(stack: &Stack, sql: &str) -> u64 {
    stack.sql_one(sql).parse().unwrap_or_else(|_| panic!("{sql} gives no number"))
}

#[test]
fn what_a_killed_sidecar_began_to_prepare_another_one_finishes() {
    run(async {
        let accounts = accounts(ACCOUNTS);
        let rows = accounts * SERVICES.len() as u64;
        let stack = started(Stack::start(Plan::reference().without_gateway()).await);
        // Its connections know the right time.
        stack.sidecar.stop();
        fill(&stack, accounts, "2037-05");
        let used = "SELECT data_length + index_length FROM information_schema.tables WHERE table_name = 'free_quota'";
        stack.sql("ANALYZE TABLE free_quota");
        let bytes_before = number(&stack, used);

        set_clock(&stack, NOON);
        let first = started(stack.another_sidecar("first").await);
        eventually!(0 < made(&stack), "the first one has begun");
        first.kill();
        let by_first = made(&stack);
        assert!(by_first < rows, "it was killed too late: {by_first} of {rows}");

        set_clock(&stack, LATER);
        let began = Instant::now();
        let second = started(stack.another_sidecar("second").await);
        let finished = "SELECT COUNT(*) FROM free_quota_run WHERE reset_month = '2037-06' AND finished_at IS NOT NULL";
        let deadline = began + Duration::from_secs(60 + accounts / 1_000);
        while number(&stack, finished) == 0 {
            assert!(Instant::now() < deadline, "{} of {rows} rows: {}", made(&stack), second.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let took = began.elapsed();
        let by_second = made(&stack) - by_first;
        stack.sql("ANALYZE TABLE free_quota");
        let bytes = number(&stack, used).saturating_sub(bytes_before);
        println!(
            "{accounts} accounts: {by_second} rows in {took:?} after {by_first} of a sidecar that was killed; {bytes} bytes"
        );

        assert_eq!(by_first + by_second, rows);
        let counted = "SELECT COUNT(*) FROM free_quota WHERE reset_month = '2037-06' AND prepared = 1 AND used_quota = 0";
        assert_eq!(number(&stack, counted), rows);
        eventually!(
            second.metric("billing_quota_prepared_total").await == by_second,
            "the second one counts its own"
        );
        stack.invariants();
    });
}

/// Accounts that are read, far apart from each other.
const READ: u64 = 200;

/// Pages that the database reads from the disk, and how long it takes, for what first calls of accounts read.
fn first_reads(stack: &Stack, accounts: u64, month: &str) -> (u64, Duration) {
    let pages = || {
        let rows = stack.sql("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_reads'");
        rows.concat().get(1).and_then(|count| count.parse::<u64>().ok()).expect("a count")
    };
    let names = (0..READ).map(|number| format!("'user-{}'", number * (accounts / READ)));
    let statement = format!(
        "SELECT COUNT(account.balance), SUM(quota.used_quota) FROM user_balance AS account FORCE INDEX (uk_user_id)
         STRAIGHT_JOIN free_quota AS quota FORCE INDEX (uk_user_service_month)
           ON quota.user_id = account.user_id AND quota.service_name = 'asset' AND quota.reset_month = '{month}'
         WHERE account.user_id IN ({})",
        names.collect::<Vec<_>>().join(", ")
    );
    let (before, began) = (pages(), Instant::now());
    assert_eq!(stack.sql(&statement), [[READ.to_string(), READ.to_string()]]);
    (pages() - before, began.elapsed())
}

/// Starts the database with nothing in memory, and nobody on it.
async fn start_cold(stack: &Stack) {
    stack.sql("SET GLOBAL innodb_buffer_pool_dump_at_shutdown = OFF");
    stack.database.stop();
    started(stack.database.start_again().await);
}

#[test]
fn what_first_calls_read_of_accounts_that_were_warmed_is_in_memory() {
    run(async {
        let accounts = accounts(ACCOUNTS);
        let stack = started(Stack::start(Plan::reference().without_gateway()).await);
        stack.sidecar.stop();
        let month = stack.sql_one("SELECT DATE_FORMAT(UTC_TIMESTAMP() + INTERVAL 8 HOUR, '%Y-%m')");
        fill(&stack, accounts, &month);
        start_cold(&stack).await;
        let (cold, cold_took) = first_reads(&stack, accounts, &month);
        start_cold(&stack).await;
        let told = started(stack.sidecar.cli(&["warm", "--accounts", &accounts.to_string()]));
        assert!(told.contains(&accounts.to_string()), "{told}");
        let (warm, warm_took) = first_reads(&stack, accounts, &month);
        println!(
            "{READ} of {accounts} accounts: {cold} pages of the disk and {cold_took:?} cold, {warm} pages and {warm_took:?} warm\n{told}"
        );
        assert!(warm * 4 < cold, "{warm} pages were read from the disk, {cold} without");
    });
}
