//! An account that somebody keeps locked: its callers are told in time, everybody else is served.

use std::time::{Duration, Instant};

use farebox_tests::{eventually, run};

use super::{DEDUCT_PATH, count, deduct, met, trio};

/// What the sidecar's `server.internal.timeout` is.
const TIMEOUT: Duration = Duration::from_secs(5);

#[test]
fn callers_of_a_locked_account_hear_so_and_others_are_served() {
    run(async {
        let (trio, user) = (trio().await, "locked");
        trio.stack.credit(user, "1");
        let row = format!("SELECT 1 FROM user_balance WHERE user_id = '{user}' FOR UPDATE");
        let held = trio.stack.database.hold(&row).unwrap_or_else(|err| panic!("{err}"));
        let request = |number: usize| deduct(user, "coin", 1, &format!("{user}-{number}"));
        let refused = async {
            let started = Instant::now();
            let answers = trio.crowd(30, DEDUCT_PATH, request).await;
            (answers, started.elapsed())
        };
        let served = async {
            eventually!(0 < trio.stack.database.running("FOR UPDATE"));
            let request = |number: usize| {
                deduct(&format!("unlocked-{number}"), "gift", 1, &format!("unlocked-{number}"))
            };
            let started = Instant::now();
            let answers = trio.crowd(60, DEDUCT_PATH, request).await;
            assert_eq!(count(&answers, 200), 60);
            assert!(started.elapsed() < TIMEOUT / 2, "{:?}", started.elapsed());
        };
        let ((refused, took), ()) = tokio::join!(refused, served);
        for answer in &refused {
            assert_eq!((answer.status.as_u16(), answer.code()), (503, 190_402), "{}", answer.body);
            assert_eq!(answer.header("retry-after"), "1");
        }
        assert!(took < TIMEOUT, "{took:?}");
        drop(held);

        // The same requests are charged once the account is free.
        for answer in trio.crowd(10, DEDUCT_PATH, request).await {
            met(&answer);
        }
        assert_eq!(trio.stack.account(user).balance, "0");
        trio.stack.invariants();
    });
}
