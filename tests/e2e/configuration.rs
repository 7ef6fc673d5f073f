//! Configurations: the shipped ones are valid, a wrong one is refused with its reason, the last good one stays.

use std::fs;

use farebox_tests::envoy::{self, Template};
use farebox_tests::{Plan, Stack, eventually, run, scratch::Scratch};
use serde_json::{Value, json};

use crate::{plan, plugin};

/// Changes one place of the plugin configuration.
fn changed(pointer: &str, value: Value) -> Value {
    let mut configuration = plugin();
    *configuration.pointer_mut(pointer).unwrap() = value;
    configuration
}

#[test]
fn the_reference_configurations_are_valid() {
    let scratch = Scratch::new().unwrap();
    let jwks = scratch.path().join("jwks.json");
    fs::write(&jwks, crate::jwt::Issuer::new().jwks()).unwrap();
    let filter = farebox_tests::binaries::filter().unwrap_or_else(|err| panic!("{err}"));
    let read = |name| Template::read(name).unwrap().set("filter", filter.display()).unwrap();
    let jwt = read("envoy-jwt.yaml").set("jwks", jwks.display()).unwrap();
    // The filter reads its configuration as JSON text as well.
    let kind = "type.googleapis.com/google.protobuf.StringValue";
    let text = json!({ "@type": kind, "value": plugin().to_string() }).to_string();
    let json = read("envoy.yaml").set_block("plugin", &text).unwrap();
    for template in [read("envoy.yaml"), json, jwt] {
        let log = envoy::validate(scratch.path(), &template);
        log.unwrap_or_else(|err| panic!("{err}"));
    }
}

#[test]
fn a_wrong_configuration_is_refused_with_field_value_and_remedy() {
    let scratch = Scratch::new().unwrap();
    let filter = farebox_tests::binaries::filter().unwrap_or_else(|err| panic!("{err}"));
    let template = Template::read("envoy.yaml").unwrap().set("filter", filter.display()).unwrap();
    for (pointer, value, field, shown) in [
        ("/rules/7/price", json!("0.0000000001"), "rules[7].price", "0.0000000001"),
        ("/rules/7/price", json!("-1"), "rules[7].price", "-1"),
        ("/rules/0/service", json!("no such thing"), "rules[0].service", "no such thing"),
        ("/rules/6/charge_on", json!("sometimes"), "rules[6].charge_on", "sometimes"),
        ("/rules/8/shadow", json!("perhaps"), "rules[8].shadow", "perhaps"),
        ("/sidecar/token_env", json!("NO_SUCH_VARIABLE"), "sidecar.token_env", "NO_SUCH_VARIABLE"),
        ("/identity", json!([]), "identity", "[]"),
        ("/rules", json!([{ "service": "coin" }]), "rules[0]", ""),
    ] {
        let template = template.clone().set_plugin(&changed(pointer, value)).unwrap();
        let refusal = envoy::validate(scratch.path(), &template).unwrap_err().to_string();
        let line = refusal.lines().find(|line| line.contains("configuration refused"));
        let line = line.unwrap_or_else(|| panic!("{pointer}: {refusal}"));
        assert!(line.contains(field) && line.contains(shown), "{pointer}: {line}");
    }
}

/// The listener of a template, as Envoy reads it from a file that may change.
pub(crate) fn listener_file(template: &Template) -> String {
    let kind = "type.googleapis.com/envoy.config.listener.v3.Listener";
    let item = template.block("listener").unwrap();
    let item =
        item.replacen("- name: ingress", &format!("- \"@type\": {kind}\n      name: ingress"), 1);
    // The end mark's own indentation belongs to nothing any more.
    format!("resources:\n{}\n", item.trim_end())
}

#[test]
fn envoy_keeps_the_last_good_configuration_when_a_wrong_one_arrives() {
    run(async {
        let stack = Stack::start(plan()).await.unwrap_or_else(|err| panic!("{err}"));
        let folder = stack.folder();
        let listeners = folder.join("listeners.yaml");
        // Envoy looks when the file is replaced, not when it is written to.
        let publish = |template: &Template| {
            let next = folder.join("listeners.next");
            fs::write(&next, listener_file(template)).unwrap();
            fs::rename(&next, &listeners).unwrap();
        };
        let good = stack.template.clone().set("listener_port", farebox_tests::port::free().port());
        let good = good.unwrap();
        publish(&good);
        let source = format!(
            "\ndynamic_resources:\n  lds_config:\n    path_config_source: {{ path: {} }}\n",
            listeners.display()
        );
        let dynamic = good.clone().set_block("listener", "[]").unwrap().append(&source);
        let dynamic = dynamic.set("node_id", "edge-dynamic").unwrap();
        let gateway = farebox_tests::Gateway::start(folder, "edge-dynamic", &dynamic, 2).await;
        let gateway = gateway.unwrap_or_else(|err| panic!("{err}"));
        stack.credit("loyal", "1.00");
        let call = async || gateway.client().get("/coin/x").user("loyal").send().await;
        assert_eq!(call().await.status, 200);

        publish(&good.clone().set_plugin(&changed("/rules/7/price", json!("free"))).unwrap());
        eventually!(gateway.envoy.stat("listener_manager.lds.update_rejected").await == 1);
        assert!(gateway.envoy.log().contains("rules[7].price"), "{}", gateway.envoy.log());
        assert_eq!(call().await.status, 200, "the last good configuration goes on");

        // A good one is taken again: the same service at another price.
        let dearer = json!({ "prefix": "/coin/", "service": "coin", "price": "0.003" });
        publish(&good.clone().set_plugin(&changed("/rules/0", dearer)).unwrap());
        eventually!(call().await.header("x-farebox-charge") == "0.003");
        eventually!(stack.account("loyal").recorded_units == stack.upstream.served("loyal"));
        stack.invariants();
    });
}

#[test]
fn a_wrong_token_is_an_operators_mistake_that_lets_nobody_through() {
    run(async {
        let mut configuration = plugin();
        configuration["sidecar"] = json!({ "cluster": "farebox_sidecar", "token": "wrong" });
        let plan = Plan::reference().plugin(configuration).prices(&[("coin", "0.001")]);
        let stack = Stack::start(plan).await.unwrap_or_else(|err| panic!("{err}"));
        stack.credit("locked-out", "1.00");
        let answer = stack.client().get("/coin/x").user("locked-out").send().await;
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert_eq!(stack.upstream.served("locked-out"), 0);
    });
}
