//! Envoy's hot restart: a new process takes the listener over, the old one drains and ends.

use std::fs;

use farebox_tests::{Gateway, Stack, eventually, port, run};

use super::{KINDS, stack};
use crate::load::{Load, even, flows};

/// Seconds in which the old process asks its callers to leave, and after which it ends.
const DRAIN_S: &str = "2";
const END_S: &str = "4";

/// A process of the gateway `edge-hot`, with these arguments besides.
async fn process(stack: &Stack, name: &str, port: u16, arguments: &[&str]) -> Gateway {
    let template = stack.template.clone().set("node_id", "edge-hot").unwrap();
    let template = template.set("listener_port", port).unwrap();
    let all = [&["--drain-time-s", DRAIN_S, "--parent-shutdown-time-s", END_S], arguments].concat();
    let gateway = Gateway::start_with(stack.folder(), name, &template, 2, &all).await;
    gateway.unwrap_or_else(|err| panic!("{err}"))
}

#[test]
fn a_hot_restart_under_load_loses_nothing_and_charges_nothing_twice() {
    run(async {
        let stack = stack().await;
        let port = port::free().port();
        let file = stack.folder().join("base-id");
        let path = file.to_string_lossy();
        let arguments = ["--use-dynamic-base-id", "--base-id-path", &path];
        let old = process(&stack, "edge-hot-0", port, &arguments).await;
        let base_id = fs::read_to_string(&file).unwrap();
        let base_id = base_id.trim();

        let load = Load::on(vec![old.client()]);
        let restart = async {
            for calls in KINDS {
                flows(&stack, calls.user).await;
            }
            let arguments = ["--base-id", base_id, "--restart-epoch", "1"];
            let new = process(&stack, "edge-hot-1", port, &arguments).await;
            eventually!(old.envoy.has_ended(), "{}", old.envoy.log());
            for calls in KINDS {
                flows(&stack, calls.user).await;
            }
            load.stop();
            new
        };
        let (heard, new) = tokio::join!(load.run(&KINDS), restart);
        let epochs = "SELECT COUNT(DISTINCT epoch) FROM lease WHERE gateway_id = 'edge-hot'";
        assert_eq!(stack.sql_one(epochs), "2", "both processes held leases");
        for (calls, heard) in KINDS.into_iter().zip(&heard) {
            assert!(heard.is_flawless(), "{calls:?}: {heard:?}");
            even(&stack, calls, heard).await;
        }
        drop(new);
    });
}
