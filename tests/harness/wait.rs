//! Waiting for something to become true, with a deadline instead of a sleep.

use std::time::Duration;

/// How long the harness waits for what should happen within a second or two.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How long a process may take to become ready on a busy machine.
pub const START_DEADLINE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until an expression is true, at most [`DEADLINE`]; then fails like `assert!`.
///
/// ```no_run
/// # use farebox_tests::{Plan, Stack, eventually, run};
/// # run(async { let stack = Stack::start(Plan::reference()).await.unwrap();
/// eventually!(stack.account("ada").balance == "0.01", "the balance arrives");
/// # });
/// ```
#[macro_export]
macro_rules! eventually {
    ($condition:expr $(,)?) => { $crate::eventually!($condition, stringify!($condition)) };
    ($condition:expr, $($message:tt)+) => {{
        let started = ::std::time::Instant::now();
        loop {
            if $condition {
                break started.elapsed();
            }
            if $crate::wait::DEADLINE < started.elapsed() {
                panic!("not within {:?}: {}", $crate::wait::DEADLINE, format_args!($($message)+));
            }
            ::tokio::time::sleep($crate::wait::INTERVAL).await;
        }
    }};
}
