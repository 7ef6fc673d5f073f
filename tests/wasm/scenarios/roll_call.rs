//! VMs that die: the units of their running calls come home, and nobody else's.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use farebox_wasm_host::{Access, CalloutAnswer, Fault, Hook, LogLine, Request, Stream};
use serde_json::Value as Json;

use crate::gateway::{Gateway, at, configuration, settings, sidecar, trap_filter};

/// How long a VM may be silent, its own time to notice that, and the roll call.
const HOME_MS: u64 = 10_000 + 2_000;

/// A call that is charged when it ends well.
fn pay() -> Request {
    at("/v1/payment/1", "rich")
}

fn running(gateway: &Gateway, worker: usize, request: Request) -> Stream {
    let stream = gateway.vms[worker].request(request);
    gateway.answer_all();
    assert!(stream.is_forwarded(), "{:?}", stream.state());
    stream
}

/// A worker stops without a word, as after a trap.
fn kill(gateway: &mut Gateway, worker: usize) {
    gateway.vms.remove(worker);
}

/// Units that the gateway says are held by running calls.
fn in_flight(gateway: &Gateway) -> u64 {
    let sidecar = gateway.sidecar.borrow();
    let reports = sidecar.requests().iter().rev().flat_map(|request| &request.reports);
    reports.map(|report| report.in_flight).next().unwrap_or(0)
}

fn log_of(gateway: &Gateway, text: &str) -> usize {
    gateway.host.logs().iter().filter(|line| line.text.contains(text)).count()
}

const FOUND: &str = "of calls of a VM that died have come back";

#[test]
fn units_of_a_dead_vm_come_home_and_calls_of_the_living_settle_exactly() {
    for dies in 0..3 {
        let mut gateway = Gateway::new(3);
        gateway.pass(11_000);
        let mut streams: Vec<Vec<Stream>> = (0..3)
            .map(|worker| (0..3).map(|_| running(&gateway, worker, pay())).collect())
            .collect();
        gateway.pass(500);
        drop(streams.remove(dies));
        kill(&mut gateway, dies);
        gateway.pass(HOME_MS);
        assert_eq!(in_flight(&gateway), 6, "the dead one was {dies}");
        assert_eq!(log_of(&gateway, &format!("3 units {FOUND}")), 1);
        for (index, stream) in streams.iter().flatten().enumerate() {
            stream.complete(if index == 0 { 503 } else { 200 });
        }
        gateway.settle_and_check("rich", 5);
    }
}

#[test]
fn a_vm_that_traps_with_calls_on_it_leaves_nothing_behind() {
    let mut world = sidecar();
    world.credit("rich", "1");
    let settings = settings(&configuration(), 1);
    let gateway = Gateway::of(trap_filter(), 2, &settings, Rc::new(RefCell::new(world)));
    gateway.pass(11_000);
    let long = running(&gateway, 1, pay());
    running(&gateway, 0, pay());
    let deadly = running(&gateway, 0, pay().header("x-farebox-test-trap", "log"));
    deadly.complete(200);
    assert!(matches!(gateway.host.take_faults().as_slice(), [Fault::Trap { vm: 0, .. }]));
    gateway.pass(HOME_MS);
    assert_eq!((in_flight(&gateway), gateway.charged("rich")), (1, 0));
    long.complete(200);
    gateway.settle_and_check("rich", 1);
}

#[test]
fn calls_of_the_living_begin_and_end_while_the_roll_is_called() {
    let mut gateway = Gateway::new(3);
    gateway.pass(11_000);
    drop(running(&gateway, 0, pay()));
    kill(&mut gateway, 0);
    let (mut open, mut ended) = (Vec::new(), 0);
    for round in 0..240 {
        open.push(running(&gateway, round % 2, pay()));
        if 5 < open.len() {
            open.remove(round % open.len()).complete(200);
            ended += 1;
        }
        gateway.pass(50);
    }
    assert_eq!(log_of(&gateway, &format!("1 units {FOUND}")), 1);
    gateway.pass(500);
    assert_eq!(in_flight(&gateway), 5);
    for stream in open {
        stream.complete(200);
        ended += 1;
    }
    gateway.settle_and_check("rich", ended);
}

/// The tick of one worker is overtaken by another's calls and ticks, wherever it touches shared data.
#[test]
fn a_roll_call_is_right_whatever_happens_in_the_middle_of_it() {
    for nth in 0..24 {
        let mut gateway = Gateway::new(3);
        gateway.pass(11_000);
        drop(running(&gateway, 0, pay()));
        let calls: Vec<Stream> =
            (0..4).map(|call| running(&gateway, 1 + call % 2, pay())).collect();
        kill(&mut gateway, 0);
        gateway.pass(9_000);
        // From here on, ticks are disturbed: every so many accesses the other worker ends or begins a call, or ticks.
        let (streams, others) = (Rc::new(RefCell::new(calls)), gateway.vms.clone());
        let (mut accesses, mut turn, ended) = (0, 0, Rc::new(RefCell::new(0)));
        let (shared, count) = (Rc::clone(&streams), Rc::clone(&ended));
        gateway.host.before_shared_data(move |access| {
            accesses += 1;
            let name = match access {
                Access::Get { key, .. } | Access::Set { key, .. } => *key,
            };
            let counts = !name.starts_with("farebox/changed") && (accesses + nth) % 97 == 0
                || name.starts_with("farebox/roster") && (accesses + nth) % 3 == 0;
            let Some(vm) = others.iter().find(|vm| !vm.is_busy()).filter(|_| counts) else {
                return Hook::Keep;
            };
            turn += 1;
            match turn % 3 {
                0 => vm.tick(),
                1 => {
                    let stream = vm.request(pay());
                    shared.borrow_mut().push(stream);
                }
                _ => {
                    let mine = shared
                        .borrow()
                        .iter()
                        .position(|stream| stream.is_forwarded() && !stream.vm().is_busy());
                    if let Some(place) = mine {
                        let stream = shared.borrow_mut().remove(place);
                        stream.complete(200);
                        *count.borrow_mut() += 1;
                    }
                }
            }
            Hook::Keep
        });
        gateway.pass(3_000);
        gateway.host.remove_hook();
        gateway.pass(1_000);
        assert_eq!(log_of(&gateway, &format!("1 units {FOUND}")), 1, "at {nth}");
        let rest: Vec<Stream> = streams.borrow_mut().drain(..).collect();
        let mut ended = *ended.borrow();
        for stream in rest {
            stream.complete(200);
            ended += 1;
        }
        gateway.settle_and_check("rich", ended);
    }
}

#[test]
fn the_leader_may_die_in_the_middle_of_the_roll_call() {
    let mut gateway = Gateway::new(4);
    gateway.pass(11_000);
    drop(running(&gateway, 0, pay()));
    drop(running(&gateway, 1, pay()));
    let long = running(&gateway, 3, pay());
    kill(&mut gateway, 0);
    // The next worker of the list leads at some time, and dies while the roll call is open.
    let silent = |gateway: &Gateway| log_of(gateway, "fallen silent");
    while silent(&gateway) == 0 {
        gateway.pass(10);
    }
    let line = gateway.host.logs().into_iter().find(|line| line.text.contains("fallen silent"));
    let leader = line.unwrap().vm;
    let place = gateway.vms.iter().position(|vm| vm.number() == leader).unwrap();
    let (is_one, is_three) = (leader == 1, leader == 3);
    if !is_three {
        kill(&mut gateway, place);
    }
    gateway.pass(2 * HOME_MS);
    let running = if is_one { 1 } else { 2 };
    assert_eq!(in_flight(&gateway), running);
    long.complete(200);
    gateway.pass(1_000);
    assert_eq!(gateway.charged("rich"), 1);
}

#[test]
fn a_worker_that_only_stood_still_is_not_charged_twice_and_corrupts_nothing() {
    let mut gateway = Gateway::new(3);
    gateway.pass(11_000);
    let stalled: Vec<Stream> = (0..4).map(|_| running(&gateway, 0, pay())).collect();
    let other = running(&gateway, 1, pay());
    let vm = gateway.vms.remove(0);
    for _ in 0..12 {
        running(&gateway, 0, pay()).complete(200);
        gateway.pass(HOME_MS / 12);
    }
    assert_eq!(in_flight(&gateway), 1, "the stalled one counts as dead");
    // Its calls end: two before its first tick, two after that, of each one well.
    stalled[0].complete(200);
    stalled[1].complete(503);
    gateway.vms.insert(0, vm);
    gateway.pass(1_000);
    assert_eq!((in_flight(&gateway), gateway.charged("rich")), (1, 13), "the lease had units left");
    // Its new calls are as good as anybody's.
    let next = running(&gateway, 0, pay());
    kill(&mut gateway, 2);
    for _ in 0..12 {
        running(&gateway, 1, pay()).complete(200);
        gateway.pass(HOME_MS / 12);
    }
    stalled[2].complete(200);
    stalled[3].complete(503);
    next.complete(200);
    other.complete(200);
    gateway.settle_and_check("rich", 28);
    assert_eq!(log_of(&gateway, FOUND), 1, "the second roll call finds nothing");
}

/// A worker is struck off, and wakes when its units have been given back but the roll call is not closed yet.
#[test]
fn a_claim_that_comes_too_late_takes_nothing_from_others() {
    let mut gateway = Gateway::new(2);
    gateway.pass(11_000);
    let stalled = running(&gateway, 0, pay());
    let other = running(&gateway, 1, pay());
    let vm = gateway.vms.remove(0);
    let (late, mut roll) = (vm.clone(), 0);
    gateway.host.before_shared_data_set(move |_, key| {
        // The roster is written when the roll call begins, when it opens, by the answer, and when it closes.
        roll += u32::from(key == "farebox/roster/2" && late.host().logs().iter().any(is_silence));
        if roll < 3 {
            return Hook::Keep;
        }
        late.tick();
        Hook::Remove
    });
    for _ in 0..12 {
        running(&gateway, 0, pay()).complete(200);
        gateway.pass(HOME_MS / 12);
    }
    assert_eq!(log_of(&gateway, &format!("1 units {FOUND}")), 1);
    stalled.complete(200);
    running(&gateway, 0, pay()).complete(200);
    gateway.pass(500);
    assert_eq!(in_flight(&gateway), 1, "the other one still runs");
    gateway.vms.insert(0, vm);
    other.complete(200);
    gateway.settle_and_check("rich", 15);
}

fn is_silence(line: &LogLine) -> bool {
    line.text.contains("fallen silent")
}

#[test]
fn the_roll_call_waits_for_a_worker_that_is_slow() {
    let mut gateway = Gateway::new(3);
    gateway.pass(11_000);
    drop(running(&gateway, 0, pay()));
    let (slow, other) = (running(&gateway, 1, pay()), running(&gateway, 2, pay()));
    kill(&mut gateway, 0);
    gateway.pass(6_000);
    // Whoever leads ticks on; the other one does not while the roll is called, but not for so long that it counts as dead.
    let silent = |gateway: &Gateway| gateway.host.logs().iter().any(is_silence);
    while !silent(&gateway) {
        gateway.pass(10);
    }
    let line = gateway.host.logs().into_iter().find(is_silence).unwrap();
    let place = gateway.vms.iter().position(|vm| vm.number() != line.vm).unwrap();
    let vm = gateway.vms.remove(place);
    gateway.pass(3_000);
    assert_eq!(log_of(&gateway, FOUND), 0, "one has not answered");
    gateway.vms.insert(place, vm);
    gateway.pass(1_000);
    assert_eq!(log_of(&gateway, &format!("1 units {FOUND}")), 1);
    slow.complete(200);
    other.complete(200);
    gateway.settle_and_check("rich", 2);
}

#[test]
fn a_roll_call_whose_leader_died_before_it_opened_begins_anew() {
    let mut gateway = Gateway::new(3);
    gateway.pass(11_000);
    let (mut roster, cas) = gateway.host.shared_value("farebox/roster/2").unwrap();
    roster[..16].copy_from_slice(&[[7, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]].concat());
    gateway.host.set_shared_value("farebox/roster/2", &roster, cas).unwrap();
    drop(running(&gateway, 0, pay()));
    kill(&mut gateway, 0);
    gateway.pass(HOME_MS);
    assert_eq!(log_of(&gateway, &format!("1 units {FOUND}")), 1);
    gateway.settle_and_check("rich", 0);
}

#[test]
fn a_process_that_stood_still_loses_nobody() {
    let gateway = Gateway::new(3);
    gateway.pass(11_000);
    let streams: Vec<Stream> = (0..3).map(|worker| running(&gateway, worker, pay())).collect();
    gateway.pass(500);
    for _ in 0..2 {
        gateway.host.advance(Duration::from_secs(60));
        gateway.pass(HOME_MS);
    }
    assert_eq!(log_of(&gateway, "fallen silent"), 0);
    for stream in &streams {
        stream.complete(200);
    }
    gateway.settle_and_check("rich", 3);
}

#[test]
fn a_worker_whose_configuration_is_taken_away_signs_off() {
    let mut gateway = Gateway::new(2);
    let vm = gateway.vms.remove(0);
    let stream = vm.request(pay());
    gateway.answer_all();
    stream.complete(200);
    let open = vm.request(pay());
    assert!(open.is_forwarded());
    assert!(vm.shut_down());
    drop((vm, open));
    gateway.pass(3 * HOME_MS);
    assert_eq!(log_of(&gateway, "fallen silent"), 0);
    gateway.settle_and_check("rich", 1);
}

#[test]
fn calls_allowed_without_a_lease_free_their_places_too() {
    let mut rules: Json = configuration();
    rules["rules"][3]["charge_on"] = "success".into();
    let settings = settings(&rules, 1);
    let mut gateway = Gateway::with(2, &settings, Rc::new(RefCell::new(sidecar())));
    gateway.pass(11_000);
    let blind = |gateway: &Gateway, worker: usize| {
        let stream = gateway.vms[worker].request(at("/v1/grace/1", "rich"));
        for call in gateway.host.take_callouts() {
            call.answer(CalloutAnswer::Reset);
        }
        stream
    };
    let kept = blind(&gateway, 1);
    for _ in 0..2 {
        assert!(blind(&gateway, 0).is_forwarded());
    }
    assert!(!blind(&gateway, 1).is_forwarded(), "three may run");
    kill(&mut gateway, 0);
    gateway.pass_with(HOME_MS, |gateway| {
        for call in gateway.host.take_callouts() {
            call.answer(CalloutAnswer::Reset);
        }
    });
    assert_eq!(log_of(&gateway, &format!("2 units {FOUND}")), 1);
    let next = [blind(&gateway, 0), blind(&gateway, 0)];
    assert!(next.iter().all(Stream::is_forwarded) && !blind(&gateway, 0).is_forwarded());
    for stream in next.iter().chain([&kept]) {
        stream.complete(200);
    }
    gateway.pass(2_000);
    assert_eq!(gateway.charged("rich"), 3);
}

#[test]
fn running_calls_cost_no_more_accesses_than_before() {
    let gateway = Gateway::new(1);
    running(&gateway, 0, pay()).complete(200);
    gateway.pass(500);
    running(&gateway, 0, pay()).complete(200);
    let count = Rc::new(std::cell::Cell::new(0));
    let counter = Rc::clone(&count);
    gateway.host.before_shared_data(move |_| {
        counter.set(counter.get() + 1);
        Hook::Keep
    });
    let stream = gateway.vms[0].request(pay());
    assert_eq!((stream.is_forwarded(), count.take()), (true, 2), "one read, one write");
    stream.complete(200);
    assert_eq!(count.take(), 2);
}
