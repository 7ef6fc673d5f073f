//! A sidecar that stands still for longer than its lock lasts, and goes on: it writes nothing under the old lock.

use farebox_tests::cut::How;
use farebox_tests::{Client, eventually, run};
use futures_util::future::join_all;
use serde_json::Value;

use super::{DEDUCT_PATH, Trio, deduct, met, unruly};

const USER: &str = "stopped";

/// The statement that locks an account.
const LOCKING: &str = "ORDER BY user_id FOR UPDATE";

/// Whether anybody has the lock on the account's charges.
fn is_locked(trio: &Trio) -> bool {
    trio.stack.redis.command(&["KEYS", &format!("deduct:lock:{USER}:*")]) != "*0"
}

/// The number of the lock under which the account was written last.
fn fence(trio: &Trio) -> u64 {
    let fence =
        trio.stack.sql_one(&format!("SELECT fence FROM free_quota WHERE user_id = '{USER}'"));
    fence.parse().unwrap_or_else(|_| panic!("{fence:?} is no number"))
}

/// How often the first sidecar found that its lock had gone to another one.
fn outrun(trio: &Trio) -> usize {
    trio.stack.sidecar.log().matches("a lock went to another sidecar").count()
}

fn gift(key: &str) -> Value {
    deduct(USER, "gift", 1, &format!("{USER}-{key}"))
}

/// Has these sidecars find the account locked, until they charge it under its lock: from then on, for a while, they take
/// it. Redis may have been away a moment ago.
async fn find_locked(trio: &Trio, sidecars: &[&Client], key: &str) {
    let (before, mut round) = (fence(trio), 0);
    let mut is_taken = async || {
        round += 1;
        charge_locked(trio, sidecars, &format!("{key}-{round}")).await;
        before < fence(trio)
    };
    eventually!(is_taken().await, "{key}: no lock is taken");
}

/// Has each of these sidecars charge one unit while somebody keeps the row locked.
async fn charge_locked(trio: &Trio, sidecars: &[&Client], key: &str) {
    let row = format!("SELECT 1 FROM user_balance WHERE user_id = '{USER}' FOR UPDATE");
    let held = trio.stack.database.hold(&row).unwrap_or_else(|err| panic!("{err}"));
    let charge = |(number, sidecar): (usize, &&Client)| {
        sidecar.ask(DEDUCT_PATH, &gift(&format!("{key}-{number}"))).send()
    };
    let charges = join_all(sidecars.iter().enumerate().map(charge));
    let let_go = async {
        eventually!(trio.stack.database.running(LOCKING) == sidecars.len());
        drop(held);
    };
    for answer in tokio::join!(charges, let_go).0 {
        met(&answer);
    }
}

#[test]
fn a_holder_that_stood_still_writes_nothing_under_its_old_lock() {
    run(async {
        let trio = unruly().await;
        let [first, second, third] = trio.clients();
        met(&first.ask(DEDUCT_PATH, &gift("new")).send().await);
        find_locked(&trio, &[&first], "hot").await;
        eventually!(!is_locked(&trio));

        // The first one has the lock and asks for the row, and stands still.
        trio.stack.cut.arm_for(How::HoldStatement, LOCKING);
        let caught = trio.stack.cut.caught();
        let stopped = gift("stopped");
        let call = first.ask(DEDUCT_PATH, &stopped);
        let waiting = tokio::spawn(async move { call.try_send().await });
        eventually!(trio.stack.cut.caught() == caught + 1, "{}", trio.stack.sidecar.log());
        assert!(is_locked(&trio), "the lock is taken before the row");
        let still = trio.stack.sidecar.stand_still();
        eventually!(!is_locked(&trio), "Redis takes the lock away");

        // The others go on, with locks of their own.
        find_locked(&trio, &[&second, &third], "on").await;
        let (newest, charged) = (fence(&trio), trio.stack.account(USER).recorded_units);

        let before = outrun(&trio);
        drop(still);
        trio.stack.cut.release();
        let answer = waiting.await.unwrap().unwrap_or_else(|err| panic!("{err}"));
        assert_eq!(answer.status, 503, "{}", answer.body);
        eventually!(outrun(&trio) == before + 1, "{}", trio.stack.sidecar.log());
        assert_eq!((fence(&trio), trio.stack.account(USER).recorded_units), (newest, charged));

        met(&first.ask(DEDUCT_PATH, &stopped).send().await);
        let account = trio.stack.account(USER);
        assert_eq!((account.recorded_units, account.free_used), (charged + 1, charged + 1));
        assert!(newest <= fence(&trio));
        trio.stack.invariants();
    });
}
