//! First calls of accounts among very many that nobody has heard of for a month.

use std::env;

use farebox_tests::{Client, Stack, run};

use crate::plan;

/// How many accounts there are, unless `FAREBOX_TEST_ACCOUNTS` says so: 1000000 takes a few minutes.
const ACCOUNTS: u64 = 50_000;

/// How many of them call.
const CALLERS: u64 = 300;

/// Fills a table with rows numbered from 0; MySQL has no table of numbers.
pub(crate) fn numbered(insert: &str, columns: &str, count: u64) -> String {
    format!(
        "{insert} WITH RECURSIVE digit AS (SELECT 0 AS n UNION ALL SELECT n + 1 FROM digit WHERE n < 99),
           number AS (SELECT a.n + 100 * b.n + 10000 * c.n AS n FROM digit a, digit b, digit c)
         SELECT {columns} FROM number WHERE n < {count}"
    )
}

/// Accounts without money that used all of another month's quota.
fn fill(stack: &Stack, accounts: u64) {
    let times = "UTC_TIMESTAMP(3), UTC_TIMESTAMP(3)";
    stack.sql(&numbered(
        "INSERT INTO user_balance
           (user_balance_id, user_id, balance, held, receivable, currency, entry_seq, created_at, updated_at)",
        &format!("UUID(), CONCAT('cold-', n), 0, 0, 0, 'CNY', 0, {times}"),
        accounts,
    ));
    stack.sql(&numbered(
        "INSERT INTO free_quota
           (free_quota_id, user_id, service_name, reset_month, total_quota, used_quota, held_quota, created_at, updated_at)",
        &format!("UUID(), CONCAT('cold-', n), 'gift', '2001-01', 5, 5, 0, {times}"),
        accounts,
    ));
}

/// Rows that all statements so far have read one after the other.
fn rows_scanned(stack: &Stack) -> u64 {
    let rows = stack.sql("SHOW GLOBAL STATUS LIKE 'Handler_read_rnd_next'");
    rows.concat().get(1).and_then(|count| count.parse().ok()).expect("a server counts its reads")
}

#[test]
fn first_calls_of_cold_accounts_are_exact_and_scan_nothing() {
    run(async {
        let accounts = env::var("FAREBOX_TEST_ACCOUNTS").ok();
        let accounts = accounts.map_or(ACCOUNTS, |count| count.parse().expect("a whole number"));
        let stack = Stack::start(plan()).await.unwrap_or_else(|err| panic!("{err}"));
        fill(&stack, accounts);
        let before = rows_scanned(&stack);
        // Five units are free; each caller asks for six, the callers far apart from each other.
        let call = |client: &Client, number: usize| {
            let caller = u64::try_from(number).unwrap_or(0) % CALLERS;
            client.get("/gift/x").user(&format!("cold-{}", caller * (accounts / CALLERS)))
        };
        let calls = usize::try_from(6 * CALLERS).unwrap();
        let started = std::time::Instant::now();
        let tally = stack.client().storm(calls, 32, call).await;
        let took = started.elapsed();
        let scanned = rows_scanned(&stack) - before;
        println!("{accounts} accounts, {tally} in {took:?}, {scanned} rows read by scans");
        let served = usize::try_from(5 * CALLERS).unwrap();
        assert_eq!((tally.of(200), tally.of(429)), (served, calls - served), "{tally}");
        assert!(scanned < accounts, "{scanned} rows were read by scans");
        stack.invariants();
    });
}
