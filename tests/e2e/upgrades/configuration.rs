//! Configurations that are pushed under load: each has VM state of its own, and takes over the leases of the one before.

use std::fs;
use std::path::PathBuf;

use farebox_tests::envoy::Template;
use farebox_tests::{Gateway, Stack, eventually, port, run};

use super::{KINDS, configuration, stack};
use crate::configuration::listener_file;
use crate::load::{Heard, Load, at_rest, even, flows};

/// A gateway whose listener comes from a file.
struct Dynamic {
    gateway: Gateway,
    template: Template,
    file: PathBuf,
}

impl Dynamic {
    async fn start(stack: &Stack, name: &str, drain_s: &str) -> Self {
        let folder = stack.folder().join(name);
        fs::create_dir(&folder).unwrap();
        let file = folder.join("listeners.yaml");
        let template = stack.template.clone().set("listener_port", port::free().port()).unwrap();
        publish(&file, &template);
        let source = format!(
            "
dynamic_resources:
  lds_config:
    path_config_source:
      path: {}
      watched_directory: {{ path: {} }}
",
            file.display(),
            folder.display()
        );
        let bootstrap = template.clone().set_block("listener", "[]").unwrap().append(&source);
        let bootstrap = bootstrap.set("node_id", name).unwrap();
        // What an old configuration still serves is given up after this many seconds.
        let arguments = ["--disable-hot-restart", "--drain-time-s", drain_s];
        let gateway = Gateway::start_with(stack.folder(), name, &bootstrap, 2, &arguments).await;
        let gateway = gateway.unwrap_or_else(|err| panic!("{err}"));
        Self { gateway, template, file }
    }

    /// Changes the filter's configuration, and waits until Envoy has taken it.
    async fn push(&self, version: u32) {
        let updated = "listener_manager.lds.update_success";
        let before = self.gateway.envoy.stat(updated).await;
        publish(&self.file, &self.template.clone().set_plugin(&configuration(version)).unwrap());
        eventually!(before < self.gateway.envoy.stat(updated).await);
    }
}

/// Envoy looks when a file is moved into the folder.
fn publish(file: &PathBuf, template: &Template) {
    let next = file.with_extension("next");
    fs::write(&next, listener_file(template)).unwrap();
    fs::rename(&next, file).unwrap();
}

/// Pushes configurations under load; what the callers heard.
async fn pushed(stack: &Stack, name: &str, drain_s: &str) -> Vec<Heard> {
    let dynamic = Dynamic::start(stack, name, drain_s).await;
    let load = Load::on(vec![dynamic.gateway.client()]);
    let pushes = async {
        for version in 1..=4 {
            for calls in KINDS {
                flows(stack, calls.user).await;
            }
            dynamic.push(version).await;
        }
        for calls in KINDS {
            flows(stack, calls.user).await;
        }
        load.stop();
        dynamic
    };
    let (heard, dynamic) = tokio::join!(load.run(&KINDS), pushes);
    // Units come home and charges come back while it runs; a stopped gateway could not.
    for (calls, heard) in KINDS.into_iter().zip(&heard) {
        at_rest(stack, calls, heard).await;
    }
    drop(dynamic);
    heard
}

#[test]
fn configurations_pushed_under_load_lose_nothing_and_charge_nothing_twice() {
    run(async {
        let stack = stack().await;
        // Long enough for every connection to be asked to close.
        let heard = pushed(&stack, "edge-pushed", "3").await;
        for (calls, heard) in KINDS.into_iter().zip(&heard) {
            assert!(heard.is_flawless(), "{calls:?}: {heard:?}");
            even(&stack, calls, heard).await;
        }
    });
}

/// Envoy removes each old configuration at once, with the calls that it serves.
#[test]
fn calls_cut_by_a_configuration_are_charged_as_their_route_says() {
    run(async {
        let stack = stack().await;
        let heard = pushed(&stack, "edge-cut", "0").await;
        let broken: u64 = heard.iter().map(|heard| heard.broken).sum();
        assert_ne!(broken, 0, "calls were cut: {heard:?}");
    });
}
