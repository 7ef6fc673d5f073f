//! Strict routes while the sidecar is away, and charges that are to come back meanwhile.

use farebox_core::call::{DEDUCT_PATH, REFUND_PATH};
use farebox_wasm_host::{Callout, CalloutAnswer, Stream};
use serde_json::{Value as Json, json};

use crate::gateway::{Gateway, at};
use crate::strict::sent_to;

fn away(gateway: &Gateway) {
    // What is asked because of an answer is not answered either.
    for _ in 0..5 {
        for call in gateway.host.take_callouts() {
            call.answer(CalloutAnswer::timeout());
        }
    }
}

fn call_while_away(gateway: &Gateway, path: &str) -> Stream {
    let stream = gateway.vms[0].request(at(path, "rich"));
    away(gateway);
    stream
}

fn items(call: &Callout) -> Vec<Json> {
    let body: Json = serde_json::from_slice(call.body()).unwrap();
    body["items"].as_array().unwrap().clone()
}

/// Calls of which each leaves a charge to undo, because the client left.
fn leave(gateway: &Gateway, count: usize) {
    for call in 0..count.div_ceil(1_000) {
        let calls = (count - call * 1_000).min(1_000);
        let streams: Vec<Stream> =
            (0..calls).map(|_| gateway.vms[0].request(at("/strict/1", "rich"))).collect();
        let sent = gateway.host.take_callouts();
        let is_deduct = |call: &&Callout| call.headers().get(":path") == Some(DEDUCT_PATH);
        sent.iter().filter(is_deduct).for_each(|call| drop(gateway.reply_to(call)));
        streams.iter().for_each(Stream::reset);
    }
}

#[test]
fn while_the_sidecar_is_away_calls_fail_fast_and_leave_nothing_to_undo() {
    let gateway = Gateway::new(1);
    assert_eq!(call_while_away(&gateway, "/strict/1").status(), Some(503));
    assert_eq!(gateway.host.metric("farebox_undo_queued"), 1);
    let second = gateway.vms[0].request(at("/strict/1", "rich"));
    assert_eq!(second.status(), Some(503));
    assert!(sent_to(&gateway, DEDUCT_PATH).is_empty(), "the sidecar is not asked");
    assert_eq!(gateway.host.metric("farebox_undo_queued"), 1);
    gateway.pass_with(510, away);
    assert!(gateway.serve(0, at("/strict/1", "rich")).is_forwarded(), "it is asked again by then");
    gateway.settle_and_check("rich", 1);
}

#[test]
fn one_broken_connection_does_not_make_the_sidecar_away() {
    let gateway = Gateway::new(1);
    let first = gateway.vms[0].request(at("/strict/1", "rich"));
    sent_to(&gateway, DEDUCT_PATH).remove(0).answer(CalloutAnswer::Reset);
    let second = gateway.vms[0].request(at("/strict/1", "rich"));
    assert!(second.is_paused());
    gateway.answer_all();
    assert!(first.is_forwarded() && second.is_forwarded());
    first.complete(200);
    second.complete(200);
    gateway.settle_and_check("rich", 2);
}

#[test]
fn an_account_whose_calls_time_out_refuses_nobody_else() {
    let gateway = Gateway::new(1);
    gateway.credit("hot", "1");
    let hot = gateway.vms[0].request(at("/strict/1", "hot"));
    let of_hot = sent_to(&gateway, DEDUCT_PATH).remove(0);
    gateway.pass(500);
    assert!(gateway.serve(0, at("/strict/1", "rich")).is_forwarded());
    of_hot.answer(CalloutAnswer::timeout());
    sent_to(&gateway, DEDUCT_PATH).remove(0).answer(CalloutAnswer::timeout());
    assert_eq!(hot.status(), Some(503));
    assert!(gateway.serve(0, at("/strict/1", "rich")).is_forwarded(), "the sidecar is not away");
    gateway.settle_and_check("rich", 2);
    gateway.settle_and_check("hot", 0);
}

#[test]
fn routes_that_allow_calls_then_charge_them_once_later() {
    let gateway = Gateway::new(1);
    for path in ["/strict/allow/1", "/strict/allow/1"] {
        let stream = call_while_away(&gateway, path);
        assert!(stream.is_forwarded());
        stream.complete(200);
    }
    assert_eq!(gateway.host.metric("farebox_blind_units"), 2);
    let served = (0..5)
        .map(|_| call_while_away(&gateway, "/strict/grace/1"))
        .filter(Stream::is_forwarded)
        .count();
    assert_eq!(served, 1, "three units, of which two were allowed before");
    gateway.settle_and_check("rich", 3);
}

#[test]
fn an_allowed_call_whose_deduct_was_charged_is_charged_once() {
    let gateway = Gateway::new(1);
    let stream = gateway.vms[0].request(at("/strict/allow/1", "rich"));
    for _ in 0..2 {
        let call = sent_to(&gateway, DEDUCT_PATH).remove(0);
        gateway.reply_to(&call);
        call.answer(CalloutAnswer::timeout());
    }
    assert!(stream.is_forwarded());
    stream.complete(200);
    gateway.settle_and_check("rich", 1);
}

#[test]
fn a_message_that_cannot_be_sent_leaves_nothing_to_undo() {
    let gateway = Gateway::new(1);
    gateway.host.fail_calls_inline(1);
    let stream = gateway.vms[0].request(at("/strict/1", "rich"));
    assert_eq!((stream.status(), stream.is_settled()), (Some(503), true));
    gateway.host.fail_calls_inline(1);
    let allowed = gateway.vms[0].request(at("/strict/allow/1", "rich"));
    assert!(allowed.is_forwarded());
    allowed.complete(200);
    assert_eq!(gateway.host.metric("farebox_undo_queued"), 0);
    assert!(gateway.serve(0, at("/strict/1", "rich")).is_forwarded(), "the next one is sent");
    gateway.settle_and_check("rich", 2);
}

#[test]
fn a_message_that_is_never_answered_ends_in_a_bounded_time() {
    let gateway = Gateway::new(1);
    let stream = gateway.vms[0].request(at("/strict/1", "rich"));
    let call = sent_to(&gateway, DEDUCT_PATH).remove(0);
    // The longest wait, and the time of one message.
    gateway.pass_with(3_500, |gateway| {
        sent_to(gateway, DEDUCT_PATH);
    });
    assert_eq!((stream.status(), stream.is_settled()), (Some(503), true));
    call.answer(gateway.reply_to(&call));
    gateway.settle_and_check("rich", 0);
}

#[test]
fn charges_come_back_in_one_message_at_a_time() {
    let gateway = Gateway::new(1);
    leave(&gateway, 1);
    let first = sent_to(&gateway, REFUND_PATH).remove(0);
    assert_eq!(items(&first).len(), 1);
    leave(&gateway, 1_001);
    assert!(sent_to(&gateway, REFUND_PATH).is_empty(), "one is on its way");
    first.answer(gateway.reply_to(&first));
    let second = sent_to(&gateway, REFUND_PATH).remove(0);
    assert_eq!(items(&second).len(), 1_000);
    second.answer(gateway.reply_to(&second));
    let third = sent_to(&gateway, REFUND_PATH).remove(0);
    assert_eq!(items(&third).len(), 1);
    third.answer(gateway.reply_to(&third));
    assert_eq!(gateway.host.metric("farebox_undo_done"), 1_002);
    gateway.settle_and_check("rich", 0);
}

#[test]
fn an_undo_is_sent_again_until_the_sidecar_has_taken_it_in() {
    for arrives in [true, false] {
        let gateway = Gateway::new(1);
        leave(&gateway, 3);
        gateway.pass_with(5_000, |gateway| {
            for call in gateway.host.take_callouts() {
                if arrives {
                    gateway.reply_to(&call);
                }
                call.answer(CalloutAnswer::timeout());
            }
        });
        assert_eq!(gateway.charged("rich"), if arrives { 0 } else { 3 });
        assert_eq!(gateway.host.metric("farebox_undo_done"), 0);
        gateway.settle_and_check("rich", 0);
        assert_eq!(gateway.host.metric("farebox_undo_done"), 3);
    }
}

#[test]
fn a_message_of_undos_that_is_never_answered_is_sent_again() {
    let gateway = Gateway::new(1);
    leave(&gateway, 2);
    assert_eq!(sent_to(&gateway, REFUND_PATH).len(), 1);
    gateway.settle_and_check("rich", 0);
}

#[test]
fn items_are_settled_one_by_one() {
    let gateway = Gateway::new(1);
    leave(&gateway, 1);
    let first = sent_to(&gateway, REFUND_PATH).remove(0);
    leave(&gateway, 3);
    first.answer(gateway.reply_to(&first));
    let second = sent_to(&gateway, REFUND_PATH).remove(0);
    let statuses = json!({ "results": [{ "status": 200 }, { "status": 503 }, { "status": 409 }] });
    second.answer(CalloutAnswer::ok(statuses.to_string()));
    gateway.pass_with(400, |_| {});
    let third = sent_to(&gateway, REFUND_PATH).remove(0);
    assert_eq!(items(&third), [items(&second)[1].clone()]);
    let refused = items(&second)[2]["deduct_key"].as_str().unwrap().to_owned();
    let is_told =
        |line: &farebox_wasm_host::LogLine| 4 <= line.level && line.text.contains(&refused);
    assert!(gateway.host.logs().iter().any(is_told), "{:?}", gateway.host.logs());
}

#[test]
fn too_many_undos_drop_the_oldest_and_say_so() {
    let gateway = Gateway::new(1);
    gateway.credit("rich", "30");
    leave(&gateway, 20_001);
    assert_eq!(gateway.host.metric("farebox_undo_queued"), 20_001);
    assert_eq!(gateway.host.metric("farebox_undo_dropped"), 1);
    assert!(gateway.host.logs().iter().any(|line| 4 <= line.level && line.text.contains("undone")));
    gateway.host.assert_no_faults();
}

#[test]
fn a_configuration_that_is_taken_away_stays_until_its_charges_have_come_back() {
    let gateway = Gateway::new(1);
    leave(&gateway, 3);
    assert!(!gateway.vms[0].shut_down(), "charges wait");
    assert!(gateway.vms[0].is_staying());
    away(&gateway);
    gateway.pass_with(190, away);
    assert!(gateway.vms[0].is_staying(), "the sidecar is away");
    gateway.pass(10_000);
    assert!(!gateway.vms[0].is_staying());
    assert_eq!(gateway.charged("rich"), 0);
    assert_eq!(gateway.host.metric("farebox_undo_done"), 3);
    gateway.host.assert_no_faults();
}

#[test]
fn a_configuration_without_charges_to_undo_goes_at_once() {
    let gateway = Gateway::new(1);
    assert!(gateway.serve(0, at("/strict/1", "rich")).is_forwarded());
    assert!(gateway.vms[0].shut_down());
}

#[test]
fn a_configuration_does_not_stay_for_ever() {
    let gateway = Gateway::new(1);
    leave(&gateway, 2);
    assert!(!gateway.vms[0].shut_down());
    gateway.pass_with(299_000, away);
    assert!(gateway.vms[0].is_staying());
    gateway.pass_with(1_500, away);
    assert!(!gateway.vms[0].is_staying());
    assert_eq!(gateway.host.metric("farebox_undo_dropped"), 2);
    assert!(
        gateway.host.logs().iter().any(|line| 4 <= line.level && line.text.contains("2 charges"))
    );
    gateway.host.assert_no_faults();
}
