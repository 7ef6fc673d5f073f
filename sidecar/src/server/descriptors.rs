//! File descriptors: the listeners share what the system gives, and leave enough for the database and everything else. So a
//! crowd at one listener takes neither the others' connections nor the database's.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most connections that one listener keeps open, however many descriptors there are.
const CONNECTIONS_MAX: u64 = 1_024;

/// The fewest; with fewer a listener would be of no use.
const CONNECTIONS_MIN: u64 = 8;

/// Descriptors for what is not a client: files, timers, Redis, the payment service, the receiver of events.
const RESERVED: u64 = 64;

const LISTENERS: u64 = 3;

/// Raises the limit as far as this process may, and divides it; how many connections each listener may keep open.
pub(super) fn divide(database_connections: u32) -> usize {
    let descriptors = raise();
    let most = share(descriptors, database_connections.into());
    if most < CONNECTIONS_MAX {
        tracing::warn!(
            descriptors,
            connections = most,
            "few file descriptors: each listener keeps few connections open; raise the limit (ulimit -n, LimitNOFILE)"
        );
    }
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// The limit after it was raised; one that does not exist is as good as the largest.
fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    if current != maximum && setrlimit(Resource::Nofile, raised).is_ok() {
        return maximum.unwrap_or(u64::MAX);
    }
    current.unwrap_or(u64::MAX)
}

fn share(descriptors: u64, database_connections: u64) -> u64 {
    let rest = descriptors.saturating_sub(RESERVED).saturating_sub(database_connections);
    (rest / LISTENERS).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_leave_descriptors_for_everything_else() {
        assert_eq!(share(u64::MAX, 16), CONNECTIONS_MAX);
        assert_eq!(share(1_024, 16), 314);
        assert_eq!(share(128, 16), 16);
        assert_eq!(share(20, 16), CONNECTIONS_MIN);
        for descriptors in [128, 200, 1_024, 3_000] {
            let taken = LISTENERS * share(descriptors, 16) + 16 + RESERVED;
            assert!(taken <= descriptors, "{descriptors}");
        }
    }
}
