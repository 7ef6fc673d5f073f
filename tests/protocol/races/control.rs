//! What the workers of a process agree on, in every order of two of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use farebox_filter::control::{self, Lead};
use farebox_protocol_tests::process::{Process, VmHost, Writes};
use shuttle::thread;

use crate::explore::{every_order, found, process};

/// What two workers get who do the same at the same time.
fn both<T: Send + 'static>(writes: Writes, act: fn(&VmHost, u64) -> T) -> (Arc<Process>, [T; 2]) {
    let process = Arc::new(process(writes));
    let other = Arc::clone(&process);
    let theirs = thread::spawn(move || act(&VmHost::new(other), 1));
    let ours = act(&VmHost::new(Arc::clone(&process)), 2);
    (process, [ours, theirs.join().unwrap()])
}

fn one_identity(writes: Writes) {
    let (_, found) = both(writes, |host, _| control::load(host).unwrap());
    assert_eq!(found[0], found[1], "two identities");
}

fn leads(host: &VmHost, worker: u64, now: u64) -> bool {
    control::lead(host, worker, now) != Lead::No
}

fn one_leader(writes: Writes) {
    let (_, leads) = both(writes, |host, worker| leads(host, worker, 1_000));
    assert!(leads[0] != leads[1], "two leaders, or none: {leads:?}");
}

fn one_leader_after_a_silent_one(writes: Writes) {
    let process = Arc::new(process(writes));
    assert!(leads(&VmHost::new(Arc::clone(&process)), 9, 1_000));
    let later = 1_000 + control::LEADER_SILENCE_MS;
    let other = Arc::clone(&process);
    let theirs = thread::spawn(move || leads(&VmHost::new(other), 1, later));
    let ours = leads(&VmHost::new(process), 2, later);
    assert!(ours != theirs.join().unwrap(), "two leaders, or none");
}

fn numbers_are_unique(writes: Writes) {
    let (_, numbers) = both(writes, |host, _| [(); 2].map(|()| control::next_seq(host).unwrap()));
    let unique: BTreeSet<u64> = numbers.into_iter().flatten().collect();
    assert_eq!(unique.into_iter().collect::<Vec<u64>>(), [1, 2, 3, 4], "a number twice");
}

fn no_change_is_lost(writes: Writes) {
    let process = Arc::new(process(writes));
    let other = Arc::clone(&process);
    let marks = thread::spawn(move || {
        let host = VmHost::new(other);
        control::mark_changed(&host, 3);
        control::mark_changed(&host, 4);
    });
    let host = VmHost::new(Arc::clone(&process));
    control::mark_changed(&host, 5);
    let mut taken = control::take_changed(&host);
    marks.join().unwrap();
    taken.extend(control::take_changed(&host));
    taken.sort_unstable();
    assert_eq!(taken, [3, 4, 5], "a change is lost, or taken twice");
}

type Scene = fn(Writes);

/// What goes wrong without compare-and-swap, and where.
const SCENES: [(&str, Scene); 5] = [
    ("two identities", one_identity),
    ("two leaders", one_leader),
    ("two leaders", one_leader_after_a_silent_one),
    ("a number twice", numbers_are_unique),
    ("a change is lost", no_change_is_lost),
];

#[test]
fn two_workers_agree_in_every_order() {
    for (_, scene) in SCENES {
        let orders = every_order(move || scene(Writes::Checked));
        assert!(2 < orders, "{orders} orders");
    }
}

#[test]
fn without_compare_and_swap_they_do_not() {
    for (wrong, scene) in SCENES {
        let text = found(|| {
            every_order(move || scene(Writes::Blind));
        });
        assert!(text.contains(wrong), "{text}");
    }
}
