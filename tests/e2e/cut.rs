//! The proxy in front of the database: each way of losing a COMMIT, with a plain client and with the sidecar.

use std::process::{Child, Command, Stdio};

use farebox_tests::cut::{Cut, How};
use farebox_tests::database::{Database, SCHEMA};
use farebox_tests::scratch::Scratch;
use farebox_tests::{Plan, Stack, binaries, eventually, run};

/// Starts MariaDB's own client on the proxy, with a transaction that inserts one row.
fn insert(cut: &Cut, row: u32) -> Child {
    let statements = format!("BEGIN; INSERT INTO t VALUES ({row}); COMMIT");
    Command::new(binaries::system("mariadb").unwrap())
        .args(["--no-defaults", "--protocol=TCP", "--host=127.0.0.1", "--skip-ssl"])
        .args(["--user=farebox", "--password=farebox", "--skip-reconnect"])
        .arg(format!("--port={}", cut.addr().port()))
        .args(["--execute", &statements, SCHEMA])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_commit_is_lost_before_or_after_the_database_has_seen_it() {
    run(async {
        let scratch = Scratch::new().unwrap_or_else(|err| panic!("{err}"));
        let database = Database::start(scratch.path()).await.unwrap_or_else(|err| panic!("{err}"));
        database.sql("CREATE TABLE t (a INT)").unwrap();
        let cut = Cut::start(database.addr()).await.unwrap();
        let rows = || database.sql("SELECT COUNT(*) FROM t").unwrap().concat().concat();

        // (how, the client succeeds, rows afterwards)
        let cases = [
            (None, true, "1"),
            (Some(How::CutBefore), false, "1"),
            (Some(How::CutAfter), false, "2"),
            (Some(How::SwallowAnswer), false, "3"),
            (Some(How::Hold), true, "4"),
        ];
        for (number, (how, succeeds, expected)) in (0..).zip(cases) {
            let before = cut.caught();
            if let Some(how) = how {
                cut.arm_for(how, "INTO t");
            }
            let mut client = insert(&cut, number);
            if matches!(how, Some(How::SwallowAnswer | How::Hold)) {
                eventually!(cut.caught() == before + 1);
                assert_eq!(rows(), "3", "committed when swallowed, not yet when held");
                assert!(client.try_wait().unwrap().is_none(), "it waits for the answer");
                cut.release();
            }
            let status = tokio::task::spawn_blocking(move || client.wait()).await.unwrap().unwrap();
            assert_eq!(status.success(), succeeds, "{how:?}");
            assert_eq!(cut.caught(), before + usize::from(how.is_some()), "{how:?}");
            assert_eq!(rows(), expected, "{how:?}");
        }

        cut.arm(How::Hold);
        let mut client = insert(&cut, 8);
        eventually!(cut.caught() == 4);
        client.kill().unwrap();
        client.wait().unwrap();
        // What it had locked is free again.
        eventually!(database.sql("LOCK TABLES t WRITE NOWAIT").is_ok());
        assert_eq!(rows(), "4", "whoever goes away while its COMMIT is held has not committed");

        cut.arm_for(How::CutBefore, "another table");
        let mut client = insert(&cut, 9);
        let status = tokio::task::spawn_blocking(move || client.wait()).await.unwrap().unwrap();
        assert!(status.success(), "the trap was for others");
    });
}

#[test]
fn the_sidecar_and_its_command_line_go_through_the_proxy_and_another_one_does_not() {
    run(async {
        let plan = Plan::reference().without_gateway().with_cut();
        let stack = Stack::start(plan).await.unwrap_or_else(|err| panic!("{err}"));
        assert!(stack.envoy.get().is_none());
        let second = stack.another_sidecar("second").await.unwrap_or_else(|err| panic!("{err}"));
        assert_eq!(second.admin().get("/readyz").send().await.status, 200);
        stack.credit("ada", "1");

        // The statement is a prepared one; the trap knows its text all the same.
        let credit = ["account", "credit", "ada", "1", "--reason", "twice?"];
        stack.cut.arm_for(How::CutBefore, "ledger_entry");
        stack.sidecar.cli(&credit).ok();
        assert_eq!(stack.cut.caught(), 1);
        stack.cut.disarm();
        second.cli(&credit).unwrap_or_else(|err| panic!("{err}"));
        stack.invariants();
    });
}
