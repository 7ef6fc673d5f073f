//! Histories at random, and the shortest one that fails.
//!
//! The same histories are tried every time. `FAREBOX_SEED` names others, `FAREBOX_CASES` says how many.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::model::Broken;
use crate::sidecar::Sidecar;
use crate::step::{Step, history};
use crate::world::World;

/// How often a history that fails is made smaller before it is shown.
const SHRINKS_MAX: usize = 1_000;

/// The shortest history found that breaks a rule, as a story.
pub struct Counterexample {
    /// What happened, one line per step.
    pub story: Vec<String>,
    /// The rule.
    pub broken: Broken,
}

impl fmt::Debug for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "a history breaks a rule:")?;
        for (number, line) in (1..).zip(&self.story) {
            writeln!(f, "{number:>3}. {line}")?;
        }
        write!(f, "  => {}", self.broken)
    }
}

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Histories.
    pub cases: u32,
    /// The most steps of each.
    pub steps_max: usize,
}

/// Tries histories on sidecars that `new` makes. Their stories, or that of the shortest history that breaks a rule.
pub fn explore<S: Sidecar>(
    extent: Extent,
    new: impl Fn() -> S,
) -> Result<Vec<Vec<String>>, Counterexample> {
    let cases = number_from("FAREBOX_CASES").map_or(extent.cases, |cases| cases as u32);
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: SHRINKS_MAX as u32,
        ..Config::default()
    };
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number_from("FAREBOX_SEED").unwrap_or(0).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let stories = RefCell::new(Vec::new());
    let tried = TestRunner::new_with_rng(config, rng).run(&history(extent.steps_max), |steps| {
        let played = play(new(), &steps);
        let story = played.map_err(|counterexample| TestCaseError::fail(counterexample.broken))?;
        stories.borrow_mut().push(story);
        Ok(())
    });
    match tried {
        Ok(()) => Ok(stories.take()),
        Err(TestError::Fail(_, steps)) => {
            Err(play(new(), &shorten(steps, &new)).expect_err("what failed once fails again"))
        }
        Err(TestError::Abort(reason)) => {
            Err(Counterexample { story: Vec::new(), broken: reason.to_string() })
        }
    }
}

/// Leaves out single steps and pairs of steps as long as a rule is still broken: what proptest could not leave out before
/// other steps had changed.
fn shorten<S: Sidecar>(mut steps: Vec<Step>, new: &impl Fn() -> S) -> Vec<Step> {
    let mut tries = 0;
    let mut lines = play(new(), &steps).map_or_else(|broken| broken.story.len(), |_| 0);
    loop {
        let count = steps.len();
        let pairs = (0..count).flat_map(|first| (first..count).map(move |second| (first, second)));
        let shorter = pairs.take(SHRINKS_MAX - tries).find_map(|(first, second)| {
            tries += 1;
            let kept = steps.iter().enumerate().filter(|(at, _)| *at != first && *at != second);
            let kept: Vec<Step> = kept.map(|(_, step)| step.clone()).collect();
            let still = play(new(), &kept).err().map(|broken| broken.story.len());
            still.filter(|story| *story <= lines).map(|story| (kept, story))
        });
        match shorter {
            Some(shorter) => (steps, lines) = shorter,
            None => return steps,
        }
    }
}

/// Plays one history and tells its story; a panic counts as a rule that is broken.
fn play(sidecar: impl Sidecar, steps: &[Step]) -> Result<Vec<String>, Counterexample> {
    let mut world = World::new(sidecar);
    let played = catch_unwind(AssertUnwindSafe(|| world.play(steps)));
    let broken = match played {
        Ok(Ok(())) => return Ok(world.end_of_story()),
        Ok(Err(broken)) => broken,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "a panic".to_owned())
        }
    };
    Err(Counterexample { story: world.end_of_story(), broken })
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
