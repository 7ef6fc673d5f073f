//! A sidecar is killed, or the database's answer is lost, at each point around a commit: the same request through another
//! sidecar ends in one charge, with the first outcome if there was one.

use farebox_tests::cut::How;
use farebox_tests::{Answer, eventually, run};
use serde_json::{Value, json};

use super::{
    COMMIT_PATH, DEDUCT_PATH, REFUND_PATH, RELEASE_PATH, RESERVE_PATH, Trio, deduct, met, reserve,
    text, unruly,
};

/// The table in which every request leaves its outcome.
const TABLE: &str = "INTO idempotency_key";

/// Sends a request to the first sidecar and lets it go on by itself.
fn send(trio: &Trio, path: &str, request: &Value) -> tokio::task::JoinHandle<Option<Answer>> {
    let call = trio.stack.sidecar.internal().ask(path, request);
    tokio::spawn(async move { call.try_send().await.ok() })
}

/// Sends a request to the first sidecar, whose transaction is caught on its way to the database or back, and kills it.
async fn killed(trio: &Trio, path: &str, request: &Value, how: How) {
    trio.stack.cut.arm_for(how, TABLE);
    let caught = trio.stack.cut.caught();
    let sent = send(trio, path, request);
    eventually!(trio.stack.cut.caught() == caught + 1, "{}", trio.stack.sidecar.log());
    trio.stack.sidecar.kill();
    assert!(sent.await.unwrap().is_none(), "the caller hears nothing");
}

/// The same request through another sidecar, and once more.
async fn repeated(trio: &Trio, path: &str, request: &Value) -> Value {
    let first = trio.second.internal().ask(path, request).send().await;
    let second = trio.third.internal().ask(path, request).send().await;
    assert_eq!(first.body, second.body);
    met(&first)
}

/// A user who can pay for three coins.
fn funded(trio: &Trio, user: &'static str) -> &'static str {
    trio.stack.credit(user, "0.3");
    user
}

fn charged_once(trio: &Trio, user: &str) {
    let account = trio.stack.account(user);
    assert_eq!((account.balance.as_str(), account.recorded_units), ("0", 3), "{account:?}");
    trio.stack.invariants();
}

#[test]
fn killed_before_the_transaction() {
    run(async {
        let trio = unruly().await;
        let user = funded(&trio, "killed-before");
        let request = deduct(user, "coin", 3, user);
        let row = format!("SELECT 1 FROM user_balance WHERE user_id = '{user}' FOR UPDATE");
        let held = trio.stack.database.hold(&row).unwrap_or_else(|err| panic!("{err}"));
        let sent = send(&trio, DEDUCT_PATH, &request);
        eventually!(1 <= trio.stack.database.running("FOR UPDATE"), "{}", trio.stack.sidecar.log());
        trio.stack.sidecar.kill();
        drop(held);
        assert!(sent.await.unwrap().is_none(), "the caller hears nothing");
        assert_eq!(trio.stack.account(user).recorded_units, 0);
        repeated(&trio, DEDUCT_PATH, &request).await;
        charged_once(&trio, user);
    });
}

#[test]
fn killed_before_the_commit_reaches_the_database() {
    run(async {
        let trio = unruly().await;
        let user = funded(&trio, "killed-inside");
        let request = deduct(user, "coin", 3, user);
        killed(&trio, DEDUCT_PATH, &request, How::Hold).await;
        assert_eq!(trio.stack.account(user).recorded_units, 0);
        repeated(&trio, DEDUCT_PATH, &request).await;
        charged_once(&trio, user);
    });
}

#[test]
fn killed_after_the_commit_and_before_the_answer() {
    run(async {
        let trio = unruly().await;
        let user = funded(&trio, "killed-after");
        let request = deduct(user, "coin", 3, user);
        killed(&trio, DEDUCT_PATH, &request, How::SwallowAnswer).await;
        charged_once(&trio, user);
        let outcome = repeated(&trio, DEDUCT_PATH, &request).await;
        let record =
            format!("SELECT billing_record_id FROM billing_record WHERE user_id = '{user}'");
        assert_eq!(text(&outcome, "record_id"), trio.stack.sql_one(&record));
        charged_once(&trio, user);
    });
}

#[test]
fn every_other_request_is_found_again_after_its_commit() {
    run(async {
        let trio = unruly().await;
        let user = funded(&trio, "killed-others");
        let other = funded(&trio, "killed-release");
        let again = async || {
            trio.stack.sidecar.start_again().await.unwrap_or_else(|err| panic!("{err}"));
        };

        let request = reserve(user, "coin", 3, user);
        killed(&trio, RESERVE_PATH, &request, How::SwallowAnswer).await;
        let reserved = repeated(&trio, RESERVE_PATH, &request).await;
        assert_eq!(trio.stack.account(user).held, "0.3");

        again().await;
        let commit = json!({ "reservation_id": text(&reserved, "reservation_id"), "units": 2 });
        killed(&trio, COMMIT_PATH, &commit, How::SwallowAnswer).await;
        let committed = repeated(&trio, COMMIT_PATH, &commit).await;
        assert_eq!((&committed["amount"], &committed["balance"]), (&json!("0.2"), &json!("0.1")));

        again().await;
        let record = text(&committed, "record_id");
        let refund = json!({ "idempotency_key": user, "record_id": record, "units": 1 });
        killed(&trio, REFUND_PATH, &refund, How::SwallowAnswer).await;
        repeated(&trio, REFUND_PATH, &refund).await;
        assert_eq!(trio.stack.account(user).balance, "0.2");

        again().await;
        let reserved = met(&trio
            .second
            .internal()
            .ask(RESERVE_PATH, &reserve(other, "coin", 3, other))
            .send()
            .await);
        let release = json!({ "reservation_id": text(&reserved, "reservation_id") });
        killed(&trio, RELEASE_PATH, &release, How::SwallowAnswer).await;
        repeated(&trio, RELEASE_PATH, &release).await;
        let account = trio.stack.account(other);
        assert_eq!((account.held.as_str(), account.balance.as_str()), ("0", "0.3"));
        trio.stack.invariants();
    });
}

#[test]
fn a_commit_of_unknown_outcome_is_an_error_and_the_same_key_finds_out() {
    run(async {
        let trio = unruly().await;
        for (how, user) in [(How::CutAfter, "cut-after"), (How::CutBefore, "cut-before")] {
            let user = funded(&trio, user);
            let request = deduct(user, "coin", 3, user);
            trio.stack.cut.arm_for(how, TABLE);
            let caught = trio.stack.cut.caught();
            let first = trio.stack.sidecar.internal().ask(DEDUCT_PATH, &request).send().await;
            assert_eq!(trio.stack.cut.caught(), caught + 1, "{how:?}");
            assert_eq!((first.status.as_u16(), first.code()), (503, 100_202), "{}", first.body);
            assert_eq!(first.header("retry-after"), "1");
            repeated(&trio, DEDUCT_PATH, &request).await;
            charged_once(&trio, user);
        }
    });
}

/// Whoever does not know what became of a deduct undoes it by its key.
#[test]
fn a_deduct_of_unknown_outcome_is_undone_by_its_key() {
    run(async {
        let trio = unruly().await;
        for (how, user) in [(How::SwallowAnswer, "undo-after"), (How::Hold, "undo-before")] {
            trio.stack.sidecar.start_again().await.unwrap_or_else(|err| panic!("{err}"));
            let user = funded(&trio, user);
            let request = deduct(user, "coin", 3, user);
            killed(&trio, DEDUCT_PATH, &request, how).await;
            let undo = json!({ "idempotency_key": format!("{user}-undo"), "user_id": user, "deduct_key": user });
            repeated(&trio, REFUND_PATH, &undo).await;
            assert_eq!(trio.stack.account(user).balance, "0.3");
            let late = trio.third.internal().ask(DEDUCT_PATH, &request).send().await;
            let stored = how == How::SwallowAnswer;
            assert_eq!(late.status, if stored { 200 } else { 409 }, "{}", late.body);
            assert_eq!(trio.stack.account(user).balance, "0.3", "it charges nothing any more");
            trio.stack.invariants();
        }
    });
}
