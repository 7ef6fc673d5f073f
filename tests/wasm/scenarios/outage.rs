//! The sidecar is away: live leases are spent, then each route's rule decides, and nothing is charged twice or lost.

use farebox_wasm_host::{CalloutAnswer, Stream};

use crate::gateway::{Gateway, asset, at};

/// Nobody answers: Envoy makes up a timeout for every call.
fn away(gateway: &Gateway) {
    while gateway.host.run_posted() {}
    for call in gateway.host.take_callouts() {
        call.answer(CalloutAnswer::timeout());
    }
}

fn served_while_away(gateway: &Gateway, path: &str, account: &str, calls: usize) -> usize {
    let serve = |call: usize| -> Stream {
        let stream = gateway.vms[call % gateway.vms.len()].request(at(path, account));
        away(gateway);
        gateway.pass_with(10, away);
        stream
    };
    (0..calls).map(serve).filter(Stream::is_forwarded).count()
}

#[test]
fn a_live_lease_is_spent_while_the_sidecar_is_away_and_no_longer() {
    let gateway = Gateway::new(2);
    gateway.serve(0, asset("rich"));
    let granted = gateway.sidecar.borrow().granted("rich");
    let served = served_while_away(&gateway, "/v1/asset/1", "rich", 60);
    assert_eq!(served as u64 + 1, granted);
    gateway.pass(1_000);
    gateway.settle_and_check("rich", granted);
}

#[test]
fn nothing_is_drawn_after_a_lease_has_run_out() {
    let gateway = Gateway::new(2);
    gateway.serve(0, asset("rich"));
    gateway.pass_with(9_000, away);
    let stream = gateway.vms[1].request(asset("rich"));
    assert!(stream.is_forwarded() || stream.status() == Some(503), "{:?}", stream.state());
    let served = 1 + u64::from(stream.is_forwarded());
    gateway.pass_with(1_500, away);
    let late = gateway.vms[1].request(asset("rich"));
    away(&gateway);
    assert_eq!((late.status(), late.is_settled()), (Some(503), true));
    let now = u64::try_from(gateway.host.now().as_millis()).unwrap();
    gateway.sidecar.borrow_mut().reclaim(now + 20_000);
    gateway.settle_and_check("rich", served);
}

#[test]
fn a_route_that_denies_answers_503_and_knows_it_without_asking_each_time() {
    let gateway = Gateway::new(1);
    let first = gateway.vms[0].request(asset("rich"));
    away(&gateway);
    assert_eq!(first.status(), Some(503));
    let second = gateway.vms[0].request(asset("rich"));
    assert_eq!((second.status(), gateway.host.take_callouts().len()), (Some(503), 0));
    gateway.pass(1_000);
    assert!(gateway.serve(0, asset("rich")).is_forwarded());
    gateway.settle_and_check("rich", 1);
}

#[test]
fn a_route_that_allows_serves_and_is_charged_once_later() {
    let gateway = Gateway::new(2);
    assert_eq!(served_while_away(&gateway, "/v1/allow/1", "rich", 20), 20);
    assert_eq!(gateway.charged("rich"), 0);
    assert_eq!(gateway.host.metric("farebox_blind_units"), 20);
    gateway.settle_and_check("rich", 20);
}

#[test]
fn a_route_with_grace_serves_so_many_units_and_no_more() {
    let gateway = Gateway::new(2);
    assert_eq!(served_while_away(&gateway, "/v1/grace/1", "rich", 10), 3);
    gateway.settle_and_check("rich", 3);
    assert_eq!(
        served_while_away(&gateway, "/v1/grace/1", "rich", 10),
        3,
        "grace is renewed once it is booked"
    );
    gateway.settle_and_check("rich", 6);
}

#[test]
fn what_was_allowed_without_money_is_owed() {
    let gateway = Gateway::new(1);
    gateway.credit("poor", "0.001");
    assert_eq!(served_while_away(&gateway, "/v1/grace/1", "poor", 3), 3);
    gateway.settle_and_check("poor", 3);
    let account = gateway.sidecar.borrow().account("poor");
    assert_eq!(
        (account.balance, account.receivable),
        ("0".parse().unwrap(), "0.002".parse().unwrap())
    );
}

#[test]
fn a_journal_whose_replies_are_lost_is_charged_once() {
    let gateway = Gateway::new(2);
    assert_eq!(served_while_away(&gateway, "/v1/allow/1", "rich", 5), 5);
    // Every message arrives, and every reply is lost.
    gateway.pass_with(5_000, |gateway| {
        for call in gateway.host.take_callouts() {
            gateway.reply_to(&call);
            call.answer(CalloutAnswer::timeout());
        }
    });
    assert_eq!(gateway.charged("rich"), 5);
    gateway.settle_and_check("rich", 5);
}

#[test]
fn calls_allowed_in_an_outage_and_charged_on_success_are_charged_by_how_they_end() {
    let gateway = Gateway::new(1);
    let metadata = serde_json::json!({"charge_on": "success"});
    let streams: Vec<Stream> = (0..4)
        .map(|_| {
            let stream = gateway.vms[0]
                .request(at("/v1/allow/1", "rich").route_metadata("farebox", &metadata));
            away(&gateway);
            stream
        })
        .collect();
    assert!(streams.iter().all(Stream::is_forwarded));
    gateway.pass(1_000);
    assert_eq!(gateway.charged("rich"), 0);
    for (stream, status) in streams.iter().zip([200, 503, 200, 404]) {
        stream.complete(status);
    }
    gateway.settle_and_check("rich", 3);
}

#[test]
fn waiting_calls_of_several_workers_all_end_when_the_sidecar_dies() {
    let gateway = Gateway::new(3);
    let streams: Vec<Stream> = (0..30)
        .map(|call| gateway.vms[call % 3].request(asset(&format!("user-{}", call % 7))))
        .collect();
    // Some questions are never answered in time, the others break.
    for (index, call) in gateway.host.take_callouts().into_iter().enumerate() {
        call.answer(if index % 2 == 0 { CalloutAnswer::Reset } else { CalloutAnswer::timeout() });
    }
    gateway.pass_with(3_000, away);
    for stream in &streams {
        assert_eq!((stream.status(), stream.is_settled()), (Some(503), true));
    }
    gateway.host.assert_no_faults();
}

#[test]
fn a_question_that_is_never_answered_ends_by_the_longest_wait() {
    let gateway = Gateway::new(1);
    let stream = gateway.vms[0].request(asset("rich"));
    let calls = gateway.host.take_callouts();
    gateway.pass_silently(2_300);
    assert_eq!((stream.status(), stream.is_settled()), (Some(503), true));
    for call in calls {
        call.answer(gateway.reply_to(&call));
    }
    gateway.settle_and_check("rich", 0);
}
