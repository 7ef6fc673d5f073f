//! Configurations that must not start, and what the log says about them.

use farebox_wasm_host::{Host, StartError};
use serde_json::{Value as Json, json};

use crate::gateway::{Gateway, asset, configuration, filter, settings};

fn refusal(bytes: &[u8]) -> String {
    let mut settings = settings(&Json::Null, 1);
    settings.configuration = bytes.to_vec();
    match Host::new(settings).start(filter()) {
        Err(StartError::Refused { export: "proxy_on_configure", log }) => log,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn a_bad_configuration_is_refused_with_field_value_and_remedy() {
    type Change = fn(&mut Json);
    let cases: [(Change, &str, &str); 14] = [
        (|c| c["rules"][0]["price"] = json!("1e3"), "rules[0].price", "decimal"),
        (|c| c["rules"][0]["price"] = json!(0.002), "rules[0].price", "\"0.002\""),
        (|c| c["rules"][0]["price"] = json!("-1"), "rules[0].price", "negative"),
        (|c| c["rules"][0]["units"] = json!(-1), "rules[0].units", "2147483647"),
        (|c| c["rules"][0]["charge_on"] = json!("reply"), "rules[0].charge_on", "success"),
        (
            |c| c["rules"][0]["on_unreachable"] = json!("grace(0)"),
            "rules[0].on_unreachable",
            "grace(N)",
        ),
        (|c| c["rules"][0]["color"] = json!("red"), "rules[0].color", "known"),
        (
            |c| c["rules"][0]["assert_identity"] = json!(true),
            "rules[0].assert_identity",
            "write service: none",
        ),
        (
            |c| c["rules"][7]["assert_identity"] = json!("yes"),
            "rules[7].assert_identity",
            "true or false",
        ),
        (|c| c["sync_interval"] = json!("1h"), "sync_interval", "200ms"),
        (|c| c["identity"] = json!([]), "identity", "x-user-id"),
        (|c| c["sidecar"]["cluster"] = json!(7), "sidecar.cluster", "text"),
        (|c| c["sidecar"] = Json::Null, "sidecar", "object"),
        (|c| c["rulez"] = json!([]), "rulez", "known"),
    ];
    for (change, field, remedy) in cases {
        let mut json = configuration();
        change(&mut json);
        let log = refusal(json.to_string().as_bytes());
        assert!(log.contains(&format!("{field} is ")), "{field}: {log}");
        assert!(log.contains(remedy), "{field} with {remedy}: {log}");
    }
    for bytes in [b"".as_slice(), b"{", b"null", b"[]", &[0xff; 100]] {
        let log = refusal(bytes);
        assert!(log.contains("configuration"), "{log}");
    }
}

#[test]
fn the_token_comes_from_the_environment_that_envoy_hands_on() {
    let mut json = configuration();
    json["sidecar"] = json!({"cluster": "farebox_sidecar", "token_env": "FAREBOX_GATEWAY_TOKEN"});
    let log = refusal(json.to_string().as_bytes());
    assert!(log.contains("FAREBOX_GATEWAY_TOKEN") && log.contains("host_env_keys"), "{log}");

    let mut settings = settings(&json, 1);
    settings.environment = vec![("FAREBOX_GATEWAY_TOKEN".to_owned(), "from-env".to_owned())];
    let host = Host::new(settings);
    let vm = host.start(filter()).unwrap();
    vm.request(asset("rich"));
    assert_eq!(host.take_callouts()[0].headers().get("authorization"), Some("Bearer from-env"));
    assert!(
        host.logs().iter().all(|line| !line.text.contains("from-env")),
        "the token is never logged"
    );
}

#[test]
fn the_gateways_name_is_the_nodes_unless_it_is_given() {
    let mut json = configuration();
    json.as_object_mut().unwrap().remove("gateway");
    let mut settings = settings(&json, 1);
    settings.node_id = "node-7".to_owned();
    let host = Host::new(settings.clone());
    let vm = host.start(filter()).unwrap();
    vm.request(asset("rich"));
    let body: Json = serde_json::from_slice(host.take_callouts()[0].body()).unwrap();
    assert_eq!(body["gateway"], json!("node-7"));

    settings.node_id = String::new();
    let error = Host::new(settings).start(filter()).unwrap_err().to_string();
    assert!(error.contains("gateway is empty"), "{error}");
}

#[test]
fn a_refused_configuration_answers_calls_with_an_error_instead_of_passing_them() {
    let gateway = Gateway::new(1);
    gateway.host.configure(|settings| settings.configuration = b"{}".to_vec());
    let error = gateway.host.start(filter()).unwrap_err();
    assert!(matches!(error, StartError::Refused { .. }), "{error:?}");
    assert!(
        gateway.serve(0, asset("rich")).is_forwarded(),
        "workers that run already are not concerned"
    );
}

#[test]
fn a_name_that_changes_does_so_with_the_next_start_of_envoy() {
    let mut gateway = Gateway::new(1);
    assert!(gateway.serve(0, asset("rich")).is_forwarded());
    gateway.vms.clear();
    let mut renamed = configuration();
    renamed["gateway"] = json!("edge-2");
    gateway.host.configure(|settings| settings.configuration = renamed.to_string().into_bytes());
    gateway.start_worker().unwrap();
    let warning = "gateway is \"edge-2\", but this Envoy has begun as \"edge-1\"";
    assert!(gateway.host.logs().iter().any(|line| line.text.contains(warning)));

    assert!(gateway.serve(0, asset("rich")).is_forwarded());
    // Also what the first configuration had not reported.
    gateway.settle_and_check("rich", 2);
}
