//! Units move between gateways: recalls, waiting calls, leases that nobody uses.

use std::cell::RefCell;
use std::rc::Rc;

use farebox_wasm_host::{CalloutAnswer, Stream};

use crate::gateway::{Gateway, asset, at, configuration, settings, sidecar};

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

/// The first gateway serves one call and keeps what it was granted beyond that; the second one serves until nothing is
/// left and its next call has to wait. Gives that call and the number of those that were served.
fn one_waits_for_the_other(holder: &Gateway, other: &Gateway) -> (Stream, u64) {
    assert!(holder.serve(0, asset("some")).is_forwarded());
    for served in 1..20 {
        let stream = other.vms[0].request(asset("some"));
        other.answer_all();
        if stream.is_paused() {
            return (stream, served);
        }
        assert!(stream.is_forwarded(), "{:?}", stream.state());
    }
    panic!("the holder keeps nothing");
}

/// Lets all leases of both come home.
#[track_caller]
fn settle_both(gateways: [&Gateway; 2], account: &str, served: u64) {
    pass(&gateways, 12_000);
    for gateway in gateways {
        gateway.settle_and_check(account, served);
    }
}

#[test]
fn a_call_waits_until_the_gateway_that_holds_the_units_gives_them_back() {
    let (holder, other) = two_gateways(2);
    let (waiting, served) = one_waits_for_the_other(&holder, &other);
    pass(&[&holder, &other], 1_000);
    assert!(waiting.is_forwarded() && waiting.is_settled(), "{:?}", waiting.state());
    settle_both([&holder, &other], "some", served + 1);
}

#[test]
fn a_recall_reaches_a_gateway_that_is_busy_reporting() {
    let (holder, other) = two_gateways(2);
    holder.credit("rich", "100");
    let (waiting, served) = one_waits_for_the_other(&holder, &other);
    for _ in 0..20 {
        // The holder goes on to serve this account as well as others.
        holder.serve(0, asset("rich"));
        pass(&[&holder, &other], 50);
    }
    assert!(waiting.is_forwarded() && waiting.is_settled(), "{:?}", waiting.state());
    settle_both([&holder, &other], "some", served + 1);
}

#[test]
fn the_very_last_unit_moves_to_the_gateway_where_it_is_needed() {
    // The holder has not asked for anything for a while: nothing but its own restraint keeps it from taking the unit
    // back with the very message that returns it.
    for pause in [0, 4_000] {
        let mut sidecar = sidecar();
        sidecar.credit("some", "0.003");
        let sidecar = Rc::new(RefCell::new(sidecar));
        let [holder, other] = ["edge-1", "edge-2"].map(|name| {
            let mut configuration = configuration();
            configuration["gateway"] = name.into();
            configuration["idle_return"] = "1m".into();
            Gateway::with(1, &settings(&configuration, 1), Rc::clone(&sidecar))
        });
        assert!(holder.serve(0, asset("some")).is_forwarded());
        assert!(other.serve(0, asset("some")).is_forwarded());
        pass(&[&holder, &other], pause);
        let last = other.vms[0].request(asset("some"));
        // One message of the holder brings the recall and the next one the unit; the other asks again every 50 ms.
        pass(&[&holder, &other], 700);
        assert!(last.is_forwarded(), "after {pause} ms: {:?}", last.state());
        assert_eq!(holder.vms[0].request(asset("some")).status(), None);
        pass(&[&holder, &other], 2_500);
        assert_eq!(sidecar.borrow().charged("some"), 3);
    }
}

#[test]
fn a_process_with_waiting_calls_does_not_flood_the_sidecar() {
    let (holder, other) = two_gateways(2);
    let (waiting, served) = one_waits_for_the_other(&holder, &other);
    let asked = other.sidecar.borrow().requests().len();
    other.pass(1_000);
    let asked = other.sidecar.borrow().requests().len() - asked;
    assert!(waiting.is_paused());
    // Twenty repeated questions and five reports.
    assert!(asked <= 26, "{asked} messages in a second");
    waiting.reset();
    settle_both([&holder, &other], "some", served);
}

#[test]
fn an_account_that_has_used_everything_up_is_forgotten_and_an_idle_process_says_that_it_lives() {
    let gateway = Gateway::new(2);
    gateway.credit("some", "0.005");
    let served =
        (0..8).filter(|call| gateway.serve(call % 2, asset("some")).is_forwarded()).count();
    assert_eq!(served, 5);
    gateway.settle_and_check("some", 5);
    let asked = gateway.sidecar.borrow().requests().len();
    gateway.pass(30_000);
    let sidecar = gateway.sidecar.borrow();
    let said = &sidecar.requests()[asked..];
    // Leases stand for 10 s, so it has to be heard every 2.5 s.
    assert!((11..=13).contains(&said.len()), "an idle process only says that it lives: {said:?}");
    assert!(said.iter().all(|message| message.reports.is_empty() && message.wants.is_empty()));
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
    settle_both([&first, &second], "some", 20);
}

#[test]
fn a_call_waits_for_held_units_no_longer_than_allowed() {
    let (holder, other) = two_gateways(1);
    let (waiting, served) = one_waits_for_the_other(&holder, &other);
    // The holder is silent all the while.
    other.pass(1_900);
    assert!(waiting.is_paused(), "{:?}", waiting.state());
    other.pass(200);
    let answer = waiting.answer().expect("max_wait is over");
    assert_eq!((answer.status, answer.headers.get("retry-after")), (503, Some("1")));
    assert!(waiting.is_settled());
    settle_both([&holder, &other], "some", served);
}

#[test]
fn a_waiting_call_that_is_gone_is_not_served_when_the_units_come() {
    let (holder, other) = two_gateways(1);
    let (waiting, served) = one_waits_for_the_other(&holder, &other);
    waiting.reset();
    settle_both([&holder, &other], "some", served);
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

/// The sidecar grants what is asked for, and the gateway never hears of it.
fn lose_the_answer(gateway: &Gateway) {
    for call in gateway.host.take_callouts() {
        gateway.reply_to(&call);
        call.answer(CalloutAnswer::timeout());
    }
}

#[test]
fn a_lease_whose_grant_was_lost_goes_back_until_the_sidecar_has_heard_it() {
    let gateway = Gateway::new(2);
    gateway.credit("some", "0.002");
    gateway.vms[0].request(asset("some"));
    lose_the_answer(&gateway);
    gateway.pass(600);
    // Another call needs the units; meanwhile somebody has the account locked, so that nothing of it is taken in.
    gateway.sidecar.borrow_mut().lock("some");
    let other = gateway.vms[1].request(at("/v1/payment/1", "some"));
    gateway.pass(2_500);
    assert_eq!(other.status(), Some(503), "{:?}", other.state());
    assert_eq!(gateway.sidecar.borrow().open_leases("some").len(), 1);
    gateway.sidecar.borrow_mut().unlock("some");
    gateway.pass(220);
    assert!(gateway.sidecar.borrow().open_leases("some").is_empty(), "it was said again");
    gateway.settle_and_check("some", 0);
}

#[test]
fn units_whose_grant_was_lost_serve_the_next_call_though_there_are_no_others() {
    let gateway = Gateway::new(2);
    gateway.credit("some", "0.003");
    let lost = gateway.vms[0].request(asset("some"));
    lose_the_answer(&gateway);
    assert_eq!(lost.status(), Some(503));
    gateway.pass(600);
    // All money of the account is held by a lease of which this gateway never heard.
    for worker in [1, 0, 1] {
        let stream = gateway.serve(worker, asset("some"));
        assert!(stream.is_forwarded(), "{:?}", stream.state());
    }
    assert_eq!(gateway.serve(0, asset("some")).status(), Some(402));
    gateway.settle_and_check("some", 3);
}

#[test]
fn a_lease_whose_grant_was_lost_goes_back_when_it_is_needed_elsewhere() {
    let gateway = Gateway::new(2);
    gateway.credit("some", "0.002");
    let lost = gateway.vms[0].request(asset("some"));
    lose_the_answer(&gateway);
    assert_eq!(lost.status(), Some(503));
    gateway.pass(600);
    let other = gateway.vms[1].request(at("/v1/payment/1", "some"));
    gateway.pass(1_900);
    assert!(other.is_forwarded(), "{:?}", other.state());
    other.complete(200);
    gateway.settle_and_check("some", 1);
}
