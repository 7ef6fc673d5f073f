//! Every rule is broken once, in the reference configuration, and found at its place; what is shipped breaks none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use farebox_core::tariff::Tariff;

use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn shipped(name: &str) -> String {
    fs::read_to_string(root().join("envoy").join(name)).unwrap()
}

/// What `farebox.yaml` says about `services`.
fn found_with(text: &str, services: &[&str], boot_grace_ms: u64) -> Vec<Finding> {
    let configuration = Configuration::parse("envoy.yaml", text).unwrap();
    let price = Tariff::flat("0.001".parse().unwrap());
    let prices: BTreeMap<_, _> =
        services.iter().map(|name| (name.parse().unwrap(), price.clone())).collect();
    let free_quotas = BTreeMap::new();
    let book = Book { file: "farebox.yaml", prices: &prices, free_quotas: &free_quotas };
    let boot_grace = Duration::from_millis(boot_grace_ms);
    lint(&configuration, Some(Sidecar { book, boot_grace, public_port: 8107 })).findings
}

fn found(text: &str) -> Vec<Finding> {
    found_with(text, &["passport", "payment", "asset"], 1_000)
}

/// Where a text stands that occurs once: the line, counted from 1.
fn line_of(text: &str, words: &str) -> usize {
    assert_eq!(text.matches(words).count(), 1, "{words}");
    1 + text.lines().position(|line| line.contains(words.lines().next().unwrap())).unwrap()
}

#[test]
fn the_shipped_configurations_break_no_rule() {
    for name in ["envoy.yaml", "envoy-jwt.yaml"] {
        assert_eq!(found(&shipped(name)), [], "{name}");
    }
}

const HTTP_FILTERS: &str = "                http_filters:\n";
const FAREBOX: &str = "                  - name: farebox\n                    typed_config:\n";
const ROUTER: &str = "                  - name: envoy.filters.http.router\n";

/// A mistake: the rule that it breaks, what is replaced, by what (`OLD` is what was there), and what stands in the line
/// that is named.
type Mistake = (Rule, &'static str, &'static str, &'static str);

const MISTAKES: [Mistake; 36] = [
    (
        Rule::FilterTwice,
        ROUTER,
        "                  - { name: farebox-2, typed_config: { '@type': t/x.Wasm, config: { name: farebox } } }\nOLD",
        "name: farebox-2",
    ),
    (
        Rule::FilterBeforeAuthentication,
        ROUTER,
        "                  - { name: authz, typed_config: { '@type': t/x.ExtAuthz } }\nOLD",
        "name: authz",
    ),
    (
        Rule::CustomResponseBefore,
        FAREBOX,
        "                  - { name: custom, typed_config: { '@type': t/x.CustomResponse } }\nOLD",
        "name: custom",
    ),
    (
        Rule::FilterDisabled,
        "stat_prefix: passport\n",
        "typed_per_filter_config: { farebox: { '@type': t/x.FilterConfig, disabled: true } }\n",
        "- name: passport",
    ),
    (
        Rule::PluginConfiguration,
        "price: \"0.002\", charge_on",
        "price: 1, charge_on",
        "price: 1, charge_on",
    ),
    (Rule::GatewayName, "  id: edge-1 # @node_id\n", "", "sidecar:\n"),
    (Rule::VmId, "vm_id: farebox", "vm_id: ''", "vm_id: ''"),
    (Rule::FailurePolicy, "FAIL_RELOAD", "FAIL_OPEN", "failure_policy: FAIL_OPEN"),
    (Rule::FailureReload, "FAIL_RELOAD", "FAIL_CLOSED", "failure_policy: FAIL_CLOSED"),
    (
        Rule::TokenVariable,
        "host_env_keys: [FAREBOX_GATEWAY_TOKEN]",
        "host_env_keys: [OTHER]",
        "token_env:",
    ),
    (Rule::TokenInline, "token_env: FAREBOX_GATEWAY_TOKEN", "token: s3cret", "token: s3cret"),
    (
        Rule::PathNormalization,
        "normalize_path: true",
        "normalize_path: false",
        "normalize_path: false",
    ),
    (Rule::PathNormalization, "merge_slashes: true", "merge_slashes: no", "merge_slashes: no"),
    (Rule::EscapedSlashes, "UNESCAPE_AND_REDIRECT", "KEEP_UNCHANGED", "KEEP_UNCHANGED"),
    (
        Rule::Ruleless,
        "{ prefix: /v1/passport/, service: passport }",
        "{ prefix: /v2/, service: passport }",
        "- name: passport",
    ),
    (Rule::RouteMetadata, "farebox: { units: 5 }", "farebox: { units: 5, price: 1 }", "price: 1"),
    (Rule::Unused, "{ route: payment, service", "{ route: payments, service", "route: payments"),
    (
        Rule::Unused,
        "- { prefix: /v1/passport/, service",
        "- { prefix: /v1/payment/x/, service: asset }\n                              OLD",
        "/v1/payment/x/",
    ),
    (Rule::UnknownService, "service: passport }", "service: pasport }", "service: pasport"),
    (
        Rule::UnknownService,
        "farebox: { units: 5 }",
        "farebox: { service: reports }",
        "service: reports",
    ),
    (
        Rule::IdentityFromClient,
        "# farebox-lint: allow identity-from-client",
        "#",
        "- header: x-user-id",
    ),
    (
        Rule::JwtPayload,
        "- header: x-user-id",
        "- jwt_claim: { payload: claims }",
        "payload: claims",
    ),
    (
        Rule::AssertionLeaves,
        "{ cluster: farebox_public, timeout",
        "{ cluster: upstream, timeout",
        "cluster: upstream, timeout: 15s",
    ),
    (
        Rule::AssertionLeaves,
        "{ cluster: farebox_public, timeout",
        "{ cluster_header: x-to, timeout",
        "cluster_header: x-to",
    ),
    (
        Rule::AssertionLeaves,
        "{ cluster: farebox_public, timeout",
        "{ weighted_clusters: { clusters: [{ name: upstream, weight: 1 }] }, timeout",
        "weighted_clusters",
    ),
    (
        Rule::FareboxHeaders,
        "route_config:\n",
        "OLD                  request_headers_to_add: [{ header: { key: X-Farebox-Identity, value: x } }]\n",
        "X-Farebox-Identity",
    ),
    (
        Rule::MissingCluster,
        "{ cluster: farebox_public, timeout",
        "{ cluster: farebox_pubic, timeout",
        "farebox_pubic",
    ),
    (
        Rule::MissingCluster,
        "cluster: farebox_sidecar\n                              timeout",
        "cluster: sidecar\n                              timeout",
        "  cluster: sidecar",
    ),
    (
        Rule::SidecarProtocol,
        "http2_protocol_options:\n              # A",
        "http_protocol_options:\n              # A",
        "- name: farebox_sidecar",
    ),
    (
        Rule::SidecarRoom,
        "max_connections: 32, max_pending_requests: 4096, max_requests: 4096",
        "max_connections: 32, max_pending_requests: 4096, max_requests: 100",
        "max_requests: 100",
    ),
    (Rule::SidecarTimeout, "timeout: 1s\n", "timeout: 500ms\n", "timeout: 500ms"),
    (
        Rule::WaitTooLong,
        "stat_prefix: ingress\n",
        "OLD                stream_idle_timeout: 2.5s\n",
        "stream_idle_timeout: 2.5s",
    ),
    (
        Rule::BootGrace,
        "token_env: FAREBOX_GATEWAY_TOKEN\n",
        "OLD                            max_wait: 1500ms\n",
        "max_wait: 1500ms",
    ),
    (
        Rule::BootGrace,
        "token_env: FAREBOX_GATEWAY_TOKEN\n",
        "OLD                            sync_interval: 1s\n",
        "sync_interval: 1s",
    ),
    (
        Rule::InternalRedirect,
        "{ cluster: farebox_public, timeout: 15s }",
        "{ cluster: farebox_public, internal_redirect_policy: { max_internal_redirects: 1 } }",
        "internal_redirect_policy",
    ),
    (Rule::StatsTags, "farebox_refused(_", "refused(_", "stats_tags:"),
];

#[test]
fn every_rule_is_broken_by_one_mistake_and_found_at_its_place() {
    let good = shipped("envoy.yaml");
    for (rule, old, new, marked) in MISTAKES {
        let at = good.find(old).unwrap_or_else(|| panic!("{rule:?}: no {old}"));
        let new = new.replace("OLD", old);
        let text = format!("{}{new}{}", &good[..at], &good[at + old.len()..]);
        let findings = found(&text);
        let own: Vec<&Finding> = findings.iter().filter(|finding| finding.rule == rule).collect();
        let [finding] = own[..] else { panic!("{rule:?} {new}: {findings:?}") };
        assert_eq!(finding.at.line, line_of(&text, marked), "{rule:?}: {finding:?}");
        let line = text.lines().nth(finding.at.line - 1).unwrap();
        assert!((1..=line.len()).contains(&finding.at.column), "{finding:?}: {line}");
        let grave =
            findings.iter().filter(|other| other.rule != rule && other.severity == Severity::Error);
        assert!(
            grave.count() <= 1,
            "{rule:?}: one mistake has one consequence at most: {findings:?}"
        );
    }
}

#[test]
fn what_a_whole_chain_lacks_is_found() {
    let good = shipped("envoy.yaml");
    let begin = good.find(FAREBOX).unwrap();
    let end = good.find(ROUTER).unwrap();
    let without = format!("{}{}", &good[..begin], &good[end..]);
    assert_eq!(rules(&found(&without)), [Rule::FilterMissing]);

    // The filter behind the router, where Envoy does not take it.
    let (before, rest) = good.split_at(begin);
    let (filter, router) = rest.split_at(end - begin);
    let behind = router.find("    # @end listener").unwrap();
    let text = format!("{before}{}{filter}{}", &router[..behind], &router[behind..]);
    assert_eq!(rules(&found(&text)), [Rule::FilterAfterRouter]);

    // A second listener without the filter, then with one of another mind.
    let listener = good.find("    # @begin listener\n").unwrap();
    let listener_end = good.find("    # @end listener\n").unwrap();
    let one = &good[listener..listener_end];
    let twice =
        |second: &str| format!("{}{second}{}", &good[..listener_end], &good[listener_end..]);
    let open = without.find("    # @begin listener\n").unwrap();
    let open = &without[open..without.find("    # @end listener\n").unwrap()];
    assert_eq!(rules(&found(&twice(open))), [Rule::ChainUnmetered]);
    assert_eq!(rules(&found(&twice(one))), [], "two listeners of one mind share a VM rightly");
    let other = one.replacen("timeout: 1s\n", "timeout: 2s\n", 1);
    assert_eq!(rules(&found(&twice(&other))), [Rule::VmShared]);
}

fn rules(findings: &[Finding]) -> Vec<Rule> {
    findings.iter().map(|finding| finding.rule).collect()
}

#[test]
fn no_rule_lacks_a_test_or_a_page() {
    let of_chains =
        [Rule::FilterMissing, Rule::ChainUnmetered, Rule::FilterAfterRouter, Rule::VmShared];
    let tested: BTreeSet<Rule> =
        MISTAKES.into_iter().map(|(rule, ..)| rule).chain(of_chains).collect();
    let mut ids = BTreeSet::new();
    for rule in Rule::ALL {
        assert!(tested.contains(rule), "{rule:?} is tested nowhere");
        assert!(ids.insert(rule.id()), "{rule:?} has the name of another one");
        for text in rule.page() {
            assert!(text.ends_with('.'), "{rule:?}: {text}");
        }
    }
    let page = fs::read_to_string(root().join("docs/envoy-lint.md")).unwrap();
    assert_eq!(page, markdown(), "farebox lint --markdown > docs/envoy-lint.md");
}

#[test]
fn a_comment_allows_its_rule_and_no_other() {
    let good = shipped("envoy.yaml");
    let comment = "# farebox-lint: allow identity-from-client";
    let with = |new: &str| rules(&found(&good.replace(comment, new)));
    assert_eq!(with("# farebox-lint: allow sidecar-timeout, identity-from-client (so)"), []);
    assert_eq!(with("# farebox-lint: allow sidecar-timeout"), [Rule::IdentityFromClient]);
    let on_the_line = good
        .replace(comment, "#")
        .replace("- header: x-user-id", &format!("- header: x-user-id {comment}"));
    assert_eq!(rules(&found(&on_the_line)), []);
}

#[test]
fn filters_in_front_and_what_the_manager_removes_keep_callers_from_naming_the_payer() {
    let good = shipped("envoy.yaml").replace("# farebox-lint: allow identity-from-client", "#");
    let front = |filter: &str| {
        let filter = format!("{HTTP_FILTERS}                  - {filter}\n");
        rules(&found(&good.replacen(HTTP_FILTERS, &filter, 1)))
    };
    for (filter, is_safe) in [
        ("{ name: a, typed_config: { '@type': t/x.ExtAuthz } }", true),
        (
            "{ name: a, typed_config: { '@type': t/x.JwtAuthentication, providers: { p: { claim_to_headers: [{ header_name: X-User-Id, claim_name: sub }] } } } }",
            true,
        ),
        (
            "{ name: a, typed_config: { '@type': t/x.JwtAuthentication, providers: { p: {} } } }",
            false,
        ),
        (
            "{ name: a, typed_config: { '@type': t/x.HeaderMutation, mutations: { request_mutations: [{ remove: x-user-id }] } } }",
            true,
        ),
        (
            "{ name: a, typed_config: { '@type': t/x.HeaderMutation, mutations: { request_mutations: [{ remove: x-other }] } } }",
            false,
        ),
        (
            "{ name: a, typed_config: { '@type': t/x.BasicAuth, forward_username_header: x-user-id } }",
            true,
        ),
        ("{ name: a, typed_config: { '@type': t/x.Cors } }", false),
    ] {
        let expected = if is_safe { &[][..] } else { &[Rule::IdentityFromClient] };
        assert_eq!(front(filter), expected, "{filter}");
    }
    let internal = good.replacen(
        "route_config:\n",
        "route_config:\n                  internal_only_headers: [x-user-id]\n",
        1,
    );
    assert_eq!(rules(&found(&internal)), []);
}

#[test]
fn what_comes_from_a_management_server_is_said_to_be_unchecked() {
    let good = shipped("envoy.yaml");
    let dynamic = format!("{good}\ndynamic_resources: {{ cds_config: {{ ads: {{}} }} }}\n");
    let dynamic =
        dynamic.replace("{ cluster: farebox_public, timeout", "{ cluster: of_cds_farebox, timeout");
    let configuration = Configuration::parse("envoy.yaml", &dynamic).unwrap();
    let report = lint(&configuration, None);
    assert_eq!(report.findings, []);
    assert!(report.notes[0].contains("(CDS)"), "{:?}", report.notes);
    assert!(report.notes[1].contains("no farebox.yaml was read"), "{:?}", report.notes);
}
