//! A node rolls a transaction back and does not say so: MariaDB 10.11 loses the error when another node's transaction goes
//! first while a statement is being prepared. What the sidecar does next must be neither written by halves nor lost.

use farebox_core::wire::{Report, SYNC_PATH, SyncReply, SyncRequest, Want};
use farebox_tests::cut::How;
use farebox_tests::run;
use serde_json::json;

use super::{cluster, start_on};
use crate::plan;

/// Texts that only these statements of a message hold, in their order.
const STATEMENTS: [&str; 9] = [
    "FROM user_balance FORCE INDEX (uk_user_id) WHERE user_id IN (?) ORDER BY user_id FOR UPDATE",
    "INTO billing_record",
    "lease.open_key = IF(",
    "free_quota.held_quota = free_quota.held_quota",
    "user_balance.check_at = COALESCE",
    "state = 'open' AND recall = 1",
    "UPDATE sync_reply",
    "UPDATE gateway",
    "RELEASE SAVEPOINT",
];

fn message(seq: u64, epoch: u64, reports: Vec<Report>, wants: Vec<Want>) -> serde_json::Value {
    let request = SyncRequest {
        gateway: "edge-given-way".parse().unwrap(),
        instance: "2".repeat(32),
        epoch,
        seq,
        reports,
        wants,
        journal: vec![],
    };
    serde_json::to_value(request).unwrap()
}

#[test]
fn a_transaction_that_is_lost_without_a_word_is_written_whole_by_the_next_attempt() {
    run(async {
        let plan = plan().without_gateway().with_cut();
        let stack = start_on(plan, cluster().await.reach(1)).await;
        let sidecar = stack.sidecar.internal();
        let key = json!({ "account": "given-way", "service": "mixed" });
        let want = json!({ "key": key, "units": 90, "min": 90 });
        let want: Want = serde_json::from_value(want).unwrap();
        let granted = sidecar.ask(SYNC_PATH, &message(1, 0, vec![], vec![want])).send().await;
        let granted: SyncReply = serde_json::from_str(&granted.body).unwrap();
        let (lease, epoch) = (granted.grants[0].lease, granted.epoch);

        for (number, statement) in (1..).zip(STATEMENTS) {
            stack.cut.arm_for(How::RollBackBefore, statement);
            let used = 10 * number;
            let report = Report { lease, used, in_flight: 0, returned: 0, close: false };
            let message = message(1 + number, epoch, vec![report], vec![]);
            let answer = sidecar.ask(SYNC_PATH, &message).send().await;
            assert_eq!(answer.status, 200, "{statement}: {}", answer.body);
            assert_eq!(stack.cut.caught() as u64, number, "{statement}");
            let account = stack.account("given-way");
            assert_eq!((account.free_used, account.recorded_units), (used, used), "{statement}");
        }
        stack.invariants();
    });
}
