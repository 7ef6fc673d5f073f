//! What is said where a file does not tell everything, and which chain and rule are taken.

use super::*;

/// A listener with one chain per entry: what it matches, and its routes.
fn listener(name: &str, chains: &[(&str, &str)]) -> String {
    let chains: String = chains
        .iter()
        .map(|(matches, routes)| {
            format!(
                "
    - filter_chain_match: {matches}
      filters:
      - name: hcm
        typed_config:
          '@type': t/x.HttpConnectionManager
          {routes}
          http_filters:
          - name: farebox
            typed_config:
              '@type': t/x.Wasm
              config:
                name: farebox
                configuration:
                  value:
                    sidecar: {{ cluster: c, token_env: T }}
                    identity: [{{ header: x-user-id }}, {{ jwt_claim: {{ payload: p }} }}]
                    rules:
                    - {{ prefix: /a/, service: a }}
                    - {{ prefix: /b/, service: b, units: 2, shadow: true }}
                    - {{ prefix: /free/, service: free }}
                    - {{ prefix: /unknown/, service: unknown, on_unreachable: grace(3) }}"
            )
        })
        .collect();
    format!("\n  - name: {name}\n    filter_chains:{chains}")
}

fn here(routes: &str) -> String {
    format!(
        "route_config: {{ virtual_hosts: [{{ name: v, domains: ['*'], routes: [{routes}] }}] }}"
    )
}

const ALL: &str = "{ name: all, match: { prefix: / }, route: { cluster: u } }";

fn asked(path: &str) -> Question {
    Question {
        method: "GET".to_owned(),
        scheme: "http",
        host: "api.example".to_owned(),
        path: path.to_owned(),
        headers: Vec::new(),
        listener: None,
    }
}

fn explained(text: &str, question: &Question) -> Result<Explanation, ExplainError> {
    let prices = BTreeMap::from([
        ("a".parse().unwrap(), Tariff::flat("0.001".parse().unwrap())),
        ("b".parse().unwrap(), Tariff::flat("0.25".parse().unwrap())),
    ]);
    let free_quotas = BTreeMap::from([("free".parse().unwrap(), 10)]);
    let book = Book { file: "farebox.yaml", prices: &prices, free_quotas: &free_quotas };
    let text = format!("static_resources:\n  listeners:{text}\n");
    let configuration = Configuration::parse("e.yaml", &text).unwrap();
    explain(&configuration, question, Some(book))
}

fn one(path: &str) -> Outcome {
    let text = listener("in", &[("{}", &here(ALL))]);
    let mut explanation = explained(&text, &asked(path)).unwrap();
    assert_eq!(explanation.outcomes.len(), 1);
    explanation.outcomes.remove(0)
}

fn charge(path: &str) -> Charge {
    match one(path).metering {
        Metering::Metered(charge) => *charge,
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn a_charge_tells_price_cost_and_what_may_come_instead() {
    let codes = |charge: &Charge| -> Vec<u32> {
        charge.refusals.iter().map(|refusal| refusal.code).collect()
    };
    let a = charge("/a/x");
    assert_eq!((a.price.as_deref(), a.cost.as_deref()), (Some("0.001"), Some("0.001")));
    assert_eq!(codes(&a), [100_101, 100_001, 190_102, 190_104, 100_202, 100_303]);
    let b = charge("/b/x");
    assert_eq!((b.units, b.cost.as_deref()), (2, Some("0.5")));
    assert_eq!(codes(&b), [0_u32; 0], "a route in shadow refuses nobody");
    assert!(b.payer.problem.unwrap().ends_with("it passes uncharged"));
    let free = charge("/free/x");
    assert_eq!(codes(&free)[2..4], [190_202, 190_205]);
    assert_eq!((free.price, free.free_units_per_month), (None, Some(10)));
    let unknown = charge("/unknown/x");
    assert!(unknown.price_from.starts_with("farebox.yaml does not know the service"));
    assert_eq!(unknown.on_unreachable, "grace(3)");
}

#[test]
fn the_payer_is_found_as_the_filter_finds_him() {
    let text = listener("in", &[("{}", &here(ALL))]);
    let payer = |headers: &[(&str, &str)]| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let question = Question { headers: headers.collect(), ..asked("/a/x") };
        let mut explanation = explained(&text, &question).unwrap();
        let Metering::Metered(charge) = explanation.outcomes.remove(0).metering else { panic!() };
        let Payer { sources, found, problem } = charge.payer;
        assert!(sources[0].contains("no filter in front sets it"), "{sources:?}");
        assert!(sources[1].contains("no jwt_authn in front leaves claims as p"), "{sources:?}");
        (found.unwrap_or_default(), problem.unwrap_or_default())
    };
    assert_eq!(payer(&[("x-user-id", "ada")]), ("ada".to_owned(), String::new()));
    assert_eq!(payer(&[]).1, "a caller whom none of them names gets 401 (code 100101)");
    let two = payer(&[("x-user-id", "ada"), ("x-user-id", "eve")]);
    assert_eq!(two.1, "a header that occurs twice gets 400 (code 100001)");
}

#[test]
fn what_a_file_cannot_tell_is_a_doubt_with_both_ends() {
    let canary = "{ name: canary, match: { prefix: /a/, runtime_fraction: { default_value: { numerator: 5 } } }, route: { cluster: u } }";
    let text = listener("in", &[("{}", &here(&format!("{canary}, {ALL}")))]);
    let explanation = explained(&text, &asked("/a/x")).unwrap();
    let told: Vec<(&str, &str)> = explanation
        .outcomes
        .iter()
        .map(|outcome| {
            (outcome.route.as_ref().unwrap().name.as_str(), outcome.when.as_deref().unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("canary", "the route takes it: it takes 5 of 100 calls"),
            ("all", "no route above takes it")
        ]
    );
}

#[test]
fn a_path_without_a_route_is_metered_all_the_same() {
    let text = listener("in", &[("{}", &here("{ name: b, match: { prefix: /b/ }, route: {} }"))]);
    let explanation = explained(&text, &asked("/a/x")).unwrap();
    let outcome = &explanation.outcomes[0];
    assert!(outcome.route.is_none());
    assert_eq!(outcome.action, "404: no route");
    assert!(matches!(outcome.metering, Metering::Metered(_)));
}

#[test]
fn the_chain_is_taken_by_server_name_and_the_listener_by_its_name() {
    let exact = "{ server_names: [api.example] }";
    let of = |name: &str| here(&ALL.replace("all", name));
    let (rest, suffix, own) = (of("rest"), of("suffix"), of("own"));
    let chains =
        [("{}", rest.as_str()), ("{ server_names: ['*.example'] }", &suffix), (exact, &own)];
    let text = listener("in", &chains) + &listener("admin", &[("{}", &of("admin"))]);
    let route = |host: &str, listener: Option<&str>| {
        let (host, listener) = (host.to_owned(), listener.map(str::to_owned));
        let explanation = explained(&text, &Question { host, listener, ..asked("/a/x") });
        let mut explanation = explanation.map_err(|err| err.to_string())?;
        let route = explanation.outcomes.remove(0).route.unwrap().name;
        Ok::<_, String>((route, explanation.notes))
    };
    assert_eq!(route("api.example", None).unwrap().0, "own");
    assert_eq!(route("www.example:8443", None).unwrap().0, "suffix");
    assert_eq!(route("other", None).unwrap().0, "rest");
    let notes = route("other", None).unwrap().1;
    assert_eq!(notes[0], "other HTTP listeners: admin; choose one with --listener");
    assert!(notes[1].starts_with("the listener has 3 filter chains; the one at line "));
    assert_eq!(route("other", Some("admin")).unwrap(), ("admin".to_owned(), Vec::new()));
    assert_eq!(
        route("other", Some("none")).unwrap_err(),
        "e.yaml has no HTTP listener \"none\"; write one of: in, admin"
    );
}

#[test]
fn what_cannot_be_answered_says_what_to_give_instead() {
    let elsewhere = listener("in", &[("{}", "rds: { route_config_name: r }")]);
    let err = explained(&elsewhere, &asked("/a/x")).unwrap_err().to_string();
    assert!(err.contains("come from a management server (RDS)"), "{err}");
    let err = explained(&elsewhere, &asked("a/x")).unwrap_err().to_string();
    assert_eq!(err, "a/x is no path; write it with a / in front, such as /v1/passport/hello");
    let err = explained(" []", &asked("/a/x")).unwrap_err().to_string();
    assert!(err.starts_with("e.yaml has no listener with an HTTP connection manager"), "{err}");
    let broken = listener("in", &[("{}", &here(ALL))]).replace("units: 2", "units: -2");
    let explanation = explained(&broken, &asked("/a/x")).unwrap();
    let Metering::Invalid { why } = &explanation.outcomes[0].metering else { panic!() };
    assert!(why.contains("rules[1].units is -2: write 0 to 2147483647"), "{why}");
}
