//! What can happen in a history, and how often.

use proptest::prelude::{Just, Strategy, prop_oneof};

use crate::sidecar::{ACCOUNTS, SERVICES};

/// The gateways, each one process at a time.
pub const GATEWAYS: usize = 2;
/// The workers of each process.
pub const WORKERS: usize = 2;

/// Messages and calls are chosen among the oldest of their kind: what a step means changes little when others are left
/// out, so that histories that fail can be made short.
const NTH_MAX: usize = 4;

/// Something happens. When what it happens to is not there, nothing happens.
#[derive(Debug, Clone)]
pub enum Step {
    /// An account calls a service.
    Call { gateway: usize, worker: usize, account: usize, service: usize },
    /// A running call ends.
    Finish { nth: usize, succeeds: bool },
    /// A message reaches the sidecar, and the reply comes back at once.
    Exchange { nth: usize },
    /// A message reaches the sidecar.
    Arrive { nth: usize },
    /// A reply reaches its gateway.
    Answer { nth: usize },
    /// Time passes: workers tick, and messages that take too long are given up.
    Pass { ms: u64 },
    /// A message, or the reply to one, is lost, and its gateway notices at once.
    Lose { nth: usize },
    /// A message that the sidecar has taken in reaches it again.
    Repeat { nth: usize },
    /// A gateway's process is killed, and another one starts.
    Crash { gateway: usize },
    /// The sidecar takes back what ran out.
    Reclaim,
    /// Money comes in.
    Credit { account: usize, nanos: i64 },
    /// A service has another price.
    Price { service: usize, nanos: i64 },
    /// An operator freezes an account, or thaws it.
    Freeze { account: usize, frozen: bool },
    /// The month ends.
    MonthEnd,
}

/// One step. What is rare comes last, since shrinking prefers what comes first.
pub fn step() -> impl Strategy<Value = Step> {
    let nth = || 0..NTH_MAX;
    prop_oneof![
        22 => (0..GATEWAYS, 0..WORKERS, 0..ACCOUNTS.len(), 0..SERVICES.len()).prop_map(
            |(gateway, worker, account, service)| Step::Call { gateway, worker, account, service }
        ),
        24 => nth().prop_map(|nth| Step::Exchange { nth }),
        12 => nth().prop_map(|nth| Step::Arrive { nth }),
        10 => nth().prop_map(|nth| Step::Answer { nth }),
        10 => prop_oneof![8 => Just(200_u64), 3 => Just(1_000), 1 => Just(11_000)]
            .prop_map(|ms| Step::Pass { ms }),
        8 => (nth(), proptest::bool::weighted(0.7))
            .prop_map(|(nth, succeeds)| Step::Finish { nth, succeeds }),
        4 => nth().prop_map(|nth| Step::Lose { nth }),
        4 => nth().prop_map(|nth| Step::Repeat { nth }),
        4 => (0..ACCOUNTS.len(), 1..60_i64)
            .prop_map(|(account, nanos)| Step::Credit { account, nanos }),
        2 => Just(Step::Reclaim),
        2 => (0..GATEWAYS).prop_map(|gateway| Step::Crash { gateway }),
        2 => (0..SERVICES.len(), 0..9_i64).prop_map(|(service, nanos)| Step::Price { service, nanos }),
        2 => (0..ACCOUNTS.len(), proptest::bool::ANY)
            .prop_map(|(account, frozen)| Step::Freeze { account, frozen }),
        2 => Just(Step::MonthEnd),
    ]
}

/// A history of at most so many steps.
pub fn history(steps_max: usize) -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..=steps_max)
}
