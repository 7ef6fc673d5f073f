//! Units move between gateways: recalls, waiting calls, leases that nobody uses.

use std::cell::RefCell;
use std::rc::Rc;

use farebox_wasm_host::Stream;

use crate::gateway::{Gateway, asset, configuration, settings, sidecar};

/// Two processes with one sidecar; `some` has money for exactly 20 calls.
fn two_gateways(workers: usize) -> (Gateway, Gateway) {
    let mut sidecar = sidecar();
    sidecar.credit("some", "0.020");
    let sidecar = Rc::new(RefCell::new(sidecar));
    let gateway = |name: &str, seed| {
        let mut configuration = configuration();
        configuration["gateway"] = name.into();
        Gateway::with(workers, &settings(&configuration, seed), Rc::clone(&sidecar))
    };
    (gateway("edge-1", 1), gateway("edge-2", 2))
}

/// Lets time pass for both.
fn pass(gateways: &[&Gateway], milliseconds: u64) {
    for _ in 0..milliseconds.div_ceil(10) {
        for gateway in gateways {
            gateway.pass(10);
        }
    }
}

/// Draws until the lease of `holder` holds all that is left.
fn take_everything(holder: &Gateway) -> u64 {
    let mut served = 0;
    while "0.000".parse() != Ok(holder.sidecar.borrow().account("some").available()) {
        assert!(holder.serve(0, asset("some")).is_forwarded());
        served += 1;
        holder.pass(10);
    }
    served
}

#[test]
fn a_call_waits_until_the_gateway_that_holds_the_units_gives_them_back() {
    let (holder, other) = two_gateways(2);
    let served = take_everything(&holder);
    assert!(served < 20, "it holds more than it used");
    let waiting = other.vms[0].request(asset("some"));
    other.answer_all();
    assert!(waiting.is_paused(), "{:?}", waiting.state());
    pass(&[&holder, &other], 1_000);
    assert!(waiting.is_forwarded() && waiting.is_settled(), "{:?}", waiting.state());
    other.settle_and_check("some", 0_u64.max(served + 1));
}

#[test]
fn exactly_the_funded_calls_are_served_by_two_gateways_together() {
    let (first, second) = two_gateways(2);
    let mut streams: Vec<Stream> = Vec::new();
    for call in 0..30 {
        let gateway = if call % 2 == 0 { &first } else { &second };
        streams.push(gateway.vms[call % 4 / 2].request(asset("some")));
        pass(&[&first, &second], 200);
    }
    pass(&[&first, &second], 3_000);
    let served = streams.iter().filter(|stream| stream.is_forwarded()).count();
    assert_eq!(served, 20);
    assert!(streams.iter().all(Stream::is_settled));
    let refused = streams.iter().filter(|stream| stream.status() == Some(402)).count();
    assert_eq!(refused, 10, "{:?}", streams.iter().map(Stream::status).collect::<Vec<_>>());
    pass(&[&first, &second], 12_000);
    first.host.assert_no_faults();
    second.settle_and_check("some", 20);
}

#[test]
fn a_call_waits_for_held_units_no_longer_than_allowed() {
    let (holder, other) = two_gateways(1);
    let served = take_everything(&holder);
    let waiting = other.vms[0].request(asset("some"));
    // The holder is silent all the while.
    other.pass(1_900);
    assert!(waiting.is_paused(), "{:?}", waiting.state());
    other.pass(200);
    let answer = waiting.answer().expect("max_wait is over");
    assert_eq!((answer.status, answer.headers.get("retry-after")), (503, Some("1")));
    assert!(waiting.is_settled());
    pass(&[&holder, &other], 12_000);
    other.host.assert_no_faults();
    holder.settle_and_check("some", served);
}

#[test]
fn a_waiting_call_that_is_gone_is_not_served_when_the_units_come() {
    let (holder, other) = two_gateways(1);
    let served = take_everything(&holder);
    let waiting = other.vms[0].request(asset("some"));
    other.answer_all();
    waiting.reset();
    pass(&[&holder, &other], 12_000);
    other.host.assert_no_faults();
    holder.settle_and_check("some", served);
}

#[test]
fn a_recall_brings_unused_units_back_and_leaves_the_used_ones_charged() {
    let gateway = Gateway::new(2);
    for worker in [0, 1, 0] {
        gateway.serve(worker, asset("rich"));
    }
    let lease = gateway.sidecar.borrow().open_leases("rich")[0];
    assert!(3 < gateway.sidecar.borrow().granted("rich"));
    gateway.sidecar.borrow_mut().recall("rich");
    gateway.pass(1_000);
    assert_eq!(gateway.sidecar.borrow().outstanding(lease), 0);
    assert_eq!(gateway.charged("rich"), 3);
    assert!(gateway.serve(1, asset("rich")).is_forwarded(), "and it asks again when it needs to");
    gateway.settle_and_check("rich", 4);
}

#[test]
fn a_lease_that_nobody_uses_is_given_back_after_the_idle_time() {
    let gateway = Gateway::new(2);
    gateway.serve(0, asset("rich"));
    gateway.pass(4_500);
    assert_eq!(gateway.sidecar.borrow().open_leases("rich").len(), 1);
    gateway.pass(1_500);
    assert!(gateway.sidecar.borrow().open_leases("rich").is_empty());
    gateway.settle_and_check("rich", 1);
}

#[test]
fn a_lease_in_use_lives_on_beyond_its_time() {
    let gateway = Gateway::new(2);
    for second in 0..30 {
        assert!(gateway.serve(second % 2, asset("rich")).is_forwarded());
        gateway.pass(1_000);
    }
    gateway.settle_and_check("rich", 30);
}
