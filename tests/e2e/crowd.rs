//! One user with very many calls at once, all of them held open by the service: whoever can be paid is served, and paid once.

use std::env;
use std::time::{Duration, Instant};

use farebox_core::money::Nanos;
use farebox_tests::child::Child;
use farebox_tests::wait::INTERVAL;
use farebox_tests::{Client, Gateway, Plan, Stack, Tally, eventually, run};
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{plugin_with_rules, settled, shared};

/// How many calls there are, unless `FAREBOX_TEST_STREAMS` says so: 100000 takes some minutes, and some GB.
const STREAMS: usize = 4_000;

/// Calls that may be on their way to the service at once.
const ARRIVING: usize = 2_000;

/// Calls on one HTTP/2 connection, from the callers to the gateway and from there to the service.
const PER_CONNECTION: usize = 500;
const PER_UPSTREAM_CONNECTION: usize = 200;

/// The price of a call.
const PRICE: Nanos = Nanos::new(1_000_000);

/// Two kinds of routes: every call is charged, or those that succeed.
const PATHS: [&str; 2] = ["/coin/hold?name=crowd", "/success/hold?name=crowd"];

fn plan() -> Plan {
    let mut plugin = plugin_with_rules(&[
        json!({ "prefix": "/coin/", "service": "coin" }),
        json!({ "prefix": "/success/", "service": "coin", "charge_on": "success" }),
        json!({ "prefix": "/strict/", "service": "coin", "mode": "strict" }),
    ]);
    plugin["idle_return"] = json!("1s");
    Plan::reference().plugin(plugin).prices(&[("coin", "0.001")]).free_quotas(&[]).workers(2)
}

/// A gateway that lets so many calls through, for as long as they take.
async fn wide_gateway(stack: &Stack, streams: usize) -> Gateway {
    let most = 2 * streams;
    let limits = json!({ "thresholds": [{
        "max_connections": most, "max_pending_requests": most, "max_requests": most,
    }]});
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let protocol = json!({ options: {
        "@type": format!("type.googleapis.com/{options}"),
        "use_downstream_protocol_config": {
            "http_protocol_options": {},
            "http2_protocol_options": { "max_concurrent_streams": PER_UPSTREAM_CONNECTION },
        },
    }});
    let lines =
        format!("typed_extension_protocol_options: {protocol}\n      circuit_breakers: {limits}");
    let routes = json!([{
        "match": { "prefix": "/" }, "route": { "cluster": "upstream", "timeout": "0s" },
    }]);
    let template = stack.template.clone().set("node_id", "edge-wide");
    let template = template.and_then(|template| template.set_block("upstream_limits", &lines));
    let template =
        template.and_then(|template| template.set_block("routes", &format!("routes: {routes}")));
    let gateway = Gateway::start(stack.folder(), "edge-wide", &template.unwrap(), 2).await;
    gateway.unwrap_or_else(|err| panic!("{err}"))
}

/// A gateway that may ask the sidecar little at once, and that answers one of its routes itself.
async fn narrow_gateway(stack: &Stack) -> Gateway {
    let limits = json!({ "thresholds": [{ "max_pending_requests": 20, "max_requests": 20 }]});
    let routes = json!([
        { "match": { "prefix": "/coin/direct" }, "direct_response": { "status": 200 } },
        { "match": { "prefix": "/" }, "route": { "cluster": "upstream", "timeout": "60s" } },
    ]);
    let limits = format!("circuit_breakers: {limits}");
    let template = stack.template.clone().set("node_id", "edge-narrow");
    let template = template.and_then(|template| template.set_block("sidecar_limits", &limits));
    let template =
        template.and_then(|template| template.set_block("routes", &format!("routes: {routes}")));
    let gateway = Gateway::start(stack.folder(), "edge-narrow", &template.unwrap(), 1).await;
    gateway.unwrap_or_else(|err| panic!("{err}"))
}

/// Envoy answers what is asked of it on the spot, in the middle of the filter's work: calls that go on, and messages for
/// which there is no room. What the one entails is done within the other, so that the stack would not last.
#[test]
fn a_crowd_that_is_answered_on_the_spot_leaves_the_worker_alive() {
    run(async {
        let stack = shared().await;
        let gateway = narrow_gateway(stack).await;
        for (user, path) in [("on-the-spot", "/coin/direct"), ("no-room", "/strict/x")] {
            stack.credit(user, "10");
            let client = Client::http2(gateway.addr());
            let call = |client: &Client, _| client.get(path).user(user);
            let tally = client.storm(1_000, 1_000, call).await;
            println!("{path}: {tally}");
            assert_eq!(tally.of(200) + tally.of(503), 1_000, "{tally}");
            let charged = u64::try_from(tally.of(200)).unwrap();
            let spent = || {
                Nanos::new(10_000_000_000).checked_sub(stack.account(user).balance.parse().unwrap())
            };
            let is_exact =
                || spent() == Some(Nanos::new(i64::try_from(charged).unwrap() * PRICE.get()));
            eventually!(is_exact(), "{user}: {tally}, {:?}", stack.account(user));
        }
        let log = gateway.envoy.log();
        assert!(!log.contains("proxy_on_"), "a callback of the filter failed: {log}");
        stack.invariants();
    });
}

/// The crowd's calls, on as many connections as they need; each ends when the service is told. Connections come one after
/// the other, so that what is tried is how many calls can be open, not how many can arrive in a second.
async fn crowd(stack: &Stack, gateway: &Gateway, streams: usize) -> Vec<JoinHandle<Tally>> {
    let (paid, patience) = (paid(streams), patience(streams));
    let mut connections = Vec::new();
    for first in (0..streams).step_by(PER_CONNECTION) {
        let client = Client::http2(gateway.addr());
        let count = PER_CONNECTION.min(streams - first);
        connections.push(tokio::spawn(async move {
            let call = |client: &Client, number: usize| {
                client.get(PATHS[number % PATHS.len()]).user("crowd").patience(3 * patience)
            };
            client.storm(count, count, call).await
        }));
        let most = u64::try_from((first + count).saturating_sub(ARRIVING).min(paid)).unwrap();
        let arrived = async || most <= stack.upstream.served("crowd");
        until(patience, "the calls so far are served", arrived).await;
    }
    connections
}

/// How many of so many calls the account pays for.
fn paid(streams: usize) -> usize {
    streams - streams / 10
}

/// How long all of them may take to arrive, or to end.
fn patience(streams: usize) -> Duration {
    Duration::from_secs(60) + Duration::from_millis(5) * u32::try_from(streams).unwrap()
}

/// Waits until it is so, for as long as a crowd may take.
async fn until(patience: Duration, what: &str, is_so: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < patience, "not within {patience:?}: {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}

fn memory(what: &str, stack: &Stack, gateway: &Gateway) {
    let mib = |process: &Child| process.resident() / (1 << 20);
    let (envoy, sidecar) = (mib(gateway.envoy.process()), mib(stack.sidecar.process()));
    println!("{what}: Envoy has {envoy} MiB, the sidecar {sidecar} MiB");
}

#[test]
fn a_crowd_of_one_user_is_served_to_its_last_unit_while_all_calls_are_open() {
    run(async {
        let streams = env::var("FAREBOX_TEST_STREAMS").ok();
        let streams = streams.map_or(STREAMS, |count| count.parse().expect("a whole number"));
        let (paid, patience) = (paid(streams), patience(streams));
        let stack = Stack::start(plan()).await.unwrap_or_else(|err| panic!("{err}"));
        let gateway = wide_gateway(&stack, streams).await;
        let (funds, units) =
            (PRICE.get() * i64::try_from(paid).unwrap(), u64::try_from(paid).unwrap());
        stack.credit("crowd", &Nanos::new(funds).to_string());
        stack.credit("neighbour", "1");
        memory("before", &stack, &gateway);

        let started = Instant::now();
        let calls = crowd(&stack, &gateway, streams).await;
        let all_open = async || stack.upstream.served("crowd") == units;
        until(patience, "whoever can be paid is served", all_open).await;
        println!("{paid} of {streams} calls are open after {:?}", started.elapsed());
        memory("open", &stack, &gateway);
        for path in ["/coin/x", "/success/x", "/strict/x"] {
            let other = gateway.client().get(path).user("neighbour").send().await;
            assert_eq!(other.status, 200, "{}", other.body);
            let crowd = gateway.client().get(path).user("crowd").send().await;
            assert!([402, 503].contains(&crowd.status.as_u16()), "{}", crowd.body);
        }

        stack.upstream.finish("crowd");
        let ended = Instant::now();
        let tallies = timeout(patience, try_join_all(calls)).await.expect("all calls end").unwrap();
        let tally = tallies.into_iter().fold(Tally::default(), Tally::plus);
        println!("{tally} after another {:?}", ended.elapsed());
        assert_eq!((tally.of(200), tally.of(402)), (paid, streams - paid), "{tally}");
        settled(&stack, "crowd", units).await;
        eventually!(stack.account("crowd").held == "0", "{:?}", stack.account("crowd"));
        assert_eq!(stack.account("crowd").balance, "0");
        assert_eq!(stack.upstream.served("crowd"), units, "nobody was served later");
        let lent = async || gateway.envoy.stat("wasmcustom.farebox_lent_units").await;
        eventually!(lent().await == 0, "the neighbour's units are given back");
        settled(&stack, "neighbour", 3).await;
        memory("after", &stack, &gateway);
    });
}
