//! Two workers at one record: every interleaving of one guest call with another, step by step.
//!
//! The shared map is all that workers share, so a call of one worker can only be disturbed where it touches the map. These
//! tests repeat a scene, and each time let the other worker run at the next access, until there is no further access.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use farebox_wasm_host::{Access, CalloutAnswer, Hook, Request, Stream};

use crate::gateway::{Gateway, asset, at};

/// Runs `act` with `overtake` in the middle of it: before its first access to shared data, before its second, and so on.
/// Each time a gateway of its own, made by `scene`, is used, and `check` looks at it in the end.
fn at_every_access<S>(
    scene: impl Fn() -> (Gateway, S),
    act: impl Fn(&Gateway, &S) -> Vec<Stream>,
    overtake: impl Fn(&Gateway) -> Vec<Stream> + Clone + 'static,
    check: impl Fn(&Gateway, &[Stream]),
) {
    for nth in 0..200 {
        let (gateway, state) = scene();
        let overtaken = Rc::new(Cell::new(None));
        let (place, other, overtake) = (Rc::clone(&overtaken), gateway.clone(), overtake.clone());
        let mut accesses = 0;
        gateway.host.before_shared_data(move |_| {
            accesses += 1;
            if accesses <= nth {
                return Hook::Keep;
            }
            place.set(Some(overtake(&other)));
            Hook::Remove
        });
        let mut streams = act(&gateway, &state);
        gateway.host.remove_hook();
        let Some(theirs) = overtaken.take() else {
            assert!(1 < nth, "the scene touches shared data");
            return;
        };
        streams.extend(theirs);
        check(&gateway, &streams);
    }
    panic!("a call that touches shared data 200 times");
}

fn all_served(gateway: &Gateway, streams: &[Stream], account: &str, units: u64) {
    gateway.answer_all();
    for stream in streams {
        assert!(stream.is_forwarded() && stream.is_settled(), "{:?}", stream.state());
        stream.complete(200);
    }
    gateway.settle_and_check(account, units);
}

#[test]
fn two_workers_create_one_record_at_the_same_moment() {
    at_every_access(
        || (Gateway::new(2), ()),
        |gateway, ()| vec![gateway.vms[0].request(asset("rich"))],
        |gateway| vec![gateway.vms[1].request(asset("rich"))],
        |gateway, streams| {
            assert!(streams.iter().all(Stream::is_paused));
            gateway.answer_all();
            assert_eq!(
                gateway.sidecar.borrow().open_leases("rich").len(),
                1,
                "both share one lease"
            );
            all_served(gateway, streams, "rich", 2);
        },
    );
}

#[test]
fn two_workers_draw_from_one_lease_at_the_same_moment() {
    let scene = || {
        let gateway = Gateway::new(2);
        assert!(gateway.serve(0, asset("rich")).is_forwarded());
        (gateway, ())
    };
    at_every_access(
        scene,
        |gateway, ()| vec![gateway.vms[0].request(asset("rich"))],
        |gateway| vec![gateway.vms[1].request(asset("rich"))],
        |gateway, streams| all_served(gateway, streams, "rich", 3),
    );
}

#[test]
fn the_last_unit_is_drawn_once() {
    let scene = || {
        let gateway = Gateway::new(2);
        gateway.credit("last", "0.002");
        assert!(gateway.serve(0, asset("last")).is_forwarded());
        (gateway, ())
    };
    at_every_access(
        scene,
        |gateway, ()| vec![gateway.vms[0].request(asset("last"))],
        |gateway| vec![gateway.vms[1].request(asset("last"))],
        |gateway, streams| {
            gateway.answer_all();
            gateway.pass(100);
            let served = streams.iter().filter(|stream| stream.is_forwarded()).count();
            assert_eq!(served, 1, "{:?}", streams.iter().map(Stream::state).collect::<Vec<_>>());
            assert!(streams.iter().all(Stream::is_settled));
            gateway.settle_and_check("last", 2);
        },
    );
}

#[test]
fn a_grant_arrives_while_another_worker_draws() {
    let scene = || {
        let gateway = Gateway::new(2);
        assert!(gateway.serve(1, asset("rich")).is_forwarded());
        // The lease runs dry, and the first worker asks for more.
        let mut drained = 1;
        let waiting = loop {
            let stream = gateway.vms[0].request(asset("rich"));
            if stream.is_paused() {
                break stream;
            }
            drained += 1;
        };
        let calls = gateway.host.take_callouts();
        assert_eq!(calls.len(), 1);
        let reply = gateway.reply_to(&calls[0]);
        (gateway, (waiting, calls, reply, drained))
    };
    let drained = scene().1.3;
    at_every_access(
        scene,
        |_, (waiting, calls, reply, _)| {
            calls[0].answer(reply.clone());
            vec![waiting.clone()]
        },
        |gateway| vec![gateway.vms[1].request(asset("rich"))],
        move |gateway, streams| all_served(gateway, streams, "rich", drained + 2),
    );
}

#[test]
fn the_leader_reports_while_another_worker_draws() {
    let scene = || {
        let gateway = Gateway::new(2);
        assert!(gateway.serve(1, asset("rich")).is_forwarded());
        gateway.vms[0].tick();
        gateway.answer_all();
        assert!(gateway.serve(1, asset("rich")).is_forwarded());
        gateway.host.advance(Duration::from_millis(200));
        (gateway, ())
    };
    // A sweep of the slot table reads hundreds of sets that hold nothing: only accesses to what exists matter.
    let only_where_it_matters = |access: &Access<'_>| match access {
        Access::Get { vm, key } => vm.host().shared_value(key).is_some(),
        Access::Set { .. } => true,
    };
    for nth in 0..200 {
        let (gateway, ()) = scene();
        let theirs = Rc::new(Cell::new(None));
        let (place, other) = (Rc::clone(&theirs), gateway.clone());
        let mut accesses = 0;
        gateway.host.before_shared_data(move |access| {
            accesses += usize::from(only_where_it_matters(access));
            if accesses <= nth {
                return Hook::Keep;
            }
            place.set(Some(other.vms[1].request(asset("rich"))));
            Hook::Remove
        });
        gateway.vms[0].tick();
        gateway.host.remove_hook();
        let Some(stream) = theirs.take() else {
            assert!(4 < nth, "the leader touches shared data");
            return;
        };
        all_served(&gateway, &[stream], "rich", 3);
    }
    panic!("a tick that touches 200 shared values");
}

#[test]
fn a_storm_of_mismatches_is_survived_and_an_endless_one_ends_in_the_rules_answer() {
    for (storm, is_served) in [(10, true), (60, true), (1_000, false)] {
        let gateway = Gateway::new(2);
        assert!(gateway.serve(1, asset("rich")).is_forwarded());
        let left = Rc::new(Cell::new(storm));
        let (host, counter) = (gateway.host.clone(), Rc::clone(&left));
        gateway.host.before_shared_data_set(move |_, key| {
            if key.contains("/set/") && counter.get() != 0 {
                counter.set(counter.get() - 1);
                // Somebody else writes the same value again: nothing but the number changes.
                let (value, cas) = host.shared_value(key).expect("the set exists");
                host.set_shared_value(key, &value, cas).expect("nobody is in between");
            }
            Hook::Keep
        });
        let stream = gateway.vms[0].request(asset("rich"));
        gateway.host.remove_hook();
        assert_eq!(stream.is_forwarded(), is_served, "{:?}", stream.state());
        assert!(stream.is_settled(), "an endless storm is answered, not waited out");
        assert!(0 < gateway.host.metric("farebox_cas_conflicts"));
        if !is_served {
            assert_eq!(stream.status(), Some(503));
        }
        gateway.settle_and_check("rich", if is_served { 2 } else { 1 });
    }
}

#[test]
fn the_first_two_workers_agree_on_one_instance() {
    let gateway = Gateway::new(2);
    let overtaker = gateway.vms[1].clone();
    gateway.host.before_shared_data_set(move |_, _| {
        overtaker.request(asset("other"));
        Hook::Remove
    });
    gateway.vms[0].request(asset("rich"));
    let bodies: Vec<serde_json::Value> = gateway
        .host
        .take_callouts()
        .iter()
        .map(|call| serde_json::from_slice(call.body()).expect("the filter sends JSON"))
        .collect();
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0]["instance"], bodies[1]["instance"]);
    assert_ne!(bodies[0]["seq"], bodies[1]["seq"]);
}

#[test]
fn a_success_ends_while_another_worker_draws() {
    let payment =
        |gateway: &Gateway, worker: usize| gateway.vms[worker].request(at("/v1/payment/1", "rich"));
    let scene = move || {
        let gateway = Gateway::new(2);
        let stream = payment(&gateway, 0);
        gateway.answer_all();
        assert!(stream.is_forwarded());
        (gateway, stream)
    };
    for status in [200, 503] {
        at_every_access(
            scene,
            move |_, stream| {
                stream.complete(status);
                Vec::new()
            },
            move |gateway| vec![payment(gateway, 1)],
            move |gateway, streams| {
                all_served(gateway, streams, "rich", 1 + u64::from(status == 200));
            },
        );
    }
}

#[test]
fn a_failed_question_of_one_worker_does_not_refuse_what_another_one_brought() {
    let gateway = Gateway::new(2);
    let (first, second) =
        (gateway.vms[0].request(asset("rich")), gateway.vms[1].request(asset("rich")));
    let calls = gateway.host.take_callouts();
    assert_eq!(calls.len(), 2);
    calls[1].answer(gateway.reply_to(&calls[1]));
    calls[0].answer(CalloutAnswer::timeout());
    assert!(
        first.is_forwarded() && second.is_forwarded(),
        "the lease that the second brought serves both"
    );
    let request: Request = asset("rich");
    assert!(gateway.vms[0].request(request).is_forwarded());
    gateway.settle_and_check("rich", 3);
}
