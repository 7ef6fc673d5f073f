//! `max_at_risk`: a gateway borrows no more than its budget, and calls are served nevertheless.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use farebox_core::call::DEDUCT_PATH;
use farebox_core::wire::Want;
use farebox_wasm_host::sidecar::FakeSidecar;
use farebox_wasm_host::{CalloutAnswer, Hook, Random, Stream};

use crate::gateway::{Gateway, asset, at, configuration, settings, sidecar};

/// Nanos of one unit.
const PRICE: u64 = 1_000_000;

const ACCOUNTS: [&str; 4] = ["rich", "ann", "ben", "cid"];
/// Accounts that make one call each.
const GUESTS: [&str; 10] = ["g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7", "g8", "g9"];

/// A gateway that may borrow 40 units at 0.001. Routes name the price, so it is known before the first question.
fn thrifty(workers: usize) -> Gateway {
    let mut configuration = configuration();
    configuration["max_at_risk"] = "0.040".into();
    for rule in [0, 5] {
        configuration["rules"][rule]["price"] = "0.001".into();
    }
    with(workers, &configuration, sidecar())
}

fn with(workers: usize, configuration: &serde_json::Value, mut sidecar: FakeSidecar) -> Gateway {
    for account in ACCOUNTS.iter().chain(&GUESTS) {
        sidecar.credit(account, "10");
    }
    Gateway::with(workers, &settings(configuration, 1), Rc::new(RefCell::new(sidecar)))
}

/// What the sidecar has lent out.
fn lent(gateway: &Gateway) -> u64 {
    let sidecar = gateway.sidecar.borrow();
    let of_account = |account: &&str| {
        let leases = sidecar.open_leases(account);
        leases.iter().map(|lease| sidecar.outstanding(*lease)).sum::<u64>()
    };
    ACCOUNTS.iter().chain(&GUESTS).map(of_account).sum()
}

fn wants(gateway: &Gateway) -> Vec<Want> {
    let sidecar = gateway.sidecar.borrow();
    sidecar.requests().iter().flat_map(|request| request.wants.clone()).collect()
}

fn last_want(gateway: &Gateway) -> Want {
    wants(gateway).pop().unwrap()
}

/// Lends `units` to accounts of their own, one lease after the other.
fn lend(gateway: &Gateway, accounts: &[&str], units: u64) {
    for account in accounts {
        assert!(gateway.serve(0, asset(account)).is_forwarded());
    }
    assert_eq!(lent(gateway), units);
}

/// Everything has come home, and the gauges say so.
#[track_caller]
fn settle(gateway: &Gateway, served: &[(&str, u64)]) {
    for (account, units) in served {
        gateway.settle_and_check(account, *units);
    }
    gateway.pass(2_500);
    for gauge in ["unreported_units", "at_risk_nanos", "lent_units", "lent_nanos"] {
        assert_eq!(gateway.host.metric(&format!("farebox_{gauge}")), 0, "{gauge}");
    }
}

fn shared_amount(gateway: &Gateway) -> u64 {
    let (bytes, _) = gateway.host.shared_value("farebox/lent/2").expect("somebody asked");
    u64::from_le_bytes(bytes.try_into().unwrap())
}

#[test]
fn gauges_show_what_is_lent_and_what_is_drawn_and_come_back_to_zero() {
    let gateway = Gateway::new(2);
    let gauge = |name: &str| gateway.host.metric(&format!("farebox_{name}"));
    for _ in 0..3 {
        gateway.serve(0, asset("rich"));
    }
    gateway.pass_silently(210);
    assert_eq!((gauge("lent_units"), gauge("lent_nanos")), (16, 16 * PRICE));
    assert_eq!((gauge("unreported_units"), gauge("at_risk_nanos")), (3, 3 * PRICE));
    gateway.pass(1_000);
    assert_eq!((gauge("lent_units"), gauge("lent_nanos")), (13, 13 * PRICE));
    assert_eq!((gauge("unreported_units"), gauge("at_risk_nanos")), (0, 0));
    settle(&gateway, &[("rich", 3)]);
}

#[test]
fn a_new_leader_shows_nothing_before_it_has_looked_everywhere() {
    let mut gateway = Gateway::new(2);
    gateway.serve(0, asset("rich"));
    gateway.pass(300);
    let lent = || gateway.host.metric("farebox_lent_units");
    assert_eq!(lent(), 15);
    // Whoever leads stops; the other one takes over after two seconds and finds the lease with its sweep.
    for stopped in [0, 1] {
        gateway.serve(0, asset("rich"));
        // Nothing is left on the list of changes that the next leader begins with.
        gateway.pass(300);
        let vm = gateway.vms.remove(stopped);
        for _ in 0..450 {
            gateway.pass(10);
            assert!(0 < gateway.host.metric("farebox_lent_units"), "while the lease stands");
        }
        gateway.vms.insert(stopped, vm);
    }
    settle(&gateway, &[("rich", 3)]);
}

#[test]
fn a_new_leader_leaves_the_amount_alone_before_it_has_looked_everywhere() {
    let mut gateway = thrifty(2);
    // Whoever leads stops; the other one takes over, with nothing on the list of changes that it begins with.
    for stopped in [0, 1] {
        gateway.serve(0, asset("rich"));
        gateway.pass(300);
        let amount = shared_amount(&gateway);
        assert_eq!(amount, lent(&gateway) * PRICE);
        let vm = gateway.vms.remove(stopped);
        for _ in 0..450 {
            gateway.pass(10);
            assert_eq!(shared_amount(&gateway), amount, "while the lease stands");
        }
        gateway.vms.insert(stopped, vm);
    }
    settle(&gateway, &[("rich", 2)]);
}

#[test]
fn below_half_of_the_budget_nothing_is_different() {
    let gateway = thrifty(1);
    lend(&gateway, &["rich"], 16);
    assert_eq!(last_want(&gateway).units, 16);
    assert_eq!(gateway.vms[0].tick_period(), Some(Duration::from_millis(200)));
    gateway.pass(1_000);
    assert_eq!(gateway.vms[0].tick_period(), Some(Duration::from_millis(200)));
    settle(&gateway, &[("rich", 1)]);
}

#[test]
fn from_half_on_usage_is_reported_sooner_but_never_without_need() {
    let gateway = thrifty(1);
    lend(&gateway, &["rich", "ann"], 30);
    gateway.pass(210);
    let messages = || gateway.sidecar.borrow().requests().len();
    assert_eq!(gateway.vms[0].tick_period(), Some(Duration::from_millis(20)));
    for _ in 0..5 {
        let (before, charged) = (messages(), gateway.charged("rich"));
        assert!(gateway.serve(0, asset("rich")).is_forwarded());
        gateway.pass(40);
        assert_eq!(gateway.charged("rich"), charged + 1, "within two fast ticks");
        assert!(messages() <= before + 2);
    }
    // Nobody calls: reports come with the interval again.
    gateway.pass(1_000);
    let before = messages();
    gateway.pass(1_000);
    assert!(messages() <= before + 6, "{} messages in five intervals", messages() - before);
    assert_eq!(gateway.vms[0].tick_period(), Some(Duration::from_millis(200)));
    settle(&gateway, &[("rich", 6), ("ann", 1)]);
}

#[test]
fn a_report_before_its_time_waits_for_the_answer_of_the_one_before() {
    let gateway = thrifty(1);
    lend(&gateway, &["rich", "ann"], 30);
    gateway.pass_silently(210);
    let first = gateway.host.take_callouts();
    assert_eq!(first.len(), 1);
    for _ in 0..5 {
        assert!(gateway.vms[0].request(asset("rich")).is_forwarded());
        gateway.pass_silently(20);
    }
    assert!(gateway.host.take_callouts().is_empty(), "one at a time");
    first[0].answer(gateway.reply_to(&first[0]));
    gateway.pass_silently(40);
    assert_eq!(gateway.host.take_callouts().len(), 1);
    settle(&gateway, &[("rich", 6), ("ann", 1)]);
}

#[test]
fn from_three_quarters_on_only_what_waits_is_asked_for() {
    let gateway = thrifty(1);
    lend(&gateway, &["rich", "ann"], 30);
    lend(&gateway, &["ben"], 31);
    let want = last_want(&gateway);
    assert_eq!((want.units, want.min, want.waiting), (1, 1, true));
    // A lease below its low-water mark is not refilled ahead of need.
    let before = wants(&gateway).len();
    for _ in 0..12 {
        assert!(gateway.vms[0].request(asset("rich")).is_forwarded());
    }
    gateway.pass_silently(210);
    gateway.answer_all();
    let ahead = wants(&gateway)[before..].iter().filter(|want| !want.waiting).count();
    assert_eq!(ahead, 0);
    // With room again it is, when its turn comes.
    gateway.pass(2_500);
    assert!(wants(&gateway)[before..].iter().any(|want| !want.waiting));
    settle(&gateway, &[("rich", 13), ("ann", 1), ("ben", 1)]);
}

/// Lends all of the budget, in the end one unit at a time.
fn exhaust(gateway: &Gateway) {
    lend(gateway, &["rich", "ann"], 30);
    lend(gateway, &GUESTS, 40);
    assert_eq!(gateway.host.metric("farebox_budget_strict"), 0);
}

fn served_when_exhausted() -> Vec<(&'static str, u64)> {
    ["rich", "ann"].iter().chain(&GUESTS).map(|account| (*account, 1)).collect()
}

#[test]
fn beyond_the_budget_calls_are_decided_one_by_one_and_none_is_refused() {
    let gateway = thrifty(2);
    exhaust(&gateway);
    let stream = gateway.vms[1].request(asset("ben"));
    assert!(stream.is_paused());
    let calls = gateway.host.take_callouts();
    assert_eq!((calls.len(), calls[0].headers().get(":path")), (1, Some(DEDUCT_PATH)));
    calls[0].answer(gateway.reply_to(&calls[0]));
    assert!(stream.is_forwarded());
    stream.complete(200);
    let heavy = gateway.serve(1, at("/v1/heavy/1", "cid"));
    assert!(heavy.is_forwarded());
    assert_eq!(heavy.response_headers().unwrap().get("x-farebox-charge"), Some("0.005"));
    assert_eq!((gateway.host.metric("farebox_budget_strict"), lent(&gateway)), (2, 40));
    // Reports make room, and leases are used again.
    gateway.pass(600);
    assert!(gateway.serve(1, asset("ben")).is_forwarded());
    assert_eq!(gateway.host.metric("farebox_budget_strict"), 2);
    settle(&gateway, &[[("ben", 2), ("cid", 5)].as_slice(), &served_when_exhausted()].concat());
}

#[test]
fn a_call_beyond_the_budget_is_refused_for_money_alone_and_goes_by_its_rule_when_the_sidecar_is_away()
 {
    let gateway = thrifty(1);
    exhaust(&gateway);
    let poor = gateway.serve(0, asset("nobody"));
    assert_eq!(poor.status(), Some(402), "{:?}", poor.state());
    let away = gateway.vms[0].request(asset("cid"));
    for _ in 0..2 {
        let calls = gateway.host.take_callouts();
        calls.iter().for_each(|call| assert!(call.answer(CalloutAnswer::Reset)));
    }
    assert_eq!(away.status(), Some(503), "{:?}", away.state());
    settle(&gateway, &served_when_exhausted());
}

/// Two workers ask at the same moment: before every access of the one to shared data, the other one runs.
#[test]
fn two_workers_that_ask_at_once_do_not_borrow_more_than_the_budget() {
    for nth in 0..200 {
        let gateway = thrifty(2);
        lend(&gateway, &["rich"], 16);
        let (overtaken, other) = (Rc::new(Cell::new(None)), gateway.clone());
        let (place, mut accesses) = (Rc::clone(&overtaken), 0);
        gateway.host.before_shared_data(move |_| {
            accesses += 1;
            if accesses <= nth {
                return Hook::Keep;
            }
            let streams: Vec<Stream> = ["ann", "ben"]
                .map(|account| other.vms[1].request(at("/v1/heavy/1", account)))
                .into();
            place.set(Some(streams));
            Hook::Remove
        });
        let mut streams = vec![gateway.vms[0].request(at("/v1/heavy/1", "cid"))];
        gateway.host.remove_hook();
        let Some(theirs) = overtaken.take() else {
            assert!(5 < nth, "asking touches shared data");
            return;
        };
        streams.extend(theirs);
        let calls = gateway.host.take_callouts();
        for call in calls {
            call.answer(gateway.reply_to(&call));
            assert!(lent(&gateway) <= 40, "{} units at access {nth}", lent(&gateway));
        }
        gateway.answer_all();
        for stream in &streams {
            assert!(stream.is_forwarded(), "{:?} at access {nth}", stream.state());
            stream.complete(200);
        }
        gateway.pass(410);
        assert_eq!(shared_amount(&gateway), lent(&gateway) * PRICE, "nothing is expected any more");
        settle(&gateway, &[("rich", 1), ("ann", 5), ("ben", 5), ("cid", 5)]);
    }
    panic!("a call that touches shared data 200 times");
}

/// The leader sums up while another worker asks, at every access.
#[test]
fn a_question_is_never_lost_from_the_sum_that_the_leader_takes() {
    for nth in 0..2_000 {
        let gateway = thrifty(2);
        // The first one to tick leads.
        gateway.vms[0].tick();
        lend(&gateway, &["rich"], 16);
        let (overtaken, other) = (Rc::new(Cell::new(None)), gateway.clone());
        let (place, mut accesses) = (Rc::clone(&overtaken), 0);
        gateway.host.before_shared_data(move |_| {
            accesses += 1;
            // The sweep reads a thousand sets that are empty: every access near its ends is tried, few in between.
            if accesses <= nth {
                return Hook::Keep;
            }
            place.set(Some(other.vms[1].request(asset("ann"))));
            Hook::Remove
        });
        gateway.host.advance(Duration::from_millis(200));
        gateway.vms[0].tick();
        gateway.host.remove_hook();
        let Some(stream) = overtaken.take() else {
            assert!(5 < nth, "a report touches shared data");
            return;
        };
        assert!(stream.is_paused());
        assert!(30 * PRICE - PRICE <= shared_amount(&gateway), "at access {nth}");
        gateway.answer_all();
        assert!(stream.is_forwarded());
        stream.complete(200);
        assert!(lent(&gateway) * PRICE <= shared_amount(&gateway) + PRICE, "at access {nth}");
    }
    panic!("a tick that touches shared data 2,000 times");
}

#[test]
fn what_was_refused_does_not_count() {
    let gateway = thrifty(1);
    assert_eq!(gateway.serve(0, asset("nobody")).status(), Some(402));
    assert_eq!(shared_amount(&gateway), 16 * PRICE);
    gateway.pass(210);
    assert_eq!(shared_amount(&gateway), 0);
}

#[test]
fn what_a_worker_that_died_had_asked_for_does_not_count_for_ever() {
    let mut gateway = thrifty(2);
    lend(&gateway, &["rich"], 16);
    drop(gateway.vms[1].request(asset("ann")));
    assert_eq!(shared_amount(&gateway), 30 * PRICE);
    drop(gateway.host.take_callouts());
    gateway.vms.remove(1);
    gateway.pass(4_000);
    assert_eq!(shared_amount(&gateway), 15 * PRICE);
    settle(&gateway, &[("rich", 1)]);
}

#[test]
fn a_price_that_nobody_has_told_yet_is_learnt_with_as_few_units_as_help() {
    let mut configuration = configuration();
    configuration["max_at_risk"] = "0.040".into();
    let gateway = with(1, &configuration, sidecar());
    assert!(gateway.serve(0, at("/v1/heavy/1", "rich")).is_forwarded());
    assert_eq!((last_want(&gateway).units, lent(&gateway)), (5, 5));
    assert_eq!(shared_amount(&gateway), 5 * PRICE, "from now on it is known");
    assert!(gateway.serve(0, at("/v1/heavy/1", "rich")).is_forwarded());
    assert_eq!(last_want(&gateway).units, 25, "as traffic suggests, up to three quarters");
    settle(&gateway, &[("rich", 10)]);
}

#[test]
fn units_that_a_lost_reply_had_granted_are_not_borrowed_twice() {
    let gateway = thrifty(1);
    let lost = gateway.vms[0].request(asset("rich"));
    let call = gateway.host.take_callouts().remove(0);
    gateway.reply_to(&call);
    call.answer(CalloutAnswer::timeout());
    assert_eq!((lost.status(), lent(&gateway)), (Some(503), 16));
    // The note of that question runs out, so its units are not expected any more.
    gateway.pass(3_500);
    assert!(gateway.serve(0, asset("rich")).is_forwarded());
    assert_eq!(lent(&gateway), 32, "the sidecar counts both");
    gateway.pass(400);
    assert_eq!(lent(&gateway), 15, "the first went back unused");
    settle(&gateway, &[("rich", 1)]);
}

/// What would be lost if the gateway were killed now: units of calls that were served and are not booked.
fn at_stake(gateway: &Gateway, calls: &[(Stream, u64)]) -> u64 {
    let served = calls.iter().filter(|(stream, _)| stream.is_forwarded()).map(|(_, units)| units);
    let charged: u64 = ACCOUNTS.map(|name| gateway.charged(name)).iter().sum();
    served.sum::<u64>().saturating_sub(charged)
}

#[test]
fn whatever_happens_a_kill_loses_no_more_than_the_budget() {
    let mut strict = 0;
    for seed in 0..30 {
        let gateway = thrifty(3);
        let mut random = Random::new(seed);
        let (mut calls, mut callouts, mut worst) = (Vec::new(), Vec::new(), 0);
        for _ in 0..400 {
            let vm = &gateway.vms[random.index(3)];
            match random.below(10) {
                0..=4 => {
                    let (path, units) = [("/v1/asset/1", 1), ("/v1/heavy/1", 5)][random.index(2)];
                    let account = ACCOUNTS[random.index(4)];
                    calls.push((vm.request(at(path, account)), units));
                }
                5 => vm.tick(),
                6..=8 if !callouts.is_empty() => {
                    let call: farebox_wasm_host::Callout =
                        callouts.swap_remove(random.index(callouts.len()));
                    match random.below(10) {
                        0 => call.answer(CalloutAnswer::timeout()),
                        1 => {
                            gateway.reply_to(&call);
                            call.answer(CalloutAnswer::Reset)
                        }
                        _ => call.answer(gateway.reply_to(&call)),
                    };
                }
                _ => gateway.host.advance(Duration::from_millis(random.below(40))),
            }
            callouts.extend(gateway.host.take_callouts());
            worst = worst.max(at_stake(&gateway, &calls));
            assert!(worst <= 40, "seed {seed}: a kill would lose {worst} units");
        }
        strict += gateway.host.metric("farebox_budget_strict");
        gateway.host.assert_no_faults();
    }
    assert!(0 < strict, "the budget is reached");
}
