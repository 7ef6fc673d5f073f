//! Histories of several gateways against a small model.

use farebox_core::grant::Split;
use farebox_core::lease::{Lease, Settled, Usage};
use farebox_protocol_tests::explore::{Counterexample, Extent, explore};
use farebox_protocol_tests::memory::Memory;

const EXTENT: Extent = Extent { cases: 200, steps_max: 60 };
/// A counterexample that a person reads.
const STORY_LINES_MAX: usize = 20;
/// The model stays small enough to be believed.
const MODEL_LINES_MAX: usize = 200;

/// What must come up in the stories (`*`: any number), or the histories prove little.
const CORNERS: [&str; 18] = [
    "goes on",
    "answered 402",
    "answered 403",
    "answered 503",
    "call at edge-2/1 fails",
    "is lost",
    "the reply to message * is lost",
    "is given up",
    "again reaches the sidecar",
    "is killed",
    "takes back what ran out",
    "from now on",
    "the month ends",
    "is frozen",
    "soon grants",
    "recalls lease",
    "which is over",
    "closed",
];

#[test]
fn books_are_right_in_every_history() {
    let stories = match explore(EXTENT, Memory::default) {
        Ok(stories) => stories,
        Err(counterexample) => panic!("{counterexample:?}"),
    };
    for corner in CORNERS {
        let comes_up = |story: &&Vec<String>| story.iter().any(|line| tells(line, corner));
        assert!(stories.iter().any(|story| comes_up(&story)), "no history has: {corner}");
    }
}

/// Whether a line holds these words; `*` stands for a number.
fn tells(line: &str, words: &str) -> bool {
    let (before, after) = words.split_once('*').unwrap_or((words, ""));
    line.split_once(before).is_some_and(|(_, rest)| rest.contains(after))
}

#[test]
fn the_model_has_at_most_200_lines() {
    let lines = include_str!("../src/model.rs").lines().count();
    assert!(lines <= MODEL_LINES_MAX, "{lines}");
}

/// What goes wrong with a sidecar that settles reports in another way, told shortly.
fn found_with(settle: fn(&mut Lease, Usage) -> Settled) -> Counterexample {
    let found = explore(EXTENT, || Memory::settling_by(settle)).expect_err("it is broken");
    println!("{found:?}");
    assert!(found.story.len() <= STORY_LINES_MAX, "{} lines", found.story.len());
    found
}

#[test]
fn a_sidecar_that_takes_totals_for_differences_is_found_out() {
    let found = found_with(|lease, report| {
        let used = report.used + lease.charged();
        lease.settle(Usage { used, ..report })
    });
    assert!(found.broken.starts_with("charged units of "), "{}", found.broken);
}

#[test]
fn a_sidecar_that_releases_units_twice_is_found_out() {
    let found = found_with(|lease, report| {
        let returned = report.returned + lease.returned.total();
        lease.settle(Usage { returned, ..report })
    });
    assert!(found.broken.starts_with("units given back of "), "{}", found.broken);
}

#[test]
fn a_sidecar_that_drops_late_usage_is_found_out() {
    let found = found_with(
        |lease, report| {
            if lease.open { lease.settle(report) } else { Settled::default() }
        },
    );
    assert!(found.broken.contains("charged units of "), "{}", found.broken);
}

#[test]
fn a_sidecar_that_keeps_free_units_is_found_out() {
    let found = found_with(|lease, report| {
        let settled = lease.settle(report);
        Settled { released: Split { free: 0, ..settled.released }, ..settled }
    });
    assert!(found.broken.starts_with("held free units of "), "{}", found.broken);
}
