//! `farebox lint` and `farebox explain-route` as operators meet them: without database, also without `farebox.yaml`.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Desk, GOOD, Run};

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy").join(name);
    fs::read_to_string(path).unwrap()
}

/// A desk with an `envoy.yaml`, and with a `farebox.yaml` that needs a login from elsewhere.
fn desk(envoy: &str) -> Desk {
    let source = GOOD.lines().find(|line| line.starts_with("data:")).unwrap();
    let farebox = GOOD.replace(source, "") + "  currency: CNY\n";
    let desk = Desk::with(&farebox.replace("payment: 0.0020", "payment: 0.0020, asset: 0.001"));
    fs::write(desk.directory.path().join("envoy.yaml"), envoy).unwrap();
    desk
}

fn run(desk: &Desk, words: &[&str]) -> Run {
    desk.run(words, &[])
}

#[test]
fn the_shipped_configurations_have_nothing_to_mend() {
    for name in ["envoy.yaml", "envoy-jwt.yaml"] {
        let run = run(&desk(&shipped(name)), &["lint", "--envoy", "envoy.yaml"]);
        let told = (run.code, run.stdout.as_str(), run.stderr.as_str());
        assert_eq!(told, (Some(0), "envoy.yaml: nothing to mend\n", ""), "{name}");
    }
}

/// The reference with a rule that cannot be read, a service that nobody knows, and a header that nobody sets.
fn mistaken() -> String {
    shipped("envoy.yaml")
        .replace("price: \"0.002\"", "price: 2")
        .replace("service: passport }", "service: pasport }")
        .replace("# farebox-lint: allow identity-from-client", "#")
}

#[test]
fn findings_say_where_what_and_how_to_go_on_and_end_with_exit_code_1() {
    let run = run(&desk(&mistaken()), &["lint", "--envoy", "envoy.yaml"]);
    assert_eq!(run.code, Some(1));
    assert_eq!(
        run.stderr,
        "farebox: envoy.yaml has 2 errors; each finding says where and what to do\n"
    );
    insta::assert_snapshot!(run.stdout, @r#"
    envoy.yaml:144:41: warning: no filter in front sets the header x-user-id: whoever reaches listener ingress can have any account pay [identity-from-client]
        put a filter that authenticates in front and have it set the header, or take a claim (envoy/envoy-jwt.yaml)
    envoy.yaml:147:76: error: rules[0].price is 2: the filter refuses the whole configuration [plugin-configuration]
        write the price as a decimal string such as "0.002"
    envoy.yaml:149:33: error: farebox.yaml has neither a price nor free units for the service pasport: its calls are refused with 403, code 190205 [unknown-service]
        write one of asset, passport, payment, or add pasport to billing.prices
    envoy.yaml: 2 errors, 1 warning
    "#);
}

#[test]
fn machines_get_the_same_as_json() {
    let run = run(&desk(&mistaken()), &["lint", "--json", "--envoy", "envoy.yaml"]);
    assert_eq!(run.code, Some(1));
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let first = &report["findings"][0];
    assert_eq!(first["file"], "envoy.yaml");
    assert_eq!(first["severity"], "warning");
    assert_eq!(first["rule"], "identity-from-client");
    assert!(first["line"].is_u64() && first["column"].is_u64(), "{first}");
    assert_eq!(report["findings"].as_array().unwrap().len(), 3);
}

#[test]
fn without_a_configuration_of_the_sidecar_services_are_not_checked_and_that_is_said() {
    let desk = desk(&shipped("envoy.yaml"));
    fs::remove_file(desk.directory.path().join("farebox.yaml")).unwrap();
    let lint = run(&desk, &["lint", "--envoy", "envoy.yaml"]);
    assert_eq!((lint.code, lint.stderr.as_str()), (Some(0), ""));
    assert!(lint.stdout.starts_with("note: no farebox.yaml was read"), "{}", lint.stdout);
    let words = ["explain-route", "--envoy", "envoy.yaml", "GET", "/v1/passport/x"];
    let explained = run(&desk, &words);
    assert_eq!((explained.code, explained.stderr.as_str()), (Some(0), ""));
    assert!(
        explained.stdout.contains("price         not known here per unit"),
        "{}",
        explained.stdout
    );
    // One that was named must be there.
    let named = run(&desk, &["lint", "--envoy", "envoy.yaml", "--config", "other.yaml"]);
    assert_eq!((named.code, named.stdout.as_str()), (Some(64), ""));
    assert!(named.stderr.starts_with("farebox: cannot read other.yaml: "), "{}", named.stderr);
}

#[test]
fn a_route_is_explained_from_listener_to_refusals() {
    let words = [
        "explain-route",
        "--envoy",
        "envoy.yaml",
        "POST",
        "/v1/asset/./report?day=1",
        "-H",
        "x-user-id: ada",
    ];
    let run = run(&desk(&shipped("envoy.yaml")), &words);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!(run.stdout, @"
    request   POST http://localhost/v1/asset/./report?day=1
    listener  ingress
    path      /v1/asset/report?day=1 (normalize_path on, merge_slashes on, escaped slashes redirected)

    virtual host  farebox (envoy.yaml:58:23)
    route         asset_report (envoy.yaml:75:27)
    filters       farebox, envoy.filters.http.router
    rule          prefix: /v1/asset/ (envoy.yaml:150:33); the route's metadata gives units (envoy.yaml:78:67)
    service       asset
    units         5
    price         0.001 per unit: billing.prices of farebox.yaml; the price book in the database leads: `farebox prices show`
    cost          0.005 for the call
    mode          lease: from units that are set aside for this gateway
    charge on     request: also when the upstream fails
    sidecar away  deny: refused while the sidecar is away and no unit is left
    who pays      1. header x-user-id (no filter in front sets it: whoever reaches the listener can)
                  here: ada
    then          to cluster upstream, timeout 60s

      code  HTTP  refused when
    100101   401  nobody to charge is named
    100001   400  the identity occurs twice or can be no account
    190102   402  free units and money do not suffice
    190104   403  an operator froze the account
    100202   503  the sidecar does not answer in time
    100303   503  too many calls wait at the gateway
    ");
}

#[test]
fn a_claim_is_explained_with_the_filter_that_verifies_it() {
    let words =
        ["explain-route", "--envoy", "envoy.yaml", "GET", "https://api.example/v1/payment/x"];
    let run = run(&desk(&shipped("envoy-jwt.yaml")), &words);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!(run.stdout, @"
    request   GET https://api.example/v1/payment/x
    listener  ingress
    path      /v1/payment/x (normalize_path on, merge_slashes on, escaped slashes redirected)

    virtual host  farebox (envoy.yaml:46:23)
    route         payment (envoy.yaml:56:27)
    filters       envoy.filters.http.jwt_authn, farebox, envoy.filters.http.router
    rule          route: payment (envoy.yaml:136:33)
    service       payment
    units         1
    price         0.002 per unit: the rule's own
    cost          0.002 for the call
    mode          lease: from units that are set aside for this gateway
    charge on     success: units come back when the upstream fails or the client leaves
    sidecar away  deny: refused while the sidecar is away and no unit is left
    who pays      1. claim sub of jwt_payload (verified by envoy.filters.http.jwt_authn in front of it)
                  a caller whom none of them names gets 401 (code 100101)
    then          to cluster upstream, timeout 60s

      code  HTTP  refused when
    100101   401  nobody to charge is named
    100001   400  the identity occurs twice or can be no account
    190102   402  free units and money do not suffice
    190104   403  an operator froze the account
    100202   503  the sidecar does not answer in time
    100303   503  too many calls wait at the gateway
    ");
}

#[test]
fn what_is_no_configuration_of_envoy_is_exit_code_64_and_one_line() {
    let desk = desk("billing: {}\n");
    for (words, says) in [
        (&["lint", "--envoy", "envoy.yaml"][..], "envoy.yaml is no configuration of Envoy: "),
        (&["explain-route", "--envoy", "envoy.yaml", "GET", "/"], "envoy.yaml is no configuration"),
        (&["lint", "--envoy", "none.yaml"], "cannot read none.yaml: No such file"),
        (
            &["explain-route", "--envoy", "envoy.yaml", "/x"],
            "is no method; write for instance: GET",
        ),
        (&["lint"], "--envoy <FILE>"),
    ] {
        let run = run(&desk, words);
        assert_eq!((run.code, run.stdout.as_str()), (Some(64), ""), "{words:?}");
        assert!(run.stderr.contains(says), "{words:?}: {}", run.stderr);
    }
}

#[test]
fn a_configuration_may_come_through_a_pipe() {
    let desk = desk("");
    let mut command = Command::new(env!("CARGO_BIN_EXE_farebox"));
    command.args(["lint", "--envoy", "-"]).current_dir(desk.directory.path()).env_clear();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(shipped("envoy-jwt.yaml").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "<stdin>: nothing to mend\n");
    assert_eq!(output.status.code(), Some(0));
}
