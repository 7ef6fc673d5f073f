//! The trace context of a call goes with the message that is sent for it, and with no other.

use farebox_core::call::{DEDUCT_PATH, REFUND_PATH};
use farebox_core::wire::SYNC_PATH;
use farebox_wasm_host::{Callout, CalloutAnswer, Request};

use crate::gateway::{Gateway, asset, at};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-01";
const STATE: &str = "rojo=00f067aa0ba902b7";

fn traced(request: Request, parent: &str) -> Request {
    request.header("traceparent", parent).header("tracestate", STATE)
}

fn trace(call: &Callout) -> (Option<&str>, Option<&str>) {
    (call.headers().get("traceparent"), call.headers().get("tracestate"))
}

/// The only message that was sent, which goes to this path.
fn only(gateway: &Gateway, path: &str) -> Callout {
    let mut calls = gateway.host.take_callouts();
    assert_eq!(calls.len(), 1);
    let call = calls.remove(0);
    assert_eq!(call.headers().get(":path"), Some(path));
    call
}

#[test]
fn a_question_belongs_to_the_trace_of_the_first_call_that_waits() {
    let gateway = Gateway::new(1);
    let plain = gateway.vms[0].request(asset("poor"));
    let question = only(&gateway, SYNC_PATH);
    assert_eq!(trace(&question), (None, None));
    question.answer(gateway.reply_to(&question));
    let first = gateway.vms[0].request(traced(asset("rich"), PARENT));
    let question = only(&gateway, SYNC_PATH);
    assert_eq!(trace(&question), (Some(PARENT), Some(STATE)));
    // Calls that come meanwhile wait for the next question.
    let rest: Vec<_> = [PARENT, OTHER]
        .map(|parent| gateway.vms[0].request(traced(at("/v1/heavy/1", "rich"), parent)))
        .into();
    question.answer(gateway.reply_to(&question));
    for call in gateway.host.take_callouts() {
        call.answer(gateway.reply_to(&call));
    }
    assert!(first.is_forwarded() && rest.iter().all(|stream| stream.is_forwarded()));
    assert!(plain.is_settled());
}

#[test]
fn a_strict_call_takes_its_trace_along_also_when_it_is_sent_again_and_its_undo_does_not() {
    let gateway = Gateway::new(1);
    let stream = gateway.vms[0].request(traced(at("/strict/1", "rich"), PARENT));
    let first = only(&gateway, DEDUCT_PATH);
    assert_eq!(trace(&first), (Some(PARENT), Some(STATE)));
    first.answer(CalloutAnswer::Reset);
    let again = only(&gateway, DEDUCT_PATH);
    assert_eq!(trace(&again), (Some(PARENT), Some(STATE)));
    again.answer(CalloutAnswer::Reset);
    assert_eq!(stream.status(), Some(503));
    let undo = only(&gateway, REFUND_PATH);
    assert_eq!(trace(&undo), (None, None));
}

#[test]
fn a_malformed_context_is_not_handed_on() {
    let gateway = Gateway::new(1);
    for parent in ["", "1", &PARENT[..54], &format!("{PARENT}\r\nauthorization: Bearer x")] {
        let stream = gateway.vms[0].request(traced(at("/strict/1", "rich"), parent));
        let call = only(&gateway, DEDUCT_PATH);
        assert_eq!(trace(&call), (None, None), "{parent:?}");
        assert_eq!(call.headers().values("authorization").count(), 1);
        call.answer(gateway.reply_to(&call));
        assert!(stream.is_forwarded(), "a context is no reason to refuse");
    }
    let long = "a".repeat(513);
    let request = at("/strict/1", "rich").header("traceparent", PARENT).header("tracestate", long);
    let _waits = gateway.vms[0].request(request);
    assert_eq!(trace(&only(&gateway, DEDUCT_PATH)), (Some(PARENT), None));
}

#[test]
fn what_the_leader_reports_by_its_clock_is_of_no_trace() {
    let gateway = Gateway::new(1);
    let stream = gateway.vms[0].request(traced(asset("rich"), PARENT));
    let question = only(&gateway, SYNC_PATH);
    question.answer(gateway.reply_to(&question));
    stream.complete(200);
    let drawn = gateway.vms[0].request(traced(asset("rich"), PARENT));
    drawn.complete(200);
    gateway.host.advance(std::time::Duration::from_secs(2));
    gateway.vms[0].tick();
    assert_eq!(trace(&only(&gateway, SYNC_PATH)), (None, None));
}

#[test]
fn a_call_that_draws_makes_no_host_call_for_its_trace() {
    let gateway = Gateway::new(1);
    let stream = gateway.vms[0].request(asset("rich"));
    let question = only(&gateway, SYNC_PATH);
    question.answer(gateway.reply_to(&question));
    stream.complete(200);
    gateway.vms[0].request(asset("rich")).complete(200);
    let made = |request: Request| {
        gateway.vms[0].take_host_calls();
        let stream = gateway.vms[0].request(request);
        assert!(stream.is_forwarded());
        let made = gateway.vms[0].take_host_calls();
        stream.complete(200);
        made
    };
    let plain = made(asset("rich"));
    assert_eq!(made(traced(asset("rich"), PARENT)), plain);
    assert_eq!(
        plain,
        [
            "proxy_get_header_map_pairs",
            "proxy_get_property",
            "proxy_get_property",
            "proxy_get_shared_data",
            "proxy_set_shared_data",
            "proxy_increment_metric",
        ]
    );
}
