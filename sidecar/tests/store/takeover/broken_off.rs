//! Takeovers that break off, at every step, and go on; and a predecessor that still writes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use farebox_sidecar::app::{App, NotReady};
use farebox_sidecar::store::Store;

use super::model::assert_taken_over;
use super::predecessor::{Rows, Version};
use super::whole::everything;
use super::{Desk, text};
use crate::database::Database;
use crate::fixture::settings;

/// Where the way to the server is cut: at the first command with this text, or so many commands after it.
#[derive(Debug, Clone, Copy)]
struct Cut {
    text: &'static str,
    after: i64,
    /// Whether the server still gets that command: then only its answer is lost.
    arrives: bool,
}

/// A way to the server that is cut there, for good.
struct Proxy {
    port: u16,
    is_cut: Arc<AtomicBool>,
}

impl Proxy {
    fn before(server: u16, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_cut = Arc::new(AtomicBool::new(false));
        let (told, left) = (Arc::clone(&is_cut), Arc::new(AtomicI64::new(i64::MIN)));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), false) = (client, told.load(Ordering::SeqCst)) else { return };
                let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    std::io::copy(&mut from, &mut to).ok();
                    to.shutdown(Shutdown::Both).ok();
                });
                let (told, left) = (Arc::clone(&told), Arc::clone(&left));
                std::thread::spawn(move || pass(client, server, cut, &told, &left));
            }
        });
        Self { port, is_cut }
    }
}

/// Passes packets on until the one at which the way is cut.
fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    cut: Cut,
    is_cut: &AtomicBool,
    left: &AtomicI64,
) {
    let mut head = [0; 4];
    while client.read_exact(&mut head).is_ok() {
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
        let mut body = vec![0; length];
        if client.read_exact(&mut body).is_err() {
            break;
        }
        // The first packet of a command has number 0, and its text begins after the kind of the command.
        let is_command = head[3] == 0;
        let holds = |text: &str| body.windows(text.len()).any(|part| part == text.as_bytes());
        if is_command && left.load(Ordering::SeqCst) == i64::MIN && holds(cut.text) {
            left.store(cut.after, Ordering::SeqCst);
        }
        let is_here = is_command
            && left.load(Ordering::SeqCst) != i64::MIN
            && left.fetch_sub(1, Ordering::SeqCst) <= 0;
        if is_here && !cut.arrives {
            is_cut.store(true, Ordering::SeqCst);
        }
        if is_cut.load(Ordering::SeqCst) {
            break;
        }
        if server.write_all(&head).and_then(|()| server.write_all(&body)).is_err() {
            break;
        }
        if is_here {
            is_cut.store(true, Ordering::SeqCst);
            break;
        }
    }
    client.shutdown(Shutdown::Both).ok();
    server.shutdown(Shutdown::Both).ok();
}

const STEPS: [&str; 16] = [
    "CREATE TABLE IF NOT EXISTS predecessor_takeover",
    "INSERT INTO predecessor_takeover",
    "RENAME TABLE",
    "UPDATE predecessor_takeover SET step",
    "DROP TABLE IF EXISTS _sqlx_migrations",
    "CREATE TABLE usage_day",
    "CREATE TABLE IF NOT EXISTS predecessor_user",
    "INSERT INTO predecessor_user",
    "INSERT INTO user_balance",
    "INSERT INTO free_quota",
    "INSERT INTO recharge_order",
    "INSERT INTO billing_record",
    "SET copied_to",
    "INSERT INTO usage_day",
    "DROP TABLE IF EXISTS predecessor_user",
    "INSERT INTO audit_log",
];

/// Runs it through a way that is cut, and requires that it was and that nobody may use what is left.
async fn break_off(database: &Database, plan: &str, cut: Cut) {
    let proxy = Proxy::before(database.options.get_port(), cut);
    let run = Desk::at(database, proxy.port).apply(plan);
    assert!(proxy.is_cut.load(Ordering::SeqCst), "{cut:?} was not met: {run:?}");
    assert_ne!(run.code, Some(0), "{cut:?}: {run:?}");
    let store = Store::connect(&database.options, 2).await.unwrap();
    let ready = App::new(store.clone(), settings(&[], &[])).ready().await;
    assert!(
        matches!(
            ready,
            Err(NotReady::Pending { .. } | NotReady::Unfinished { .. } | NotReady::Broken { .. })
        ),
        "{cut:?}: {ready:?}"
    );
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_that_is_cut_off_at_any_step_goes_on() {
    let rows = Rows::random(Version::C, 11, 8);
    let database = rows.database(Version::C).await;
    let desk = Desk::on(&database);
    let plan = text(&desk.plan(), "plan");
    for text in STEPS {
        // The server hears of it and does it, and its answer is lost. What has values is prepared first.
        let has_values = ["INSERT", "UPDATE", "SET"].iter().any(|word| text.starts_with(word));
        let cut = Cut { text, after: i64::from(has_values), arrives: true };
        break_off(&database, &plan, cut).await;
    }
    let run = desk.apply(&plan);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_taken_over(&database, &rows, Version::C).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_not_made_twice() {
    let rows = Rows::random(Version::B, 12, 8);
    let database = rows.database(Version::B).await;
    let desk = Desk::on(&database);
    let plan = text(&desk.plan(), "plan");
    let first = Cut { text: "INSERT INTO predecessor_user", after: 0, arrives: false };
    break_off(&database, &plan, first).await;
    // Accounts, quotas, orders, the records.
    for step in ["3", "4", "5", "5"] {
        // The whole command, which begins with its kind.
        break_off(&database, &plan, Cut { text: "\u{3}COMMIT", after: 0, arrives: true }).await;
        assert_eq!(database.rows("SELECT step FROM predecessor_takeover").await, [step]);
    }
    // The last one: it is prepared, done, and committed.
    let last = Cut { text: "INSERT INTO audit_log", after: 2, arrives: true };
    let proxy = Proxy::before(database.options.get_port(), last);
    assert_ne!(Desk::at(&database, proxy.port).apply(&plan).code, Some(0));
    assert!(proxy.is_cut.load(Ordering::SeqCst));
    let run = desk.apply(&plan);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_taken_over(&database, &rows, Version::B).await;
}

/// Waits until somebody waits in a statement with this text.
async fn wait_for(database: &Database, text: &str) {
    let waiting = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE '{text}%' AND id <> CONNECTION_ID()"
    );
    let deadline = Instant::now() + Duration::from_secs(30);
    while database.rows(waiting.clone()).await == ["0"] {
        assert!(Instant::now() < deadline, "nobody runs {text}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_predecessor_that_still_writes_is_noticed_and_gets_its_tables_back() {
    let rows = Rows::random(Version::A, 13, 5);
    let database = rows.database(Version::A).await;
    let desk = Desk::on(&database);
    let plan = text(&desk.plan(), "plan");
    // In its own transaction the predecessor has charged already, and nobody sees it yet.
    let mut charge = database.pool.begin().await.unwrap();
    sqlx::query("UPDATE user_balance SET balance = balance - 1 WHERE user_id = 'rich'")
        .execute(&mut *charge)
        .await
        .unwrap();
    let child = desk
        .command(&["migrate", "--from-predecessor", "--apply", &plan])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&database, "RENAME TABLE").await;
    charge.commit().await.unwrap();
    let run = child.wait_with_output().unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(said.starts_with("farebox: billing-service's tables changed while they were set aside (sum of the balances: "), "{said}");
    assert!(said.ends_with("stop billing-service, and plan again\n"), "{said}");
    let balance = "SELECT balance FROM user_balance WHERE user_id = 'rich'";
    assert_eq!(database.rows(balance).await, ["99999998.99"]);
    let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY table_name";
    assert_eq!(
        database.rows(tables).await,
        ["billing_record", "free_quota", "recharge_order", "user_balance"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_takeover_is_finished_by_its_own_plan_alone() {
    let rows = Rows::random(Version::EarlyC, 14, 5);
    let database = rows.database(Version::EarlyC).await;
    let desk = Desk::on(&database);
    let plan = text(&desk.plan(), "plan");
    let mut held = database.pool.begin().await.unwrap();
    sqlx::query("SELECT * FROM user_balance LIMIT 1").execute(&mut *held).await.unwrap();
    let mut child =
        desk.command(&["migrate", "--from-predecessor", "--apply", &plan]).spawn().unwrap();
    wait_for(&database, "RENAME TABLE").await;
    // Nobody else may take it over meanwhile.
    let second = desk.apply(&plan);
    assert!(
        second.stderr.contains("another process takes this database over"),
        "{}",
        second.stderr
    );
    child.kill().unwrap();
    child.wait().unwrap();
    held.rollback().await.unwrap();

    let hint = format!("finish it with `farebox migrate --from-predecessor --apply {plan}`\n");
    let plain = desk.run(&["migrate"]);
    assert_eq!((plain.code, plain.stderr.ends_with(&hint)), (Some(1), true), "{}", plain.stderr);
    let other = desk.apply("000000000000");
    assert_eq!(
        other.stderr,
        format!("farebox: plan {plan} is half carried out: finish it with --apply {plan}\n")
    );
    assert_eq!(text(&desk.plan(), "state"), "begun");
    let run = desk.apply(&plan);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_taken_over(&database, &rows, Version::EarlyC).await;
    let done = desk.apply("000000000000");
    assert!(done.stderr.contains(&format!("was taken over under plan {plan}")), "{}", done.stderr);
    let before = everything(&database).await;
    assert_eq!(desk.run(&["migrate"]).stdout, "the schema is up to date\n");
    assert_eq!(everything(&database).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_and_rules_that_do_not_hold_keep_the_database_shut() {
    let rows = Rows::random(Version::A, 15, 3);
    let database = rows.database(Version::A).await;
    let desk = Desk::on(&database);
    let plan = text(&desk.plan(), "plan");
    // Everything is copied, and not yet compared a last time.
    let end = Cut { text: "INSERT INTO audit_log", after: 0, arrives: false };
    break_off(&database, &plan, end).await;
    for (change, back, says) in [
        (
            "UPDATE billing_record SET amount = amount + 0.001 WHERE billing_record_id = 'odd-1'",
            "UPDATE billing_record SET amount = amount - 0.001 WHERE billing_record_id = 'odd-1'",
            "farebox: the totals are not what was planned (records: ",
        ),
        (
            "UPDATE user_balance SET entry_seq = 5 WHERE user_id = 'rich'",
            "UPDATE user_balance SET entry_seq = 1 WHERE user_id = 'rich'",
            "farebox: a rule of the books does not hold: user_balance rich: entry_seq 5",
        ),
    ] {
        database.run(change).await;
        let run = desk.apply(&plan);
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
        // A broken rule is an alert in the log, too.
        assert!(run.stderr.contains(says), "{}", run.stderr);
        let accounts = desk.run(&["account", "list"]);
        assert_eq!((accounts.code, accounts.stderr.contains("half taken over")), (Some(69), true));
        database.run(back).await;
    }
    assert_eq!(desk.apply(&plan).code, Some(0));
    assert_taken_over(&database, &rows, Version::A).await;
}
