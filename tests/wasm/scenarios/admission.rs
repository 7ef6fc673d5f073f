//! One call: waited for, served, refused; every pause ends in exactly one resume or one answer.

use std::time::Duration;

use farebox_wasm_host::{CalloutAnswer, Request, State, Stream};
use serde_json::json;

use crate::gateway::{Gateway, asset, at};

#[test]
fn the_first_call_of_an_account_waits_for_one_question_and_the_next_ones_for_none() {
    let gateway = Gateway::new(1);
    let first = gateway.vms[0].request(asset("rich"));
    assert!(first.is_paused());
    let calls = gateway.host.take_callouts();
    assert_eq!(calls.len(), 1);
    calls[0].answer(gateway.reply_to(&calls[0]));
    assert!(first.is_forwarded() && first.is_settled());
    first.respond(200, &[]);
    let headers = first.response_headers().unwrap();
    assert_eq!(headers.get("x-farebox-charge"), Some("0.001"));
    assert_eq!(headers.get("x-farebox-source"), Some("balance"));
    first.finish();
    assert!(gateway.vms[0].request(asset("rich")).is_forwarded());
    assert!(gateway.host.take_callouts().is_empty());
    gateway.settle_and_check("rich", 2);
}

#[test]
fn calls_of_one_account_share_one_question_at_a_time() {
    let gateway = Gateway::new(1);
    let streams: Vec<_> = (0..100).map(|_| gateway.vms[0].request(asset("rich"))).collect();
    let mut questions = 0;
    loop {
        let calls = gateway.host.take_callouts();
        assert!(calls.len() <= 1, "{} questions for one account", calls.len());
        let Some(call) = calls.first() else { break };
        questions += 1;
        call.answer(gateway.reply_to(call));
    }
    assert!((1..=4).contains(&questions), "{questions} questions for 100 calls");
    for stream in &streams {
        assert!(stream.is_forwarded() && stream.is_settled());
        stream.complete(200);
    }
    gateway.settle_and_check("rich", 100);
}

#[test]
fn accounts_do_not_wait_for_each_other() {
    let gateway = Gateway::new(1);
    gateway.credit("second", "1");
    let (first, second) =
        (gateway.vms[0].request(asset("rich")), gateway.vms[0].request(asset("second")));
    let calls = gateway.host.take_callouts();
    assert_eq!(calls.len(), 2);
    calls[1].answer(gateway.reply_to(&calls[1]));
    assert!(first.is_paused() && second.is_forwarded());
    calls[0].answer(gateway.reply_to(&calls[0]));
    assert!(first.is_forwarded());
    gateway.host.assert_no_faults();
}

#[test]
fn a_call_that_nobody_can_pay_for_is_refused_with_its_numbers() {
    let gateway = Gateway::new(1);
    gateway.credit("poor", "0.0009");
    let refused = gateway.serve(0, asset("poor"));
    let answer = refused.answer().expect("it is refused");
    assert_eq!((answer.status, refused.is_settled()), (402, true));
    assert_eq!(answer.headers.get("content-type"), Some("application/problem+json"));
    assert_eq!(answer.headers.get("content-language"), Some("en-US"));
    let body = answer.json();
    assert_eq!(body["code"], json!(190_102));
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.contains("0.0009") && detail.contains("0.001"), "{detail}");
    gateway.settle_and_check("poor", 0);
}

#[test]
fn a_free_quota_that_is_used_up_is_429_until_the_month_ends() {
    let gateway = Gateway::new(1);
    let trial = || {
        gateway.serve(
            0,
            at("/v1/trial/1", "guest").route_metadata("farebox", &json!({"service": "trial"})),
        )
    };
    for _ in 0..10 {
        let stream = trial();
        assert!(stream.is_forwarded());
        assert_eq!(stream.response_headers().unwrap().get("x-farebox-source"), Some("free"));
    }
    let answer = trial().answer().expect("the eleventh is refused");
    assert_eq!((answer.status, answer.headers.get("retry-after")), (429, Some("86400")));
    assert_eq!(answer.json()["code"], json!(190_202));
    gateway.settle_and_check("guest", 10);
}

#[test]
fn a_refusal_is_remembered_for_a_second_at_most() {
    let gateway = Gateway::new(2);
    assert_eq!(gateway.serve(0, asset("poor")).status(), Some(402));
    for worker in [0, 1] {
        let again = gateway.vms[worker].request(asset("poor"));
        assert_eq!(
            (again.status(), gateway.host.take_callouts().len()),
            (Some(402), 0),
            "worker {worker}"
        );
    }
    gateway.credit("poor", "1");
    gateway.pass(1_000);
    assert!(gateway.serve(1, asset("poor")).is_forwarded());
    gateway.settle_and_check("poor", 1);
}

#[test]
fn every_failure_of_the_sidecar_ends_the_wait_once() {
    let failures = [
        CalloutAnswer::timeout(),
        CalloutAnswer::no_host(),
        CalloutAnswer::Reset,
        CalloutAnswer::status(500),
        CalloutAnswer::status(401),
        CalloutAnswer::status(400),
        CalloutAnswer::status(409),
        CalloutAnswer::status(413),
        CalloutAnswer::ok(""),
        CalloutAnswer::ok("{"),
        CalloutAnswer::ok("[]"),
        CalloutAnswer::ok("{}"),
        CalloutAnswer::ok([0xff; 4096]),
    ];
    for failure in failures {
        let gateway = Gateway::new(1);
        let streams: Vec<_> = (0..5).map(|_| gateway.vms[0].request(asset("rich"))).collect();
        for call in gateway.host.take_callouts() {
            assert!(call.answer(failure.clone()));
            assert!(!call.answer(failure.clone()), "a second answer reaches nobody");
        }
        for stream in &streams {
            let answer =
                stream.answer().unwrap_or_else(|| panic!("{failure:?}: {:?}", stream.state()));
            assert_eq!(
                (answer.status, answer.headers.get("retry-after")),
                (503, Some("1")),
                "{failure:?}"
            );
            assert!(stream.is_settled());
        }
        gateway.host.assert_no_faults();
        gateway.pass(1_000);
        assert!(gateway.serve(0, asset("rich")).is_forwarded(), "after {failure:?} it works again");
        gateway.settle_and_check("rich", 1);
    }
}

#[test]
fn a_call_that_cannot_even_be_made_ends_the_wait_within_the_headers_phase() {
    let gateway = Gateway::new(1);
    gateway.host.fail_calls_inline(1);
    let stream = gateway.vms[0].request(asset("rich"));
    assert_eq!((stream.status(), stream.is_settled()), (Some(503), true));
    gateway.host.configure(|settings| settings.clusters.clear());
    gateway.pass_silently(1_000);
    let stream = gateway.vms[0].request(asset("rich"));
    assert_eq!((stream.status(), stream.is_settled()), (Some(503), true));
    gateway.host.assert_no_faults();
}

#[test]
fn a_stream_that_is_gone_before_the_answer_leaves_its_units_to_the_next() {
    let gateway = Gateway::new(1);
    let gone = gateway.vms[0].request(asset("rich"));
    let stays = gateway.vms[0].request(asset("rich"));
    gone.reset();
    gateway.answer_all();
    assert_eq!((gone.state(), gone.is_settled()), (State::Gone, true));
    assert!(stays.is_forwarded());
    let alone = gateway.vms[0].request(asset("rich"));
    assert!(alone.is_forwarded(), "the lease has units left");
    gateway.settle_and_check("rich", 2);
}

#[test]
fn all_streams_gone_before_the_answer_is_no_fault() {
    let gateway = Gateway::new(1);
    let streams: Vec<_> = (0..3).map(|_| gateway.vms[0].request(asset("rich"))).collect();
    for stream in &streams {
        stream.reset();
    }
    gateway.answer_all();
    gateway.settle_and_check("rich", 0);
}

#[test]
fn a_caller_without_a_name_or_with_two_is_turned_away_before_anybody_is_asked() {
    let gateway = Gateway::new(1);
    let status = |request: Request| gateway.vms[0].request(request).status();
    assert_eq!(status(Request::get("/v1/asset/1")), Some(401));
    assert_eq!(status(asset("a").header("x-user-id", "b")), Some(400));
    assert_eq!(status(asset("a").header("X-User-Id", "a")), Some(400));
    assert_eq!(status(asset("two words")), Some(400));
    assert_eq!(status(Request::get("/v1/asset/1").header("x-user-id", [0xff, 0xfe])), Some(400));
    assert_eq!(status(asset(&"x".repeat(129))), Some(400));
    assert!(gateway.host.take_callouts().is_empty());
    gateway.host.assert_no_faults();
}

#[test]
fn routes_without_a_rule_are_refused_and_unmetered_ones_pass() {
    let gateway = Gateway::new(1);
    let unknown = gateway.vms[0].request(at("/elsewhere", "rich")).answer().unwrap();
    assert_eq!((unknown.status, unknown.json()["code"].clone()), (403, json!(190_205)));
    assert!(gateway.vms[0].request(Request::get("/free/1")).is_forwarded());
    assert!(gateway.host.take_callouts().is_empty());
    let unpriced = gateway.serve(0, at("/v1/unknown/1", "rich")).answer().unwrap();
    assert_eq!(unpriced.json()["code"], json!(190_205));
    gateway.host.assert_no_faults();
}

#[test]
fn a_route_in_shadow_is_charged_when_it_can_be_and_never_refused() {
    let gateway = Gateway::new(1);
    for account in ["poor", "rich", "poor"] {
        assert!(gateway.serve(0, at("/v1/shadow/1", account)).is_forwarded(), "{account}");
    }
    assert!(gateway.serve(0, Request::get("/v1/shadow/1")).is_forwarded(), "nobody to charge");
    assert_eq!(gateway.host.metric("farebox_shadow_refused"), 3);
    let stream = gateway.vms[0].request(at("/v1/shadow/1", "other"));
    for call in gateway.host.take_callouts() {
        call.answer(CalloutAnswer::timeout());
    }
    assert!(stream.is_forwarded() && stream.is_settled());
    gateway.settle_and_check("rich", 1);
    assert_eq!(gateway.charged("poor"), 0);
}

#[test]
fn a_grpc_caller_gets_its_refusal_as_trailers() {
    let gateway = Gateway::new(1);
    let call = |account: &str| Request::grpc("/v1/asset/Get").header("x-user-id", account);
    let answer = gateway.serve(0, call("poor")).answer().unwrap();
    assert_eq!(answer.status, 200);
    let message = answer.headers.get("grpc-message").unwrap();
    assert!(message.starts_with("190102"), "{message}");
    assert_eq!(answer.headers.get("content-type"), Some("application/grpc"));
    assert!(gateway.serve(0, call("rich")).is_forwarded());
    gateway.settle_and_check("rich", 1);
}

#[test]
fn metadata_of_the_route_overrides_the_table() {
    let gateway = Gateway::new(1);
    let stream = gateway
        .serve(0, asset("rich").route_metadata("farebox", &json!({"price": "0.1", "units": 3})));
    assert_eq!(stream.response_headers().unwrap().get("x-farebox-charge"), Some("0.3"));
    gateway.settle_and_check("rich", 3);
    let balance = gateway.sidecar.borrow().account("rich").balance;
    assert_eq!(balance, "0.7".parse().unwrap());

    let broken =
        gateway.vms[0].request(asset("rich").route_metadata("farebox", &json!({"price": 0.1})));
    assert!(
        broken.status().is_some_and(|status| status == 500 || status == 403),
        "{:?}",
        broken.state()
    );
    let log = gateway.host.logs();
    assert!(log.iter().any(|line| line.text.contains("price")), "{log:?}");
}

#[test]
fn headers_of_the_filters_own_name_space_are_not_taken_from_clients() {
    let gateway = Gateway::new(1);
    let stream = gateway.serve(
        0,
        asset("rich").header("x-farebox-account", "other").header("X-Farebox-Charge", "0"),
    );
    let headers = stream.request_headers();
    assert_eq!((headers.get("x-farebox-account"), headers.get("x-farebox-charge")), (None, None));
    assert_eq!(headers.get("x-user-id"), Some("rich"));
}

#[test]
fn a_call_that_takes_more_units_than_are_left_waits_for_the_rest() {
    let gateway = Gateway::new(1);
    gateway.credit("some", "0.012");
    let served =
        (0..4).filter(|_| gateway.serve(0, at("/v1/heavy/1", "some")).is_forwarded()).count();
    assert_eq!(served, 2, "12 units are two calls of 5");
    gateway.pass(1_000);
    let served = (0..4).filter(|_| gateway.serve(0, asset("some")).is_forwarded()).count();
    assert_eq!(served, 2, "and two of 1");
    gateway.settle_and_check("some", 12);
}

#[test]
fn exactly_as_many_calls_are_served_as_are_funded() {
    let gateway = Gateway::new(3);
    gateway.credit("some", "0.037");
    let served =
        (0..60).filter(|call| gateway.serve(call % 3, asset("some")).is_forwarded()).count();
    assert_eq!(served, 37);
    gateway.settle_and_check("some", 37);
}

#[test]
fn a_crowd_that_waits_is_told_bit_by_bit_so_that_the_stack_lasts() {
    let gateway = Gateway::new(1);
    gateway.credit("short", "0.4");
    let streams: Vec<_> = (0..1_000).map(|_| gateway.vms[0].request(asset("short"))).collect();
    gateway.answer_all();
    let is_told = |stream: &&Stream| !stream.is_paused();
    for _ in 0..40 {
        gateway.host.advance(Duration::from_millis(1));
        gateway.vms[0].tick();
        gateway.answer_all();
    }
    assert_eq!(streams.iter().filter(is_told).count(), 1_000);
    assert_eq!(streams.iter().filter(|stream| stream.is_forwarded()).count(), 400);
    for stream in streams.iter().filter(|stream| stream.is_forwarded()) {
        stream.complete(200);
    }
    gateway.settle_and_check("short", 400);
}
