//! One lease and two workers: each pair of draw, end of a call, recall, and report with its settlement and refill, in
//! every order.

use std::sync::Arc;

use farebox_core::lease::Usage;
use farebox_core::money::Nanos;
use farebox_core::wire::{Ack, FreeQuota, Grant, LeaseKey, SyncReply, SyncRequest};
use farebox_filter::host::Host;
use farebox_filter::record::{ChargeOn, Record};
use farebox_filter::sync::{self, Draft, Sent, Timing};
use farebox_filter::table::{self, Write};
use farebox_protocol_tests::process::{VmHost, Writes};
use shuttle::thread;

use crate::explore::{every_order, found, process};

const SEED: u64 = 5;
/// Units granted before, one of which a running call has drawn, and after a refill.
const GRANTED: u64 = 3;
const REFILLED: u64 = 5;
/// The calls began before any roll call.
const NO_ROLL: u64 = 0;

/// Something that a worker does; how many units it draws for good.
type Act = fn(&VmHost) -> u64;

const ACTS: [(&str, Act); 5] = [
    ("draw", |host| change(host, |record| record.draw(1, ChargeOn::Request, 0).map_or(0, |_| 1))),
    ("finish", |host| {
        change(host, |record| {
            // Two workers end the only running call: the second one finds none.
            let units = record.in_flight.units.min(1);
            record.finish(units, 0, NO_ROLL, true);
            units
        })
    }),
    ("fail", |host| {
        change(host, |record| {
            let units = record.in_flight.units.min(1);
            record.finish(units, 0, NO_ROLL, false);
            0
        })
    }),
    ("give back", |host| {
        change(host, |record| {
            record.yield_units();
            0
        })
    }),
    ("settle", settle),
];

fn key() -> LeaseKey {
    LeaseKey { account: "ann".parse().unwrap(), service: "asset".parse().unwrap(), price: None }
}

fn set() -> usize {
    table::set_of(SEED, &key())
}

fn change(host: &VmHost, change: impl Fn(&mut Record) -> u64) -> u64 {
    let changed = table::update(host, set(), |content| {
        let (place, mut record) = content.lease(1).expect("the lease stands");
        let units = change(&mut record);
        content.put(place, &record);
        (units, Write::Yes)
    });
    changed.expect("two workers do not hinder each other for ever")
}

fn grant(units: u64) -> Grant {
    Grant {
        lease: 1,
        key: key(),
        free_units: 0,
        paid_units: units,
        price: Nanos::new(1),
        ttl_ms: 10_000,
        low_water: 1,
        is_final: false,
        free_quota: FreeQuota::default(),
    }
}

/// Reports the lease and takes the reply in, which acknowledges and grants more.
fn settle(host: &VmHost) -> u64 {
    let now = host.now_ms();
    let timing = Timing { now, idle_return_ms: 60_000, answer_within_ms: 1_000, budget: None };
    let mut draft = Draft::default();
    sync::collect(host, set(), timing, &mut draft);
    let acks = draft.reports.iter().map(|report| Ack {
        lease: report.lease,
        used: report.used,
        open: true,
        ttl_ms: 10_000,
    });
    let grants = vec![grant(REFILLED)];
    let reply = SyncReply { epoch: 1, acks: acks.collect(), grants, ..SyncReply::default() };
    let header = SyncRequest {
        gateway: "edge-1".parse().unwrap(),
        instance: String::new(),
        epoch: 1,
        seq: 1,
        reports: Vec::new(),
        wants: Vec::new(),
        journal: Vec::new(),
    };
    sync::apply(host, SEED, &Sent::new(draft, header, now), &reply, timing);
    0
}

fn scene(acts: [(&str, Act); 2], writes: Writes) {
    let process = Arc::new(process(writes));
    let host = VmHost::new(Arc::clone(&process));
    table::update(&host, set(), |content| {
        let mut record = Record::default();
        record.accept(&grant(GRANTED), 0, 0);
        record.draw(1, ChargeOn::Success, 0).unwrap();
        ((), if content.push(&key(), &record) { Write::Yes } else { Write::No })
    });
    let [(name, act), (other_name, other)] = acts;
    let theirs = thread::spawn(move || other(&VmHost::new(process)));
    let drawn = act(&host) + theirs.join().unwrap();
    let (_, record) = table::read(&host, set()).lease(1).unwrap();
    let did = |what: &str| name == what || other_name == what;
    assert_eq!(record.granted, if did("settle") { REFILLED } else { GRANTED }, "a grant is lost");
    assert_eq!(record.usage(), Usage { used: drawn, ..record.usage() }, "a draw is lost");
    let ended = did("finish") || did("fail");
    assert_eq!(record.in_flight.units, u64::from(!ended), "the end of a call is lost");
    assert!(record.acked <= record.used + record.returned, "what was not reported is acknowledged");
    let units = record.used + record.returned + record.in_flight.units + record.remaining();
    assert_eq!(units, record.granted, "units are lost, or there twice");
}

fn pairs() -> impl Iterator<Item = [(&'static str, Act); 2]> {
    ACTS.into_iter().flat_map(|act| ACTS.into_iter().map(move |other| [act, other]))
}

#[test]
fn no_unit_is_lost_or_there_twice_in_any_order() {
    for acts in pairs() {
        let orders = every_order(move || scene(acts, Writes::Checked));
        assert!(2 < orders, "{orders} orders");
    }
}

#[test]
fn without_compare_and_swap_each_pair_goes_wrong() {
    for acts in pairs() {
        let [(name, _), (other, _)] = acts;
        // Writing the same twice goes unnoticed.
        let is_same = name == other && name != "draw";
        let both_end = ["finish", "fail"].contains(&name) && ["finish", "fail"].contains(&other);
        if !is_same && !both_end {
            let text = found(|| {
                every_order(move || scene(acts, Writes::Blind));
            });
            assert!(text.contains("lost"), "{name} and {other}: {text}");
        }
    }
}
