//! Ways to try schedules.

use std::panic::{AssertUnwindSafe, catch_unwind};

use farebox_protocol_tests::process::{Process, Writes};
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::{Config, FailurePersistence, Runner};

/// Workers of the filter need more than the default.
const STACK_BYTES: usize = 1 << 19;
/// Which schedules are tried.
const SEED: u64 = 20_261_123;
/// How many changes of priority PCT makes.
const DEPTH: usize = 3;

/// A process whose workers run in threads.
pub(crate) fn process(writes: Writes) -> Process {
    // Every access to an atomic is a point where another thread may run.
    let switch = || {
        AtomicBool::new(false).load(Ordering::SeqCst);
    };
    Process::new(SEED).shared_by_threads(switch, writes)
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.failure_persistence = FailurePersistence::Print;
    config
}

fn run(scheduler: impl Scheduler + 'static, scene: impl Fn() + Send + Sync + 'static) -> usize {
    Runner::new(scheduler, config()).run(scene)
}

/// Tries every order of a small scene.
pub(crate) fn every_order(scene: impl Fn() + Send + Sync + 'static) -> usize {
    run(DfsScheduler::new(None, false), scene)
}

/// Tries many orders of a large scene: random ones, and those of threads with priorities that change a few times.
pub(crate) fn many_orders(count: usize, scene: impl Fn() + Clone + Send + Sync + 'static) {
    if let Ok(schedule) = std::env::var("FAREBOX_SCHEDULE") {
        return shuttle::replay(scene, &schedule);
    }
    run(RandomScheduler::new_from_seed(SEED, count), scene.clone());
    run(PctScheduler::new_from_seed(SEED, DEPTH, count), scene);
}

/// What goes wrong in some order.
pub(crate) fn found(explore: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(explore)).expect_err("nothing was found");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
