//! Traces: one connected tree from the client through Envoy and the sidecar to the database, on a real receiver of OTLP.

mod shared_work;

use farebox_core::call::DEDUCT_PATH;
use farebox_core::wire::SYNC_PATH;
use farebox_tests::collector::Span;
use farebox_tests::envoy::shows_its_span;
use farebox_tests::{Collector, Stack, eventually, run};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::plan;

/// The stack whose gateway keeps every trace, and whose sidecar begins none.
struct Traced {
    stack: Stack,
    collector: Collector,
}

async fn traced() -> &'static Traced {
    static TRACED: OnceCell<Traced> = OnceCell::const_new();
    let start = async || {
        let collector = Collector::start().await.unwrap_or_else(|err| panic!("{err}"));
        let stack = Stack::start(plan().traces(collector.addr(), "0")).await;
        Traced { stack: stack.unwrap_or_else(|err| panic!("{err}")), collector }
    };
    TRACED.get_or_init(start).await
}

/// A trace that a client has begun, by a number of one's own.
fn trace_id(number: u64) -> String {
    format!("{:032x}", 0xfa4e_b0c5_0000_0000 + number)
}

fn parent(number: u64, flags: &str) -> String {
    format!("00-{}-00f067aa0ba902b7-{flags}", trace_id(number))
}

const CLIENT_SPAN: &str = "00f067aa0ba902b7";

/// The span of this name, of which there must be one.
fn one<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("{name} is not among {spans:#?}"));
    assert!(found.next().is_none(), "several {name} in {spans:#?}");
    span
}

/// Waits for a trace with these spans in it.
async fn arrived(collector: &Collector, trace_id: &str, names: &[&str]) -> Vec<Span> {
    let is_there = |spans: &[Span], name: &str| spans.iter().any(|span| span.name == name);
    eventually!(
        names.iter().all(|name| is_there(&collector.trace(trace_id), name)),
        "{names:?} of {trace_id}: {:#?}",
        collector.trace(trace_id)
    );
    collector.trace(trace_id)
}

/// Envoy's span of the call, below the client's.
fn envoy(spans: &[Span]) -> &Span {
    let mut found = spans.iter().filter(|span| span.service == "edge");
    let span = found.next().unwrap_or_else(|| panic!("no span of Envoy's in {spans:#?}"));
    assert!(found.next().is_none(), "several of Envoy's in {spans:#?}");
    span
}

/// What the sidecar's span hangs under: Envoy's, where it shows it, or else the client's.
fn above(edge: &Span) -> &str {
    if shows_its_span().unwrap_or(false) { &edge.span_id } else { CLIENT_SPAN }
}

/// Nobody's name, key or money is in a span of the sidecar's.
fn assert_discreet(spans: &[Span], user: &str) {
    for span in spans.iter().filter(|span| span.service == "farebox") {
        let text = format!("{span:?}");
        assert!(!text.contains(user), "{text}");
    }
}

#[test]
fn a_strict_call_is_one_trace_from_the_client_to_the_database() {
    run(async {
        let Traced { stack, collector } = traced().await;
        stack.credit("traced-strict", "1");
        let call = stack.client().get("/strict/x").user("traced-strict");
        let answer = call.header("traceparent", &parent(1, "01")).send().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let request = format!("POST {DEDUCT_PATH}");
        let names = [&request, "turn", "transaction charge", "COMMIT", "INSERT billing_record"];
        arrived(collector, &trace_id(1), &names).await;
        eventually!(collector.trace(&trace_id(1)).iter().any(|span| span.service == "edge"));
        let spans = collector.trace(&trace_id(1));

        let (edge, request) = (envoy(&spans), one(&spans, &request));
        assert_eq!((edge.parent_id.as_str(), edge.kind.as_str()), (CLIENT_SPAN, "Server"));
        assert_eq!((request.parent_id.as_str(), request.kind.as_str()), (above(edge), "Server"));
        for (name, value) in [
            ("http.request.method", "POST"),
            ("http.route", DEDUCT_PATH),
            ("http.response.status_code", "200"),
            ("network.protocol.version", "2"),
            ("farebox.listener", "internal"),
        ] {
            assert_eq!(request.attribute(name), value, "{request:#?}");
        }
        let turn = one(&spans, "turn");
        assert_eq!((&turn.parent_id, turn.links.len()), (&request.span_id, 0));
        let charge = one(&spans, "transaction charge");
        assert_eq!(charge.parent_id, turn.span_id);
        assert_eq!(charge.attribute("farebox.transaction.attempts"), "1");
        let commit = one(&spans, "COMMIT");
        assert_eq!((&commit.parent_id, commit.kind.as_str()), (&charge.span_id, "Client"));
        assert_eq!(commit.attribute("db.system.name"), "mysql");
        let insert = one(&spans, "INSERT billing_record");
        assert_eq!(insert.attribute("db.collection.name"), "billing_record");
        assert!(spans.iter().all(|span| !span.has_failed), "{spans:#?}");
        assert_discreet(&spans, "traced-strict");
    });
}

#[test]
fn a_call_that_waits_for_its_lease_takes_the_question_into_its_trace_and_the_next_one_asks_nobody()
{
    run(async {
        let Traced { stack, collector } = traced().await;
        stack.credit("traced-lease", "1");
        let call = async |number| {
            let call = stack.client().get("/coin/x").user("traced-lease");
            let answer = call.header("traceparent", &parent(number, "01")).send().await;
            assert_eq!(answer.status, 200, "{}", answer.body);
        };
        call(10).await;
        let request = format!("POST {SYNC_PATH}");
        arrived(collector, &trace_id(10), &[&request, "transaction sync", "COMMIT"]).await;
        call(11).await;
        let edge = |number| collector.trace(&trace_id(number));
        eventually!(
            edge(10).iter().chain(&edge(11)).filter(|span| span.service == "edge").count() == 2
        );

        let spans = collector.trace(&trace_id(10));
        let (edge, request) = (envoy(&spans), one(&spans, &request));
        assert_eq!(
            (request.parent_id.as_str(), edge.parent_id.as_str()),
            (above(edge), CLIENT_SPAN)
        );
        assert_eq!(request.attribute("farebox.gateway.id"), "edge-1");
        assert_eq!(one(&spans, "transaction sync").parent_id, request.span_id);
        assert_discreet(&spans, "traced-lease");
        assert_eq!(collector.trace(&trace_id(11)).len(), 1, "drawn from the lease");
    });
}

#[test]
fn a_trace_that_envoy_begins_is_connected_as_well_where_envoy_shows_its_span() {
    if !shows_its_span().unwrap() {
        return;
    }
    run(async {
        let Traced { stack, collector } = traced().await;
        stack.credit("traced-here", "1");
        let answer = stack.client().get("/strict/x").user("traced-here").send().await;
        let sent =
            answer.json()["headers"]["traceparent"][0].as_str().unwrap_or_default().to_owned();
        let trace_id = sent.split('-').nth(1).unwrap_or_default().to_owned();
        let request = format!("POST {DEDUCT_PATH}");
        arrived(collector, &trace_id, &[&request, "turn"]).await;
        eventually!(collector.trace(&trace_id).iter().any(|span| span.service == "edge"));
        let spans = collector.trace(&trace_id);
        assert_eq!(one(&spans, &request).parent_id, envoy(&spans).span_id);
        assert_eq!(envoy(&spans).parent_id, "");
    });
}

#[test]
fn what_the_client_does_not_keep_nobody_keeps() {
    run(async {
        let Traced { stack, collector } = traced().await;
        stack.credit("untraced", "1");
        for (number, flags) in [(20, "00"), (21, "01")] {
            let call = stack.client().get("/strict/x").user("untraced");
            assert_eq!(call.header("traceparent", &parent(number, flags)).send().await.status, 200);
        }
        // The later one is here from both senders: so would be the earlier one.
        arrived(collector, &trace_id(21), &["turn"]).await;
        eventually!(collector.trace(&trace_id(21)).iter().any(|span| span.service == "edge"));
        assert_eq!(collector.trace(&trace_id(20)), []);
    });
}

#[test]
fn a_refusal_tells_its_code_and_is_no_failure() {
    run(async {
        let Traced { stack, collector } = traced().await;
        let call = stack.sidecar.internal().ask(
            DEDUCT_PATH,
            &json!({ "idempotency_key": "t30", "user_id": "penniless", "service": "coin", "count": 1 }),
        );
        let answer = call.header("traceparent", &parent(30, "01")).send().await;
        assert_eq!(answer.status, 402, "{}", answer.body);
        let request = format!("POST {DEDUCT_PATH}");
        let spans = arrived(collector, &trace_id(30), &[&request]).await;
        let request = one(&spans, &request);
        assert_eq!(request.attribute("farebox.problem.code"), "190102");
        assert_eq!(
            (request.attribute("http.response.status_code"), request.has_failed),
            ("402", false)
        );
        assert_eq!(request.parent_id, CLIENT_SPAN);
        assert_discreet(&spans, "penniless");
    });
}

#[test]
fn probes_and_paths_that_nothing_stands_at_leave_no_names_behind() {
    run(async {
        let Traced { stack, collector } = traced().await;
        let context = parent(40, "01");
        for path in ["/healthz", "/readyz", "/metrics"] {
            let call = stack.sidecar.admin().get(path).header("traceparent", &context);
            assert_eq!(call.send().await.status, 200);
        }
        let call = stack.sidecar.admin().get("/u/secret-name").header("traceparent", &context);
        assert_eq!(call.send().await.status, 404);
        let spans = arrived(collector, &trace_id(40), &["GET"]).await;
        assert_eq!(spans.len(), 1, "{spans:#?}");
        assert_discreet(&spans, "secret-name");
    });
}

#[test]
fn a_recharge_is_one_trace_with_the_call_of_the_payment_service() {
    run(async {
        let Traced { stack, collector } = traced().await;
        let call = stack.sidecar.client().post("/api/v1/billing/recharge").asserted("traced-payer");
        let call = call.header("traceparent", &parent(50, "01")).header("idempotency-key", "t50");
        let body = json!({ "amount": "10", "currency": "CNY", "payment_method": "alipay" });
        let answer = call.json(&body).send().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let rpc = "payment.v1.PaymentService/CreatePayment";
        let names = ["POST /api/v1/billing/recharge", rpc, "transaction recharge"];
        let spans = arrived(collector, &trace_id(50), &names).await;
        let (request, rpc) = (one(&spans, names[0]), one(&spans, rpc));
        assert_eq!((&rpc.parent_id, rpc.kind.as_str()), (&request.span_id, "Client"));
        assert_eq!(
            (rpc.attribute("rpc.method"), rpc.attribute("rpc.grpc.status_code")),
            ("CreatePayment", "0")
        );
        let told = format!("{}-{}-01", rpc.trace_id, rpc.span_id);
        eventually!(stack.payment.log().contains(&told), "the payment service knows: {told}");
        assert_discreet(&spans, "traced-payer");
    });
}
