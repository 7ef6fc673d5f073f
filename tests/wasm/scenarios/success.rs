//! `charge_on: success`: units are charged when a call ends well, and come back when it does not.

use std::cell::RefCell;
use std::rc::Rc;

use farebox_wasm_host::{EndOrder, Request, Stream};

use crate::gateway::{Gateway, at, configuration, settings, sidecar};

fn payment(gateway: &Gateway) -> Stream {
    let stream = gateway.vms[0].request(at("/v1/payment/1", "rich"));
    gateway.answer_all();
    assert!(stream.is_forwarded());
    stream
}

#[test]
fn a_call_is_charged_by_how_it_ends() {
    type End = fn(&Stream);
    let endings: [(&str, End, u64); 7] = [
        ("200", |stream| stream.complete(200), 1),
        ("404 is an answer", |stream| stream.complete(404), 1),
        ("503", |stream| stream.complete(503), 0),
        ("500", |stream| stream.complete(500), 0),
        ("the client leaves before the response", Stream::reset, 0),
        (
            "the client leaves during the response",
            |stream| {
                stream.respond(200, &[]);
                stream.reset();
            },
            0,
        ),
        (
            "the upstream breaks off",
            |stream| {
                stream.respond(200, &[]);
                stream.reset_by_upstream();
            },
            0,
        ),
    ];
    for end_order in [EndOrder::LogThenDone, EndOrder::DoneThenLog] {
        for (name, end, charged) in endings {
            let mut settings = settings(&configuration(), 1);
            settings.end_order = end_order;
            let mut sidecar = sidecar();
            sidecar.credit("rich", "1");
            let gateway = Gateway::with(1, &settings, Rc::new(RefCell::new(sidecar)));
            let stream = payment(&gateway);
            gateway.pass(1_000);
            assert_eq!(
                gateway.charged("rich"),
                0,
                "{name}: nothing is charged while the call runs"
            );
            end(&stream);
            stream.finish();
            gateway.settle_and_check("rich", charged);
        }
    }
}

#[test]
fn a_call_that_runs_longer_than_its_lease_is_charged_once() {
    let gateway = Gateway::new(2);
    let long = payment(&gateway);
    gateway.pass(35_000);
    assert_eq!(
        gateway.sidecar.borrow().open_leases("rich").len(),
        1,
        "a running call keeps its lease"
    );
    long.complete(200);
    gateway.settle_and_check("rich", 1);
}

#[test]
fn a_call_that_outlives_an_outage_is_charged_once_although_its_lease_is_gone() {
    let gateway = Gateway::new(1);
    let long = payment(&gateway);
    gateway.pass(500);
    gateway.pass_silently(30_000);
    for call in gateway.host.take_callouts() {
        call.answer(farebox_wasm_host::CalloutAnswer::timeout());
    }
    let now = u64::try_from(gateway.host.now().as_millis()).unwrap();
    gateway.sidecar.borrow_mut().reclaim(now);
    assert!(gateway.sidecar.borrow().open_leases("rich").is_empty());
    long.complete(200);
    gateway.settle_and_check("rich", 1);
}

#[test]
fn new_calls_are_served_although_the_lease_ran_out_under_a_running_one() {
    let gateway = Gateway::new(1);
    let long = payment(&gateway);
    // The sidecar is away for longer than the lease stands, but not so long that it takes the lease back.
    gateway.pass_with(11_000, |gateway| {
        for call in gateway.host.take_callouts() {
            call.answer(farebox_wasm_host::CalloutAnswer::timeout());
        }
    });
    gateway.pass(1_000);
    let asked = gateway.sidecar.borrow().requests().len();
    let next = gateway.serve(0, at("/v1/payment/1", "rich"));
    assert!(next.is_forwarded(), "{:?}", next.state());
    let asked = gateway.sidecar.borrow().requests().len() - asked;
    assert!(asked <= 2, "{asked} questions for one call");
    long.complete(200);
    gateway.settle_and_check("rich", 2);
}

#[test]
fn calls_that_ran_in_a_worker_that_died_are_not_charged_and_their_units_come_home() {
    let mut gateway = Gateway::new(2);
    let long = payment(&gateway);
    gateway.pass(500);
    drop(long);
    // The worker is gone without a log line for its streams, as after a trap.
    gateway.vms.remove(0);
    assert!(gateway.serve(0, at("/v1/payment/1", "rich")).is_forwarded());
    gateway.pass(12_000);
    gateway.settle_and_check("rich", 1);
}

#[test]
fn many_calls_run_at_once_and_end_in_any_order() {
    let gateway = Gateway::new(2);
    let streams: Vec<Stream> =
        (0..40).map(|call| gateway.vms[call % 2].request(at("/v1/payment/1", "rich"))).collect();
    gateway.answer_all();
    gateway.pass(500);
    for (index, stream) in streams.iter().enumerate().rev() {
        stream.complete(if index % 4 == 0 { 503 } else { 200 });
    }
    gateway.settle_and_check("rich", 30);
}

#[test]
fn a_grpc_call_is_judged_by_its_own_status() {
    for (status, charged) in [("0", 1), ("5", 1), ("14", 0), ("13", 0)] {
        let gateway = Gateway::new(1);
        let request = Request::grpc("/v1/payment/Pay").header("x-user-id", "rich");
        let stream = gateway.vms[0].request(request);
        gateway.answer_all();
        stream.respond(200, &[("content-type", "application/grpc"), ("grpc-status", status)]);
        stream.finish();
        gateway.settle_and_check("rich", charged);
    }
}
