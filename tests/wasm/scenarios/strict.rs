//! Strict routes: the sidecar decides about each call, and what it charged for nothing comes back.

use std::cell::Cell;
use std::rc::Rc;

use farebox_core::call::{DEDUCT_PATH, DeductRequest};
use farebox_core::code::Code;
use farebox_wasm_host::{Callout, CalloutAnswer, Hook, Stream};
use serde_json::json;

use crate::gateway::{Gateway, asset, at};

fn strict(account: &str) -> farebox_wasm_host::Request {
    at("/strict/1", account)
}

/// The messages of this path among those that were sent; the others are answered.
pub(crate) fn sent_to(gateway: &Gateway, path: &str) -> Vec<Callout> {
    let (wanted, others): (Vec<Callout>, Vec<Callout>) = gateway
        .host
        .take_callouts()
        .into_iter()
        .partition(|call| call.headers().get(":path") == Some(path));
    for call in others {
        call.answer(gateway.reply_to(&call));
    }
    wanted
}

fn deducts(gateway: &Gateway) -> Vec<Callout> {
    sent_to(gateway, DEDUCT_PATH)
}

fn key(call: &Callout) -> String {
    serde_json::from_slice::<DeductRequest>(call.body()).unwrap().idempotency_key
}

fn problem(code: Code) -> CalloutAnswer {
    let status = u32::from(code.http_status());
    let body = json!({ "code": code.number(), "status": status, "title": "scripted" });
    CalloutAnswer::Response { status, body: body.to_string().into_bytes() }
}

fn status(stream: &Stream) -> (Option<u32>, bool) {
    (stream.status(), stream.is_settled())
}

#[test]
fn a_call_is_decided_by_one_message_and_tells_what_it_cost() {
    let gateway = Gateway::new(1);
    for (path, charge, source) in
        [("/strict/heavy/1", "0.005", "balance"), ("/strict/trial/1", "0", "free")]
    {
        let touched = Rc::new(Cell::new(0));
        let count = Rc::clone(&touched);
        gateway.host.before_shared_data(move |_| {
            count.set(count.get() + 1);
            Hook::Keep
        });
        let stream = gateway.vms[0].request(at(path, "rich"));
        assert!(stream.is_paused());
        let calls = gateway.host.take_callouts();
        assert_eq!((calls.len(), calls[0].headers().get(":path")), (1, Some(DEDUCT_PATH)));
        calls[0].answer(gateway.reply_to(&calls[0]));
        assert!(stream.is_forwarded(), "{:?}", stream.state());
        stream.respond(200, &[("x-farebox-charge", "forged")]);
        let headers = stream.response_headers().unwrap();
        assert_eq!(headers.get("x-farebox-charge"), Some(charge), "{path}");
        assert_eq!(headers.get("x-farebox-source"), Some(source), "{path}");
        stream.finish();
        assert!(gateway.host.take_callouts().is_empty(), "one message per call");
        assert_eq!(touched.get(), 0, "no shared data on the way of a strict call");
        gateway.host.remove_hook();
    }
    assert_eq!(gateway.host.metric("farebox_deduct_ok"), 2);
    gateway.settle_and_check("rich", 6);
}

#[test]
fn every_call_has_a_key_of_its_own_and_bounds_its_wait() {
    let gateway = Gateway::new(2);
    let streams: Vec<Stream> =
        (0..20).map(|call| gateway.vms[call % 2].request(strict("rich"))).collect();
    let calls = deducts(&gateway);
    let keys: std::collections::BTreeSet<String> = calls.iter().map(key).collect();
    assert_eq!(keys.len(), 20);
    assert!(keys.iter().all(|key| key.len() == 32), "{keys:?}");
    for call in calls {
        let request: DeductRequest = serde_json::from_slice(call.body()).unwrap();
        assert_eq!(request.wait_ms, Some(800), "a bit less than the timeout of 1 s");
        call.answer(gateway.reply_to(&call));
    }
    assert!(streams.iter().all(Stream::is_forwarded));
    streams.iter().for_each(|stream| stream.complete(200));
    gateway.settle_and_check("rich", 20);
}

#[test]
fn exactly_what_is_paid_for_is_served_by_any_number_of_workers() {
    let gateway = Gateway::new(3);
    gateway.credit("poor", "0.010");
    let streams: Vec<Stream> =
        (0..30).map(|call| gateway.vms[call % 3].request(strict("poor"))).collect();
    gateway.answer_all();
    assert_eq!(streams.iter().filter(|stream| stream.is_forwarded()).count(), 10);
    assert_eq!(streams.iter().filter(|stream| status(stream) == (Some(402), true)).count(), 20);
    streams.iter().filter(|stream| stream.is_forwarded()).for_each(|stream| stream.complete(200));
    gateway.settle_and_check("poor", 10);
}

#[test]
fn a_refusal_reads_as_in_lease_mode() {
    let gateway = Gateway::new(1);
    gateway.credit("poor", "0.002");
    for (strict, lease, status) in
        [("/strict/heavy/1", "/v1/heavy/1", 402), ("/strict/unknown/1", "/v1/unknown/1", 403)]
    {
        let strict = gateway.serve(0, at(strict, "poor")).answer().unwrap();
        let lease = gateway.serve(0, at(lease, "poor")).answer().unwrap();
        assert_eq!(strict.status, status);
        assert_eq!(strict.json(), lease.json());
        assert_eq!(strict.headers, lease.headers);
    }
    for _ in 0..10 {
        assert!(gateway.serve(0, at("/strict/trial/1", "poor")).is_forwarded());
    }
    let over = gateway.serve(0, at("/strict/trial/1", "poor")).answer().unwrap();
    assert_eq!((over.status, over.headers.get("retry-after")), (429, Some("86400")));
    gateway.settle_and_check("poor", 10);
}

#[test]
fn a_busy_account_is_asked_about_again_under_the_same_key() {
    let gateway = Gateway::new(1);
    for code in [Code::AccountBusy, Code::Overloaded] {
        let stream = gateway.vms[0].request(strict("rich"));
        let first = deducts(&gateway).remove(0);
        first.answer(problem(code));
        assert!(stream.is_paused() && deducts(&gateway).is_empty());
        gateway.pass_silently(40);
        assert!(deducts(&gateway).is_empty(), "not sooner than after 50 ms");
        gateway.pass_silently(40);
        let second = deducts(&gateway).remove(0);
        assert_eq!(key(&first), key(&second));
        second.answer(gateway.reply_to(&second));
        assert!(stream.is_forwarded());
        stream.complete(200);
    }
    gateway.settle_and_check("rich", 2);
    assert_eq!(gateway.host.metric("farebox_undo_queued"), 0);
}

#[test]
fn an_account_that_stays_busy_is_503_after_the_longest_wait_and_not_charged() {
    for (code, detail) in [(Code::AccountBusy, "held"), (Code::Overloaded, "too many")] {
        let gateway = Gateway::new(1);
        let stream = gateway.vms[0].request(strict("rich"));
        gateway.pass_with(1_800, |gateway| {
            deducts(gateway).iter().for_each(|call| assert!(call.answer(problem(code))));
        });
        assert!(stream.is_paused(), "{:?}", stream.state());
        gateway.pass_with(300, |gateway| {
            deducts(gateway).iter().for_each(|call| assert!(call.answer(problem(code))));
        });
        assert_eq!(status(&stream), (Some(503), true));
        let text = stream.answer().unwrap().json()["detail"].to_string();
        assert!(text.contains(detail), "{text}");
        assert_eq!(gateway.host.metric("farebox_undo_queued"), 0, "there is nothing to undo");
        assert!(gateway.serve(0, strict("rich")).is_forwarded(), "the sidecar is not away");
        gateway.settle_and_check("rich", 1);
    }
}

#[test]
fn a_lost_answer_is_asked_for_once_more_and_the_call_is_charged_once() {
    for lost in [
        CalloutAnswer::timeout(),
        CalloutAnswer::no_host(),
        CalloutAnswer::Reset,
        CalloutAnswer::status(500),
        CalloutAnswer::ok("<html>"),
        problem(Code::Unavailable),
    ] {
        let gateway = Gateway::new(1);
        let stream = gateway.vms[0].request(strict("rich"));
        let first = deducts(&gateway).remove(0);
        gateway.reply_to(&first);
        first.answer(lost.clone());
        assert!(stream.is_paused(), "{lost:?}");
        let second = deducts(&gateway).remove(0);
        assert_eq!(key(&first), key(&second));
        second.answer(gateway.reply_to(&second));
        assert!(stream.is_forwarded(), "{lost:?}: {:?}", stream.state());
        stream.complete(200);
        gateway.settle_and_check("rich", 1);
        assert_eq!(gateway.host.metric("farebox_undo_queued"), 0);
    }
}

#[test]
fn a_call_whose_outcome_stays_unknown_is_refused_and_its_charge_comes_back() {
    // (answer, messages until it is given up)
    for (lost, messages) in [
        (CalloutAnswer::timeout(), 2),
        (CalloutAnswer::Reset, 2),
        (CalloutAnswer::status(500), 2),
        (problem(Code::TokenInvalid), 1),
        (problem(Code::Conflict), 1),
        (problem(Code::InvalidArgument), 1),
        (CalloutAnswer::Response { status: 402, body: b"<html>".to_vec() }, 1),
    ] {
        let gateway = Gateway::new(1);
        let stream = gateway.vms[0].request(strict("rich"));
        for _ in 0..messages {
            let call = deducts(&gateway).remove(0);
            gateway.reply_to(&call);
            assert!(call.answer(lost.clone()));
        }
        assert_eq!(status(&stream), (Some(503), true), "{lost:?}");
        assert_eq!(gateway.charged("rich"), 1, "{lost:?}: the sidecar had charged it");
        gateway.settle_and_check("rich", 0);
        assert_eq!(gateway.host.metric("farebox_undo_done"), 1, "{lost:?}");
    }
}

#[test]
fn a_deduct_that_arrives_after_its_undo_charges_nothing() {
    let gateway = Gateway::new(1);
    let stream = gateway.vms[0].request(strict("rich"));
    let first = deducts(&gateway).remove(0);
    first.answer(CalloutAnswer::timeout());
    deducts(&gateway).remove(0).answer(CalloutAnswer::timeout());
    assert_eq!(status(&stream), (Some(503), true));
    gateway.answer_all();
    assert_eq!(gateway.host.metric("farebox_undo_done"), 1);
    gateway.reply_to(&first);
    gateway.settle_and_check("rich", 0);
}

#[test]
fn a_client_who_leaves_before_the_answer_pays_nothing() {
    for arrives_first in [true, false] {
        let gateway = Gateway::new(1);
        let stream = gateway.vms[0].request(strict("rich"));
        let call = deducts(&gateway).remove(0);
        let reply = arrives_first.then(|| gateway.reply_to(&call));
        stream.reset();
        let undo = gateway.host.take_callouts();
        assert_eq!(undo.len(), 1, "the charge is undone from on_log, without a tick");
        undo[0].answer(gateway.reply_to(&undo[0]));
        call.answer(reply.unwrap_or_else(|| gateway.reply_to(&call)));
        assert!(stream.is_settled(), "nothing is resumed: {:?}", stream.state());
        gateway.settle_and_check("rich", 0);
    }
}

#[test]
fn a_client_who_leaves_while_the_account_is_busy_leaves_nothing_to_undo() {
    let gateway = Gateway::new(1);
    let stream = gateway.vms[0].request(strict("rich"));
    deducts(&gateway).remove(0).answer(problem(Code::AccountBusy));
    stream.reset();
    gateway.pass_silently(200);
    assert!(deducts(&gateway).is_empty(), "nobody waits any more");
    assert_eq!(gateway.host.metric("farebox_undo_queued"), 0);
    gateway.settle_and_check("rich", 0);
}

#[test]
fn a_busy_account_after_a_lost_answer_is_not_taken_for_an_uncharged_one() {
    let gateway = Gateway::new(1);
    let stream = gateway.vms[0].request(strict("rich"));
    let first = deducts(&gateway).remove(0);
    first.answer(CalloutAnswer::timeout());
    gateway.pass_with(2_200, |gateway| {
        for call in deducts(gateway) {
            call.answer(problem(Code::AccountBusy));
        }
    });
    assert_eq!(status(&stream), (Some(503), true));
    // The first message was still under way inside the sidecar.
    gateway.reply_to(&first);
    gateway.settle_and_check("rich", 0);
}

#[test]
fn charge_on_success_gives_the_charge_back_when_the_call_fails() {
    type End = fn(&Stream);
    let endings: [(&str, End, u64); 4] = [
        ("200", |stream| stream.complete(200), 1),
        ("503", |stream| stream.complete(503), 0),
        ("the client leaves", Stream::reset, 0),
        (
            "the upstream breaks off",
            |stream| {
                stream.respond(200, &[]);
                stream.reset_by_upstream();
            },
            0,
        ),
    ];
    for (name, end, charged) in endings {
        let gateway = Gateway::new(1);
        let stream = gateway.vms[0].request(at("/strict/success/1", "rich"));
        gateway.answer_all();
        assert_eq!(gateway.charged("rich"), 1, "{name}: charged before it is forwarded");
        end(&stream);
        gateway.settle_and_check("rich", charged);
    }
    let gateway = Gateway::new(1);
    gateway.serve(0, strict("rich"));
    let failed = gateway.vms[0].request(strict("rich"));
    gateway.answer_all();
    failed.complete(503);
    gateway.settle_and_check("rich", 2);
}

#[test]
fn a_shadow_route_charges_those_who_can_pay_and_lets_everybody_pass() {
    let gateway = Gateway::new(1);
    gateway.credit("poor", "0.001");
    let shadow = || at("/strict/shadow/1", "poor");
    assert!(gateway.serve(0, shadow()).is_forwarded());
    assert!(gateway.serve(0, shadow()).is_forwarded());
    assert_eq!(gateway.host.metric("farebox_shadow_refused"), 1);
    gateway.settle_and_check("poor", 1);

    gateway.credit("poor", "0.001");
    let stream = gateway.vms[0].request(shadow());
    for _ in 0..2 {
        let call = deducts(&gateway).remove(0);
        gateway.reply_to(&call);
        call.answer(CalloutAnswer::timeout());
    }
    assert!(stream.is_forwarded());
    stream.complete(200);
    gateway.settle_and_check("poor", 1);
}

#[test]
fn a_call_of_no_units_asks_nobody() {
    let gateway = Gateway::new(1);
    let stream = gateway.vms[0].request(at("/strict/zero/1", "poor"));
    assert!(stream.is_forwarded() && gateway.host.take_callouts().is_empty());
}

#[test]
fn strict_and_lease_calls_of_one_user_are_served_exactly_what_was_paid() {
    let gateway = Gateway::new(3);
    gateway.credit("mixed", "0.050");
    let mut served = 0;
    for round in 0..70 {
        let request = if round % 3 == 0 { strict("mixed") } else { asset("mixed") };
        let stream = gateway.vms[round % 3].request(request);
        gateway.pass(100);
        if !stream.is_forwarded() {
            gateway.pass(2_000);
        }
        if stream.is_forwarded() {
            served += 1;
            stream.complete(200);
        } else {
            assert_eq!(status(&stream), (Some(402), true), "{served} were served");
        }
    }
    assert_eq!(served, 50);
    gateway.settle_and_check("mixed", 50);
    assert_eq!(gateway.sidecar.borrow().account("mixed").balance, "0".parse().unwrap());
}

#[test]
fn strict_and_lease_waiters_share_one_bound() {
    let gateway = Gateway::new(1);
    let vm = &gateway.vms[0];
    for user in 0..10_000 {
        assert!(vm.request(asset(&format!("user-{user}"))).is_paused());
        assert!(vm.request(strict(&format!("user-{user}"))).is_paused());
    }
    for request in [strict("rich"), asset("rich")] {
        let over = vm.request(request);
        assert_eq!(status(&over), (Some(503), true));
        assert!(over.answer().unwrap().json()["detail"].to_string().contains("too many"));
    }
    gateway.host.assert_no_faults();
}
