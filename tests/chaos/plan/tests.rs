//! What every plan has in common.

use std::collections::BTreeSet;

use super::*;

const MINUTE_MS: u64 = 60_000;

#[test]
fn the_same_seed_gives_the_same_plan_and_another_one_does_not() {
    for seed in 0..50 {
        assert_eq!(plan(seed, MINUTE_MS), plan(seed, MINUTE_MS));
        assert_ne!(plan(seed, MINUTE_MS).rounds, plan(seed + 1, MINUTE_MS).rounds);
    }
}

/// Whoever reports a seed must be able to count on it after an update of the generator's crate.
#[test]
fn the_plan_of_seed_1_is_known() {
    let first: Vec<String> = plan(1, MINUTE_MS).rounds[0]
        .iter()
        .map(|fault| format!("{} ms for {} ms: {}", fault.at_ms, fault.length_ms, fault.what))
        .collect();
    let known = [
        "1760 ms for 1684 ms: latency 344 ms, gateway 1 → sidecar",
        "3609 ms for 363 ms: reset, payment service → sidecar 1",
        "4782 ms for 3848 ms: kill -9 Redis",
        "5925 ms for 3000 ms: kill -9 payment service",
        "8200 ms for 3230 ms: disk full",
        "10042 ms for 2735 ms: price change",
        "10770 ms for 3023 ms: other sidecar, gateway 0",
        "12036 ms for 1559 ms: restart gateway 1",
        "12899 ms for 2792 ms: FLUSHALL",
        "14379 ms for 2841 ms: reset, gateway 2 → upstream",
        "16311 ms for 3371 ms: cut mid-message after 998 bytes, gateway 1 → upstream",
        "17202 ms for 2896 ms: deadlocks",
    ];
    assert_eq!(first, known);
}

#[test]
fn who_bears_what_is_lost_is_drawn_from_the_seed_too() {
    let granted = |seed: &u64| plan(*seed, MINUTE_MS).on_lost == OnLost::Granted;
    let count = (0..100).filter(granted).count();
    assert!((30..70).contains(&count), "{count} of 100");
}

#[test]
fn a_longer_campaign_begins_like_a_shorter_one() {
    let (short, long) = (plan(7, MINUTE_MS), plan(7, 3 * MINUTE_MS));
    assert_eq!(short.rounds[..], long.rounds[..short.rounds.len()]);
}

#[test]
fn nothing_has_two_faults_at_once_and_all_heal_within_their_round() {
    for seed in 0..200 {
        for faults in plan(seed, 2 * MINUTE_MS).rounds {
            let mut until: BTreeMap<Slot, u64> = BTreeMap::new();
            for Fault { at_ms, length_ms, what } in faults {
                assert!(at_ms < ROUND_MS && length_ms <= LENGTH_MS.1);
                for slot in slots(what) {
                    let former = until.insert(slot, at_ms + length_ms).unwrap_or(0);
                    assert!(former <= at_ms, "seed {seed}: {what} at {at_ms}");
                }
            }
        }
    }
}

#[test]
fn the_steady_gateway_is_never_ended() {
    let ends =
        |what| [What::Kill, What::Restart].map(|end| end(Part::Gateway(STEADY))).contains(&what);
    for seed in 0..200 {
        let rounds = plan(seed, 2 * MINUTE_MS).rounds;
        assert!(!rounds.iter().flatten().any(|fault| ends(fault.what)), "seed {seed}");
    }
}

#[test]
fn three_minutes_meet_nearly_every_kind_and_many_seeds_meet_all() {
    let kinds = |seed| -> BTreeSet<&str> {
        let rounds = plan(seed, 3 * MINUTE_MS).rounds;
        rounds.iter().flatten().map(|fault| fault.what.kind()).collect()
    };
    for seed in 0..50 {
        assert!(12 <= kinds(seed).len(), "seed {seed}: {:?}", kinds(seed));
    }
    let all: BTreeSet<&str> = (0..50).flat_map(kinds).collect();
    assert_eq!(all.len(), 15, "{all:?}");
}
