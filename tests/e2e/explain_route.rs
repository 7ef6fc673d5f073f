//! `farebox explain-route` and `farebox lint` say what a real Envoy with the real filter does.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use farebox_tests::envoy::{self, Template};
use farebox_tests::{Gateway, Stack, run, scratch::Scratch};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{plugin_with_rules, shared};

/// Routes of every kind: name, match, and what else they have; without an action they lead to the upstream.
const ROUTES: [(&str, &str, &str); 23] = [
    ("exact", "{ path: /exact }", ""),
    (
        "post",
        "{ prefix: /coin/, headers: [{ name: ':method', string_match: { exact: POST } }] }",
        "",
    ),
    ("coin", "{ prefix: /coin/ }", ""),
    ("regex", "{ safe_regex: { regex: '/v[0-9]+/things' } }", ""),
    ("separated", "{ path_separated_prefix: /dime }", ""),
    ("any-case", "{ prefix: /UPPER/, case_sensitive: false }", ""),
    ("query", "{ prefix: /q/, query_parameters: [{ name: a, string_match: { exact: '1' } }] }", ""),
    (
        "h-exact",
        "{ prefix: /headers/, headers: [{ name: x-kind, string_match: { exact: a } }] }",
        "",
    ),
    (
        "h-regex",
        "{ prefix: /headers/, headers: [{ name: X-Kind, string_match: { safe_regex: { regex: b+ } } }] }",
        "",
    ),
    (
        "h-range",
        "{ prefix: /headers/, headers: [{ name: x-kind, range_match: { start: 1, end: 5 } }] }",
        "",
    ),
    (
        "h-not",
        "{ prefix: /headers/, headers: [{ name: x-kind, string_match: { exact: c }, invert_match: true }] }",
        "",
    ),
    ("h-absent", "{ prefix: /headers/, headers: [{ name: x-kind, present_match: false }] }", ""),
    ("h-rest", "{ prefix: /headers/ }", ""),
    (
        "units",
        "{ prefix: /own/units/ }",
        "metadata: { filter_metadata: { farebox: { units: 3 } } }",
    ),
    (
        "price",
        "{ prefix: /own/price/ }",
        "metadata: { filter_metadata: { farebox: { price: '0.007' } } }",
    ),
    // Envoy's YAML makes a text of it.
    (
        "half",
        "{ prefix: /own/half/ }",
        "metadata: { filter_metadata: { farebox: { price: 0.5 } } }",
    ),
    (
        "broken",
        "{ prefix: /own/broken/ }",
        "metadata: { filter_metadata: { farebox: { price: 1 } } }",
    ),
    (
        "whole",
        "{ prefix: /whole/ }",
        "metadata: { filter_metadata: { farebox: { service: coin, price: '0.009' } } }",
    ),
    (
        "switched-off",
        "{ prefix: /coin-off/ }",
        "typed_per_filter_config: { farebox: { '@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true } }",
    ),
    ("direct", "{ prefix: /direct/ }", "direct_response: { status: 204 }"),
    ("sent-on", "{ prefix: /sent-on/ }", "redirect: { path_redirect: /coin/x }"),
    ("public", "{ prefix: /public/ }", ""),
    ("ruleless", "{ prefix: /ruleless/ }", ""),
];

/// Virtual hosts beside the one that takes every host.
const HOSTS: [(&str, &str); 3] = [
    ("exact-host", "[api.example, 'api.example:8443']"),
    ("suffix-host", "['*.example']"),
    ("prefix-host", "[api.*]"),
];

fn routes() -> String {
    let upstream = "route: { cluster: upstream }";
    let main = ROUTES.map(|(name, rules, rest)| {
        let has_action = rest.starts_with("direct") || rest.starts_with("redirect");
        let action = if has_action { rest.to_owned() } else { format!("{upstream}, {rest}") };
        format!("{{ name: {name}, match: {rules}, {action} }}")
    });
    let others = HOSTS.map(|(name, domains)| {
        let route = format!("{{ name: {name}, match: {{ prefix: /coin/ }}, {upstream} }}");
        format!("\n                    - {{ name: {name}, domains: {domains}, routes: [{route}] }}")
    });
    format!("routes: [{}]{}", main.join(", "), others.concat())
}

/// Envoy writes the name of the route that it took into the answer.
fn template(stack: &Stack, name: &str) -> Template {
    let plugin = plugin_with_rules(&[
        json!({ "route": "exact", "service": "coin", "price": "0.002" }),
        json!({ "prefix": "/coin/", "service": "coin" }),
        json!({ "prefix": "/coin/dear/", "service": "coin", "units": 4 }),
        json!({ "prefix": "/v", "service": "duo" }),
        json!({ "prefix": "/dime", "service": "dime" }),
        json!({ "prefix": "/UPPER/", "service": "coin" }),
        json!({ "prefix": "/q/", "service": "coin" }),
        json!({ "prefix": "/headers/", "service": "coin" }),
        json!({ "prefix": "/own/", "service": "coin" }),
        json!({ "prefix": "/direct/", "service": "coin", "price": "0.003" }),
        json!({ "prefix": "/sent-on/", "service": "coin", "price": "0.004" }),
        json!({ "prefix": "/public/", "service": "none" }),
        json!({ "prefix": "/nowhere/", "service": "coin", "price": "0.005" }),
    ]);
    let header = json!([{ "header": { "key": "x-route", "value": "%ROUTE_NAME%" } }]);
    let template = stack.template.clone().set("node_id", name);
    let template = template.and_then(|template| template.set_block("routes", &routes()));
    let template = template.and_then(|template| template.set_plugin(&plugin));
    let said = format!("response_headers_to_add: {header}");
    template.and_then(|template| template.put_before("name: ingress", &said)).unwrap()
}

/// Method, path, host, further headers.
type Asked = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const ASKED: [Asked; 48] = [
    ("GET", "/exact?a=b", "any", &[]),
    ("GET", "/exact/", "any", &[]),
    ("GET", "/coin/x", "any", &[]),
    ("POST", "/coin/x", "any", &[]),
    ("GET", "/coin/dear/x", "any", &[]),
    ("GET", "/coin/./dear/../x", "any", &[]),
    ("GET", "/public/../coin/dear/x", "any", &[]),
    ("GET", "/public/%2e%2E/coin/x", "any", &[]),
    ("GET", "//coin///dear//x", "any", &[]),
    ("GET", "/%63oin/%7Ex%2B", "any", &[]),
    ("GET", "/coin\\dear\\x", "any", &[]),
    ("GET", "/coin%2Fdear%5cx", "any", &[]),
    ("GET", "/coin/..", "any", &[]),
    ("GET", "/coin/{x}|y^z", "any", &[]),
    ("GET", "/coin//../dear/x/.", "any", &[]),
    ("GET", "/coin/a%zz", "any", &[]),
    ("GET", "/public/x?y=/../coin//", "any", &[]),
    ("GET", "/v12/things?x", "any", &[]),
    ("GET", "/v12/things/x", "any", &[]),
    ("GET", "/dime", "any", &[]),
    ("GET", "/dime/x", "any", &[]),
    ("GET", "/dimes", "any", &[]),
    ("GET", "/upper/x", "any", &[]),
    ("GET", "/UPPER/x", "any", &[]),
    ("GET", "/q/x?b=2&a=1", "any", &[]),
    ("GET", "/q/x?a=2", "any", &[]),
    ("GET", "/headers/x", "any", &[("x-kind", "a")]),
    ("GET", "/headers/x", "any", &[("x-kind", "bbb")]),
    ("GET", "/headers/x", "any", &[("x-kind", "3")]),
    ("GET", "/headers/x", "any", &[("x-kind", "c")]),
    ("GET", "/headers/x", "any", &[("x-kind", "d")]),
    ("GET", "/headers/x", "any", &[]),
    ("GET", "/own/units/x", "any", &[]),
    ("GET", "/own/price/x", "any", &[]),
    ("GET", "/own/half/x", "any", &[]),
    ("GET", "/own/broken/x", "any", &[]),
    ("GET", "/whole/x", "any", &[]),
    ("GET", "/coin-off/x", "any", &[]),
    ("GET", "/direct/x", "any", &[]),
    ("GET", "/sent-on/x", "any", &[]),
    ("GET", "/public/x", "any", &[]),
    ("GET", "/ruleless/x", "any", &[]),
    ("GET", "/nowhere/x", "any", &[]),
    ("GET", "/coin/x", "api.example", &[]),
    ("GET", "/coin/x", "API.example:8443", &[]),
    ("GET", "/coin/x", "a.b.example", &[]),
    ("GET", "/coin/x", "api.test", &[]),
    ("GET", "/other", "api.example", &[]),
];

/// What came back: status, headers and body as they were on the wire.
struct Answer {
    status: u64,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next().unwrap_or_default();
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// What stands behind a member's name in the body.
    fn member(&self, name: &str) -> Option<&str> {
        let value = self.text.split_once(&format!("\"{name}\":"))?.1;
        let value = value.trim_start_matches([' ', '"']);
        value.split(['"', ',', '}']).next()
    }
}

/// Sends a request as it is written: a client library would mend its path.
async fn send(addr: SocketAddr, (method, path, host, headers): Asked, user: &str) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    if !user.is_empty() {
        request += &format!("x-user-id: {user}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(format!("{request}content-length: 0\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    Answer { status: status.unwrap_or_else(|| panic!("{path}: {text}")), text }
}

fn explained(stack: &Stack, file: &Path, (method, path, host, headers): Asked) -> Value {
    let file = file.display().to_string();
    let headers: Vec<String> =
        headers.iter().map(|(name, value)| format!("--header={name}:{value}")).collect();
    let mut words = vec!["explain-route", "--json", "--envoy", &file, method, path, "--host", host];
    words.extend(headers.iter().map(String::as_str));
    let text = stack.sidecar.cli(&words).unwrap_or_else(|err| panic!("{path}: {err}"));
    serde_json::from_str(&text).unwrap()
}

/// Compares what is said about a request with what came back for a caller who can pay.
fn compare(asked: Asked, said: &Value, answer: &Answer) {
    let told = || format!("{asked:?}\n{said:#}\n{}", answer.text);
    if let Some(answered) = said["answered"].as_str() {
        assert!(answered.starts_with(&answer.status.to_string()), "{}", told());
        if let Some(location) = answer.header("location") {
            assert!(answered.contains(&format!("to {location}:")), "{}", told());
        }
        assert_eq!(answer.header("x-farebox-charge"), None, "{}", told());
        return;
    }
    let [outcome] = said["outcomes"].as_array().unwrap().as_slice() else { panic!("{}", told()) };
    if let Some(route) = answer.header("x-route") {
        let name = outcome["route"]["name"].as_str().unwrap_or("-");
        assert_eq!(name, route, "{}", told());
    }
    let metering = &outcome["metering"];
    let charge = answer.header("x-farebox-charge");
    match metering["kind"].as_str().unwrap() {
        "refused" => {
            assert_eq!(metering["refusal"]["status"], answer.status, "{}", told());
            let code = metering["refusal"]["code"].to_string();
            assert_eq!(answer.member("code"), Some(code.as_str()), "{}", told());
            return;
        }
        "metered" => assert_eq!(charge, metering["cost"].as_str(), "{}", told()),
        "unmetered" | "absent" => assert_eq!(charge, None, "{}", told()),
        kind => panic!("{kind}: {}", told()),
    }
    let action = outcome["action"].as_str().unwrap();
    let status = match action {
        action if action.starts_with("to cluster upstream") => 200,
        action if action.starts_with("redirect") => 301,
        action => action.split([',', ':']).next().unwrap().parse().unwrap(),
    };
    assert_eq!(answer.status, status, "{}", told());
    if status == 200 {
        let path = said["path"].as_str().unwrap().split('?').next();
        assert_eq!(answer.member("path"), path, "{}", told());
    }
}

#[test]
fn what_is_explained_is_what_envoy_and_the_filter_do() {
    run(async {
        let stack = shared().await;
        let name = "edge-explained";
        let template = template(stack, name);
        let gateway = Gateway::start(stack.folder(), name, &template, 2).await;
        let gateway = gateway.unwrap_or_else(|err| panic!("{err}"));
        let file = stack.folder().join(format!("{name}.yaml"));
        fs::write(&file, template.text()).unwrap();
        let dump = stack.folder().join(format!("{name}.dump.json"));
        fs::write(&dump, gateway.envoy.admin("/config_dump").await.unwrap()).unwrap();
        stack.credit("explained", "10.00");
        for asked in ASKED {
            let answer = send(gateway.addr(), asked, "explained").await;
            compare(asked, &explained(stack, &file, asked), &answer);
            // What Envoy has taken in says the same.
            compare(asked, &explained(stack, &dump, asked), &answer);
        }
        // Without an identity, and with two.
        for (headers, status) in
            [(&[][..], 401), (&[("x-user-id", "a"), ("x-user-id", "b")][..], 400)]
        {
            let asked = ("GET", "/coin/x", "any", headers);
            let said = explained(stack, &file, asked);
            let problem = said["outcomes"][0]["metering"]["payer"]["problem"].as_str().unwrap();
            let answer = send(gateway.addr(), asked, "").await;
            assert_eq!(answer.status, status);
            assert!(problem.contains(&format!("gets {status} (code ")), "{problem}");
            assert!(problem.contains(answer.member("code").unwrap()), "{problem}");
        }
        let config = stack.sidecar.config();
        let found = linted(config, &file);
        for rule in ["route-without-rule", "route-metadata", "filter-disabled", "unused-rule"] {
            assert!(found.contains(rule), "{rule}: {found:?}");
        }
        assert_eq!(linted(config, &dump), found, "what Envoy has taken in breaks the same rules");
    });
}

/// The rules that a configuration breaks.
fn linted(config: &Path, file: &Path) -> BTreeSet<String> {
    let program = farebox_tests::binaries::farebox().unwrap_or_else(|err| panic!("{err}"));
    let mut command = Command::new(program);
    command.arg("--config").arg(config).args(["lint", "--json", "--envoy"]).arg(file);
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|err| panic!("{err}: {}", String::from_utf8_lossy(&output.stderr)));
    let findings = report["findings"].as_array().unwrap().iter();
    let has_error = findings.clone().any(|finding| finding["severity"] == "error");
    assert_eq!(output.status.code(), Some(i32::from(has_error)));
    findings.map(|finding| finding["rule"].as_str().unwrap().to_owned()).collect()
}

/// Mistakes that Envoy or the filter refuses when it loads the configuration are errors here, and nothing else is.
#[test]
fn what_envoy_refuses_is_an_error_and_what_it_takes_is_none() {
    let scratch = Scratch::new().unwrap();
    let filter = farebox_tests::binaries::filter().unwrap_or_else(|err| panic!("{err}"));
    let good = Template::read("envoy.yaml").unwrap().set("filter", filter.display()).unwrap();
    let router = "                  - name: envoy.filters.http.router\n                    typed_config:\n                      \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n";
    let farebox = "                  - name: farebox\n                    typed_config:\n                      \"@type\": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm\n";
    for (old, new, rule) in [
        ("", String::new(), None),
        // Envoy's YAML makes a text of a number with a point, and so does this.
        ("price: \"0.002\", charge_on", "price: 0.002, charge_on".to_owned(), None),
        (
            "price: \"0.002\", charge_on",
            "price: 2, charge_on".to_owned(),
            Some("plugin-configuration"),
        ),
        ("mode: strict", "mode: exact".to_owned(), Some("plugin-configuration")),
        (
            "service: passport }",
            "service: passport, cost: '1' }".to_owned(),
            Some("plugin-configuration"),
        ),
        (
            "host_env_keys: [FAREBOX_GATEWAY_TOKEN]",
            "host_env_keys: []".to_owned(),
            Some("token-variable"),
        ),
        (
            "cluster: farebox_public, timeout",
            "cluster: nowhere, timeout".to_owned(),
            Some("missing-cluster"),
        ),
        ("  id: edge-1 # @node_id\n", String::new(), Some("gateway-name")),
        (farebox, format!("{router}{farebox}"), Some("filter-after-router")),
    ] {
        let at = good.text().find(old).unwrap_or_else(|| panic!("no {old}"));
        let (before, rest) = good.text().split_at(at);
        let text = format!("{before}{new}{}", &rest[old.len()..]);
        let file = scratch.path().join("mistaken.yaml");
        fs::write(&file, &text).unwrap();
        let verdict = envoy::validate_file(&file);
        let config = farebox_tests::binaries::repository().join("farebox.yaml");
        let found = linted(&config, &file);
        assert_eq!(verdict.is_err(), rule.is_some(), "{new}: {verdict:?}");
        match rule {
            None => assert!(found.is_empty(), "{new}: {found:?}"),
            Some(rule) => assert!(found.contains(rule), "{new}: {found:?}"),
        }
    }
}
