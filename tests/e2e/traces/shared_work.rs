//! What the sidecar does with spans when many requests share its work, and when nobody receives them.

use farebox_core::call::DEDUCT_PATH;
use farebox_tests::cut::How;
use farebox_tests::{Answer, Collector, Plan, Stack, eventually, port, run};
use futures_util::future::join_all;
use serde_json::json;

use super::{arrived, parent, trace_id};

/// A stack without a gateway, whose sidecar keeps this part of the traces that begin in it.
async fn sidecar(collector: std::net::SocketAddr, sample_ratio: &str) -> Stack {
    let plan = Plan::reference().without_gateway().with_cut().prices(&[("coin", "0.001")]);
    let stack = Stack::start(plan.traces(collector, sample_ratio)).await;
    let stack = stack.unwrap_or_else(|err| panic!("{err}"));
    stack.credit("ada", "10");
    stack
}

/// A deduct, whose sender may stand in a trace.
async fn deduct(stack: &Stack, key: &str, trace: Option<String>) -> Answer {
    let request =
        json!({ "idempotency_key": key, "user_id": "ada", "service": "coin", "count": 1 });
    let call = stack.sidecar.internal().ask(DEDUCT_PATH, &request);
    match trace {
        Some(trace) => call.header("traceparent", &trace).send().await,
        None => call.send().await,
    }
}

#[test]
fn requests_that_share_a_transaction_are_linked_with_it_and_it_with_them() {
    run(async {
        let collector = Collector::start().await.unwrap_or_else(|err| panic!("{err}"));
        let stack = sidecar(collector.addr(), "0").await;
        stack.cut.arm_for(How::Hold, "billing_record");
        let first = deduct(&stack, "held", None);
        // The account has one turn at a time: these wait for the first one, and are decided together.
        let rest = async {
            eventually!(stack.cut.caught() == 1, "the first one is about to be committed");
            stack.cut.disarm();
            let rest = async {
                let traces =
                    [Some(parent(1, "01")), Some(parent(2, "01")), Some(parent(3, "00")), None];
                let keys = ["a", "b", "c", "d"];
                let calls =
                    keys.into_iter().zip(traces).map(|(key, trace)| deduct(&stack, key, trace));
                join_all(calls).await
            };
            let release = async {
                let waiting = async || stack.sidecar.metric("billing_deduct_queue").await;
                eventually!(waiting().await == 4, "four wait");
                stack.cut.release();
            };
            tokio::join!(rest, release).0
        };
        let (first, rest) = tokio::join!(first, rest);
        assert!(rest.iter().chain([&first]).all(|answer| answer.status == 200), "{rest:?}");

        let request = format!("POST {DEDUCT_PATH}");
        for number in [1, 2] {
            let spans = arrived(&collector, &trace_id(number), &[&request]).await;
            assert_eq!(
                spans.len(),
                1,
                "the shared work is in no single sender's trace: {spans:#?}"
            );
        }
        let turns = || collector.spans().into_iter().filter(|span| span.name == "turn");
        eventually!(turns().count() == 1, "{:#?}", collector.spans());
        let turn = turns().next().unwrap();
        assert_eq!((turn.parent_id.as_str(), turn.attribute("farebox.turn.requests")), ("", "4"));
        let mut links = turn.links.clone();
        links.sort();
        let senders = [1, 2].map(|number| {
            let span = collector.trace(&trace_id(number)).remove(0);
            assert_eq!(span.links, [(turn.trace_id.clone(), turn.span_id.clone())]);
            (span.trace_id, span.span_id)
        });
        assert_eq!(links, senders, "those that are kept");
        arrived(&collector, &turn.trace_id, &["transaction charge", "COMMIT"]).await;
        assert_eq!(collector.trace(&trace_id(3)), []);
        stack.invariants();
    });
}

#[test]
fn a_receiver_that_is_away_costs_its_spans_and_nothing_else() {
    run(async {
        let addr = port::free();
        let stack = sidecar(addr, "1").await;
        let spans = async |result: &str| {
            let series = format!("billing_trace_spans_total{{result=\"{result}\"}}");
            stack.sidecar.metric(&series).await
        };
        let said = |what: &str| stack.sidecar.log().matches(what).count();
        for number in 0..20 {
            assert_eq!(deduct(&stack, &format!("away-{number}"), None).await.status, 200);
        }
        eventually!(0 < spans("failed").await, "the receiver is away");
        let lost = spans("failed").await;
        assert_eq!(deduct(&stack, "away-again", None).await.status, 200);
        eventually!(lost < spans("failed").await, "it is still away");
        assert_eq!((said("spans are not received"), spans("sent").await), (1, 0));

        let collector = Collector::start_at(addr).await.unwrap_or_else(|err| panic!("{err}"));
        let back = async |number: usize| {
            assert_eq!(deduct(&stack, &format!("back-{number}"), None).await.status, 200);
            0 < spans("sent").await
        };
        let mut number = 0..;
        eventually!(back(number.next().unwrap_or_default()).await, "the receiver is back");
        assert_eq!((said("spans are not received"), said("spans are received again")), (1, 1));

        // What fails says so, in its trace and in the log.
        stack.database.kill();
        let answer = deduct(&stack, "broken", Some(parent(9, "01"))).await;
        assert_eq!(answer.status, 503, "{}", answer.body);
        // The last spans are sent before the process ends.
        stack.sidecar.stop();
        let spans = collector.trace(&trace_id(9));
        let request = super::one(&spans, &format!("POST {DEDUCT_PATH}"));
        assert_eq!((request.has_failed, request.attribute("error.type")), (true, "503"));
        assert_eq!(request.attribute("farebox.problem.code"), answer.code().to_string());
        let log = stack.sidecar.log();
        let line = log.lines().find(|line| line.contains(&trace_id(9)));
        assert!(line.is_some_and(|line| line.contains("span_id=")), "{log}");
    });
}
