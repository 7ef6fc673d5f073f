//! A worker's VM dies with calls on it and is loaded again, as `failure_policy: FAIL_RELOAD` says.

use farebox_tests::{Client, Gateway, Stack, binaries, eventually, run};

use super::{KINDS, stack};
use crate::load::{CALLERS, Load, charged, flows};

/// Where VMs die: before a call is metered, when its end is booked, at a tick.
const DEATHS: [&str; 3] = ["request", "log", "tick"];

/// A gateway whose VMs die when a request says so.
async fn gateway(stack: &Stack) -> Gateway {
    let filter = binaries::trap_filter().unwrap_or_else(|err| panic!("{err}"));
    let template = stack.template.clone().set("node_id", "edge-mortal").unwrap();
    let template = template.set("filter", filter.display()).unwrap();
    let gateway = Gateway::start(stack.folder(), "edge-mortal", &template, 2).await;
    gateway.unwrap_or_else(|err| panic!("{err}"))
}

/// Kills the VM of whichever worker takes the call: before it is metered, when its end is booked, or at the next tick.
async fn kill(client: &Client, place: &str) {
    let call = client.get("/success/x").user("killer").header("x-farebox-test-trap", place);
    // The call may be answered, or break: it is nobody's.
    call.try_send().await.ok();
}

#[test]
fn a_vm_that_dies_under_load_charges_nothing_twice_and_keeps_no_unit() {
    run(async {
        let stack = stack().await;
        stack.credit("killer", "1");
        let mortal = gateway(&stack).await;
        let load = Load::on(vec![mortal.client()]);
        let deaths = async {
            for place in DEATHS {
                for calls in KINDS {
                    flows(&stack, calls.user).await;
                }
                // A connection of its own, so that either worker may get it.
                kill(&mortal.client(), place).await;
            }
            for calls in KINDS {
                flows(&stack, calls.user).await;
            }
            load.stop();
        };
        let (heard, ()) = tokio::join!(load.run(&KINDS), deaths);
        assert!(2 <= mortal.envoy.stats_ending_in("vm_reload_success").await, "VMs died");
        for (calls, heard) in KINDS.into_iter().zip(&heard) {
            let user = calls.user;
            let served = stack.upstream.served(user);
            // A call that died with its VM may have been charged: nothing of it is left that could say. Each caller had one
            // at most; calls that Envoy refused until the VM was there again were never metered.
            let known = heard.by_status.get(&200).copied().unwrap_or(0);
            let all = known + (CALLERS * DEATHS.len()) as u64;
            let least = if calls.charged_on_success { known } else { served };
            eventually!(
                (least..=all).contains(&charged(&stack, user)) && stack.account(user).held == "0",
                "{user}: {least} to {all} may be charged, {} are; {heard:?}; {:?}",
                charged(&stack, user),
                stack.account(user)
            );
        }
        stack.invariants();
    });
}
