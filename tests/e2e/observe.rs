//! What operators watch: the alerts, and the dashboard's queries on a real Prometheus that has asked the real parts.

use std::collections::BTreeSet;
use std::fs;

use farebox_tests::prometheus::{Prometheus, promtool};
use farebox_tests::scratch::Scratch;
use farebox_tests::{Plan, Stack, binaries, eventually, run};
use serde_json::Value;

fn observe(file: &str) -> String {
    binaries::repository().join("observe").join(file).display().to_string()
}

#[test]
fn each_alert_fires_when_it_should_and_is_quiet_when_it_should() {
    for arguments in [["check", "config", "prometheus.yaml"], ["test", "rules", "alerts.test.yaml"]]
    {
        let [verb, what, file] = arguments;
        let file = observe(file);
        promtool(&[verb, what, &file]).unwrap_or_else(|said| panic!("{said}"));
    }
    // A rule without a case would pass unseen.
    let names = |file: &str, start: &str| -> BTreeSet<String> {
        let text = fs::read_to_string(observe(file)).unwrap();
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(start));
        lines.map(|name| name.trim().to_owned()).collect()
    };
    let rules = names("alerts.yaml", "- alert:");
    let cases = names("alerts.test.yaml", "- name:");
    for rule in &rules {
        for case in ["fires", "is quiet"] {
            assert!(cases.contains(&format!("{rule} {case}")), "no case: {rule} {case}");
        }
    }
}

/// The names of metrics in a query, and how they may be missing.
fn metrics_of(query: &str) -> BTreeSet<&str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = query.split(|letter| !is_part(letter));
    words.filter(|word| word.starts_with("billing_") || word.starts_with("farebox_")).collect()
}

fn dashboard_queries() -> Vec<String> {
    let text = fs::read_to_string(observe("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// The shipped configuration, with the addresses of this stack and no time to lose.
fn configuration(stack: &Stack) -> String {
    let shipped = fs::read_to_string(observe("prometheus.yaml")).unwrap();
    let envoy = stack.envoy.admin_addr().unwrap();
    shipped
        .replace("127.0.0.1:8109", &stack.sidecar.addresses().admin.to_string())
        .replace("127.0.0.1:9901", &envoy.to_string())
        .replace("alerts.yaml", &observe("alerts.yaml"))
        .replace("interval: 15s", "interval: 1s")
}

#[test]
fn every_query_of_alerts_and_dashboard_finds_its_metrics_in_what_the_parts_tell() {
    run(async {
        let plan = Plan::reference().free_quotas(&[("passport", 1)]);
        let stack = Stack::start(plan).await.unwrap_or_else(|err| panic!("{err}"));
        stack.credit("ada", "0.003");
        for (path, status) in
            [("/v1/passport/x", 200), ("/v1/asset/export/x", 200), ("/v1/passport/x", 200)]
        {
            let answer = stack.client().get(path).user("ada").send().await;
            assert_eq!(answer.status, status, "{}", answer.body);
        }
        assert_eq!(stack.client().get("/v1/passport/x").user("poor").send().await.status, 200);
        assert_eq!(stack.client().get("/v1/passport/x").user("poor").send().await.status, 402);

        let scratch = Scratch::new().unwrap();
        let prometheus = Prometheus::start(scratch.path(), &configuration(&stack)).await;
        let prometheus = prometheus.unwrap_or_else(|err| panic!("{err}"));
        for job in ["farebox", "envoy"] {
            let up = format!(r#"up{{job="{job}"}} == 1"#);
            eventually!(!prometheus.query(&up).await.is_empty(), "{job} was not asked");
        }
        let queries = dashboard_queries();
        assert!(20 < queries.len());
        for query in &queries {
            prometheus.query(query).await;
            for metric in metrics_of(query) {
                eventually!(!prometheus.query(metric).await.is_empty(), "{metric} of {query}");
            }
        }
        // Envoy makes a label of the reason.
        let refused = r#"farebox_refused{reason="balance"} == 1"#;
        eventually!(!prometheus.query(refused).await.is_empty(), "{refused}");

        let rules = prometheus.get("/api/v1/rules").await.unwrap();
        let rules: Value = serde_json::from_str(&rules).unwrap();
        for rule in rules["data"]["groups"][0]["rules"].as_array().unwrap() {
            for metric in metrics_of(rule["query"].as_str().unwrap()) {
                eventually!(!prometheus.query(metric).await.is_empty(), "{metric} of {rule}");
            }
        }
    });
}
