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

use crate::{plugin_with_rules, settled};

/// How many calls there are, unless `FAREBOX_TEST_STREAMS` says so: 100000 takes some minutes, and some GB.
const STREAMS: usize = 4_000;

/// How long all of them may take to arrive, or to end, for each thousand and in any case.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// Calls on one HTTP/2 connection, from the callers to the gateway and from there to the service.
const PER_CONNECTION: usize = 500;
const PER_UPSTREAM_CONNECTION: usize = 200;

/// The price of a call.
const PRICE: Nanos = Nanos::new(1_000_000);

/// Two kinds of routes: every call is charged, or those that succeed.
const PATHS: [&str; 2] = ["/coin/hold?name=crowd", "/success/hold?name=crowd"];

fn plan() -> Plan {
    let plugin = plugin_with_rules(&[
        json!({ "prefix": "/coin/", "service": "coin" }),
        json!({ "prefix": "/success/", "service": "coin", "charge_on": "success" }),
        json!({ "prefix": "/strict/", "service": "coin", "mode": "strict" }),
    ]);
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

/// The crowd's calls, on as many connections as they need; each ends when the service is told.
fn crowd(gateway: &Gateway, streams: usize, patience: Duration) -> Vec<JoinHandle<Tally>> {
    let firsts = (0..streams).step_by(PER_CONNECTION);
    let connection = |first: usize| {
        let client = Client::http2(gateway.addr());
        let count = PER_CONNECTION.min(streams - first);
        tokio::spawn(async move {
            let call = |client: &Client, number: usize| {
                client.get(PATHS[number % PATHS.len()]).user("crowd").patience(patience)
            };
            client.storm(count, count, call).await
        })
    };
    firsts.map(connection).collect()
}

/// Waits until it is so, for as long as a crowd may take.
async fn until(patience: Duration, what: &str, is_so: impl AsyncFn() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < patience, "not within {patience:?}: {what}");
        tokio::time::sleep(INTERVAL).await;
    }
    started.elapsed()
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
        let paid = streams - streams / 10;
        let patience = PATIENCE.1 + PATIENCE.0 * u32::try_from(streams / 1_000).unwrap();
        let stack = Stack::start(plan()).await.unwrap_or_else(|err| panic!("{err}"));
        let gateway = wide_gateway(&stack, streams).await;
        let (funds, units) =
            (PRICE.get() * i64::try_from(paid).unwrap(), u64::try_from(paid).unwrap());
        stack.credit("crowd", &Nanos::new(funds).to_string());
        stack.credit("neighbour", "1");
        memory("before", &stack, &gateway);

        let calls = crowd(&gateway, streams, 2 * patience);
        let all_open = async || stack.upstream.served("crowd") == units;
        let took = until(patience, "whoever can be paid is served", all_open).await;
        println!("{paid} of {streams} calls are open after {took:?}");
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
