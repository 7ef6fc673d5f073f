//! Messages to the sidecar: who sends them, how often, and what becomes of lost ones.

use farebox_wasm_host::{Callout, CalloutAnswer};

use crate::gateway::{Gateway, asset};

/// Lets workers tick until one of them sends a report.
fn next_report(gateway: &Gateway) -> Callout {
    for _ in 0..500 {
        gateway.pass_silently(10);
        let mut calls = gateway.host.take_callouts();
        assert!(calls.len() <= 1, "one message per process, not {}", calls.len());
        if let Some(call) = calls.pop() {
            return call;
        }
    }
    panic!("nobody reports");
}

#[test]
fn usage_is_reported_within_the_sync_interval() {
    let gateway = Gateway::new(2);
    for worker in [0, 1, 0] {
        gateway.serve(worker, asset("rich"));
    }
    let before = gateway.charged("rich");
    gateway.pass(420);
    assert_eq!((before, gateway.charged("rich")), (0, 3));
    assert_eq!(gateway.host.metric("farebox_unreported_units"), 0);
}

#[test]
fn a_message_whose_reply_is_lost_is_sent_again_as_it_was_and_charged_once() {
    let gateway = Gateway::new(1);
    for _ in 0..3 {
        gateway.serve(0, asset("rich"));
    }
    let first = next_report(&gateway);
    gateway.reply_to(&first);
    assert_eq!(gateway.charged("rich"), 3, "the sidecar has booked it");
    for lost in [CalloutAnswer::timeout(), CalloutAnswer::Reset, CalloutAnswer::status(503)] {
        first.answer(lost);
        gateway.serve(0, asset("rich"));
        let again = next_report(&gateway);
        assert_eq!(again.body(), first.body(), "the same bytes with the same number");
        again.answer(CalloutAnswer::timeout());
    }
    gateway.settle_and_check("rich", 6);
}

#[test]
fn a_message_that_never_arrived_is_sent_again_too() {
    let gateway = Gateway::new(1);
    gateway.serve(0, asset("rich"));
    next_report(&gateway).answer(CalloutAnswer::timeout());
    gateway.settle_and_check("rich", 1);
}

/// A gateway on which each of many accounts has made one call that nobody has reported yet; their records lie all over the
/// table.
fn many_unreported() -> (Gateway, Vec<String>) {
    let gateway = Gateway::new(1);
    let accounts: Vec<String> = (0..20).map(|number| format!("user-{number}")).collect();
    for account in &accounts {
        gateway.credit(account, "1");
        gateway.serve(0, asset(account));
    }
    (gateway, accounts)
}

fn charged(gateway: &Gateway, accounts: &[String]) -> u64 {
    accounts.iter().map(|account| gateway.charged(account)).sum()
}

#[test]
fn what_the_sidecar_left_out_comes_with_the_next_message() {
    let (gateway, accounts) = many_unreported();
    accounts.iter().for_each(|account| gateway.sidecar.borrow_mut().lock(account));
    gateway.pass(1_000);
    assert_eq!(charged(&gateway, &accounts), 0, "somebody has the accounts locked");
    accounts.iter().for_each(|account| gateway.sidecar.borrow_mut().unlock(account));
    gateway.pass(220);
    assert_eq!(charged(&gateway, &accounts), 20, "nobody has to call for it to be told again");
}

#[test]
fn what_nobody_heard_of_for_long_comes_with_the_first_message_that_is_heard() {
    let (gateway, accounts) = many_unreported();
    // Longer than a message is repeated as it was, and shorter than leases stand.
    gateway.pass_with(4_000, |gateway| {
        for call in gateway.host.take_callouts() {
            call.answer(CalloutAnswer::timeout());
        }
    });
    gateway.pass(220);
    assert_eq!(charged(&gateway, &accounts), 20);
}

#[test]
fn reports_carry_totals_that_never_shrink() {
    let gateway = Gateway::new(2);
    gateway.sidecar.borrow_mut().grant_max = 4;
    for call in 0..30 {
        gateway.serve(call % 2, asset("rich"));
        gateway.pass(70);
    }
    gateway.settle_and_check("rich", 30);
    let sidecar = gateway.sidecar.borrow();
    let mut totals = std::collections::BTreeMap::new();
    let mut last_seq = 0;
    for request in sidecar.requests() {
        assert!(last_seq < request.seq, "numbers of messages grow when nothing is lost");
        last_seq = request.seq;
        for report in &request.reports {
            let known: &mut (u64, u64) = totals.entry(report.lease).or_default();
            assert!(
                known.0 <= report.used && known.1 <= report.returned,
                "{report:?} after {known:?}"
            );
            *known = (report.used, report.returned);
        }
    }
}

#[test]
fn the_whole_process_sends_at_most_one_message_per_interval_however_many_workers_serve() {
    let gateway = Gateway::new(4);
    gateway.credit("rich", "100");
    for worker in 0..4 {
        gateway.serve(worker, asset("rich"));
    }
    gateway.pass(5_000);
    let (messages, served) = (std::cell::Cell::new(0), std::cell::Cell::new(4));
    gateway.pass_with(2_000, |gateway| {
        for vm in &gateway.vms {
            let stream = vm.request(asset("rich"));
            for call in gateway.host.take_callouts() {
                messages.set(messages.get() + 1);
                call.answer(gateway.reply_to(&call));
            }
            assert!(stream.is_forwarded());
            served.set(served.get() + 1);
        }
    });
    // Until the rate is known the lease runs dry a few times; from then on it is refilled ahead of need.
    assert!(messages.get() <= 10 + 4 * 5, "{} messages in ten intervals", messages.get());
    messages.set(0);
    gateway.pass_with(2_000, |gateway| {
        let stream = gateway.vms[1].request(asset("rich"));
        let calls = gateway.host.take_callouts();
        messages.set(messages.get() + calls.len());
        for call in calls {
            call.answer(gateway.reply_to(&call));
        }
        assert!(stream.is_forwarded());
        served.set(served.get() + 1);
    });
    assert!(messages.get() <= 11, "{} messages in ten intervals", messages.get());
    gateway.settle_and_check("rich", served.get());
}

#[test]
fn another_worker_takes_over_when_the_leading_one_stops_ticking() {
    let mut gateway = Gateway::new(3);
    gateway.serve(0, asset("rich"));
    let leader = next_report(&gateway);
    gateway.reply_to(&leader);
    let number = leader.vm().number();
    // The leader's thread is stuck: it neither ticks nor hears the answer any more.
    let stuck = gateway.vms.remove(number);
    gateway.serve(0, asset("rich"));
    gateway.pass(2_500);
    assert_eq!(gateway.charged("rich"), 2, "the others report for it");
    gateway.vms.push(stuck);
    leader.answer(CalloutAnswer::timeout());
    gateway.settle_and_check("rich", 2);
}

#[test]
fn another_worker_takes_over_when_the_leading_one_dies_with_its_message() {
    let mut gateway = Gateway::new(3);
    gateway.serve(0, asset("rich"));
    let report = next_report(&gateway);
    let number = report.vm().number();
    drop(report);
    gateway.vms.remove(number);
    gateway.serve(0, asset("rich"));
    gateway.settle_and_check("rich", 2);
}

#[test]
fn a_worker_that_starts_late_shares_the_lease() {
    let mut gateway = Gateway::new(1);
    gateway.serve(0, asset("rich"));
    let late = gateway.start_worker().expect("it starts");
    assert!(late.request(asset("rich")).is_forwarded(), "without a question");
    assert!(gateway.host.take_callouts().is_empty());
    gateway.settle_and_check("rich", 2);
}

#[test]
fn a_lease_that_the_sidecar_does_not_know_any_more_is_not_spent_for_long() {
    let gateway = Gateway::new(2);
    gateway.serve(0, asset("rich"));
    gateway.pass(500);
    // The sidecar's leases, epochs and stored replies are lost.
    gateway.sidecar.borrow_mut().forget_gateways();
    gateway.serve(1, asset("rich"));
    gateway.pass(1_000);
    assert_eq!(
        gateway.charged("rich"),
        1,
        "the second call was drawn from a lease that nobody knows"
    );
    for call in 0..5 {
        assert!(gateway.serve(call % 2, asset("rich")).is_forwarded());
    }
    gateway.settle_and_check("rich", 6);
}

#[test]
fn a_jump_of_the_wall_clock_changes_nothing() {
    let gateway = Gateway::new(2);
    gateway.serve(0, asset("rich"));
    for wall in [0, 4_000_000_000] {
        gateway.host.set_wall_clock(std::time::Duration::from_secs(wall));
        assert!(gateway.vms[1].request(asset("rich")).is_forwarded());
        assert!(gateway.host.take_callouts().is_empty());
        gateway.pass(400);
    }
    gateway.settle_and_check("rich", 3);
}

#[test]
fn answers_that_arrive_in_another_order_or_twice_charge_once() {
    let gateway = Gateway::new(2);
    let first = gateway.vms[0].request(asset("rich"));
    let second = gateway.vms[1].request(asset("rich"));
    let calls = gateway.host.take_callouts();
    let replies: Vec<_> = calls.iter().map(|call| gateway.reply_to(call)).collect();
    // The network delivers one message twice.
    assert_eq!(gateway.reply_to(&calls[0]), replies[0]);
    for (call, reply) in calls.iter().zip(&replies).rev() {
        assert!(call.answer(reply.clone()));
        assert!(!call.answer(reply.clone()));
    }
    assert!(first.is_forwarded() && second.is_forwarded());
    assert_eq!(gateway.sidecar.borrow().open_leases("rich").len(), 1);
    gateway.settle_and_check("rich", 2);
}

#[test]
fn a_grant_that_arrives_after_its_lease_has_ended_is_not_spent() {
    let gateway = Gateway::new(2);
    gateway.serve(0, asset("rich"));
    let mut served = 1;
    let first = loop {
        let stream = gateway.vms[0].request(asset("rich"));
        if stream.is_paused() {
            break stream;
        }
        served += 1;
    };
    // More units are granted, but the reply takes its time; meanwhile the sidecar takes the lease back, and the leader
    // hears of that.
    let overtaken = gateway.host.take_callouts().remove(0);
    let late = gateway.reply_to(&overtaken);
    let now = u64::try_from(gateway.host.now().as_millis()).unwrap();
    gateway.sidecar.borrow_mut().reclaim(now + 100_000);
    gateway.pass(500);
    assert_eq!(gateway.charged("rich"), served);
    // Another worker asks again: its question has a place for whatever is granted.
    let second = gateway.vms[1].request(asset("rich"));
    let call = gateway.host.take_callouts().remove(0);
    overtaken.answer(late);
    assert!(first.is_paused(), "units of a lease that has ended are not units");
    call.answer(gateway.reply_to(&call));
    gateway.pass(500);
    assert!(first.is_forwarded() && second.is_forwarded());
    gateway.settle_and_check("rich", served + 2);
}

#[test]
fn the_gauge_shows_what_the_sidecar_does_not_know_also_while_it_is_silent() {
    let gateway = Gateway::new(2);
    let unreported = || gateway.host.metric("farebox_unreported_units");
    gateway.serve(0, asset("rich"));
    gateway.pass(1_000);
    assert_eq!(unreported(), 0);
    for drawn in [3, 5] {
        while gateway.host.metric("farebox_admitted") < 1 + drawn {
            assert!(gateway.vms[0].request(asset("rich")).is_forwarded());
        }
        // The leader's message stays without an answer.
        gateway.pass_silently(600);
        assert_eq!(unreported(), drawn);
    }
    gateway.pass(1_000);
    assert_eq!(unreported(), 0);
    gateway.settle_and_check("rich", 6);
}
