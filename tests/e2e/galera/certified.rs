//! Two sidecars on two nodes change the same lease at the same moment. Neither waits for the other's locks; the one that
//! commits later has to notice that it decided on rows of before.

use farebox_core::wire::{Report, SYNC_PATH, SyncReply, SyncRequest, Want};
use farebox_tests::cut::How;
use farebox_tests::{eventually, run};
use serde_json::json;

use super::{cluster, start_on, started};
use crate::plan;

/// Only the statement that writes leases holds this.
const LEASE_UPDATE: &str = "lease.open_key = IF(";

fn message(seq: u64, epoch: u64, reports: Vec<Report>, wants: Vec<Want>) -> serde_json::Value {
    let request = SyncRequest {
        gateway: "edge-certified".parse().unwrap(),
        instance: "1".repeat(32),
        epoch,
        seq,
        reports,
        wants,
        journal: vec![],
    };
    serde_json::to_value(request).unwrap()
}

fn used(lease: u64, used: u64) -> Vec<Report> {
    vec![Report { lease, used, in_flight: 0, returned: 0, close: false }]
}

#[test]
fn a_report_that_was_decided_on_an_old_lease_is_decided_anew() {
    run(async {
        let cluster = cluster().await;
        let plan = plan().without_gateway().with_cut();
        let stack = start_on(plan, cluster.reach(1)).await;
        let other = started(stack.another_sidecar_on("other", cluster.node(2)).await);
        let (here, there) = (stack.sidecar.internal(), other.internal());

        let key = json!({ "account": "certified", "service": "mixed" });
        let want = json!({ "key": key, "units": 50, "min": 50 });
        let want: Want = serde_json::from_value(want).unwrap();
        let granted = here.ask(SYNC_PATH, &message(1, 0, vec![], vec![want])).send().await;
        let granted: SyncReply = serde_json::from_str(&granted.body).unwrap();
        let (lease, epoch) = (granted.grants[0].lease, granted.epoch);

        // The first report is decided, and about to be written.
        stack.cut.arm_for(How::HoldStatement, LEASE_UPDATE);
        let late = here.ask(SYNC_PATH, &message(2, epoch, used(lease, 10), vec![]));
        let late = tokio::spawn(late.send());
        eventually!(stack.cut.caught() == 1, "{}", stack.sidecar.log());
        // The second is decided and written through another node, and arrives at the first one.
        let answer = there.ask(SYNC_PATH, &message(3, epoch, used(lease, 30), vec![])).send().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let row = format!("SELECT free_used FROM lease WHERE lease_id = {lease}");
        eventually!(stack.sql_one(&row) == "30", "the first node has the second report");
        stack.cut.release();
        let answer = late.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);

        let account = stack.account("certified");
        assert_eq!((account.free_used, account.recorded_units), (30, 30), "{account:?}");
        assert_eq!(stack.sql_one(&row), "30");
        stack.invariants();
    });
}
