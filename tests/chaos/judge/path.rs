//! Which faults keep a gateway's reports from the books, and for how long.

use super::Stretch;
use crate::inflict::Inflicted;
use crate::plan::{Part, What, Wire};
use crate::site::{other_sidecar_of, sidecar_of};

/// What was broken works again so much later: connections are made anew, messages repeated.
const RECOVERY_MS: u64 = 2_000;

/// When the way from a gateway through its sidecar to the database was broken.
pub(crate) fn on_path(gateway: usize, faults: &[Inflicted]) -> Vec<Stretch> {
    let is_move = |fault: &&Inflicted| fault.what == What::Move(gateway);
    let moves: Vec<Stretch> = faults.iter().filter(is_move).map(lasting).collect();
    let touching = faults.iter().filter(|fault| {
        // While it is at the other sidecar, that one's faults are its own; those of its usual one stay so, for what was on
        // the way there.
        touches(gateway, sidecar_of(gateway), fault.what)
            || (moves.iter().any(|stay| meet(*stay, lasting(fault)))
                && touches(gateway, other_sidecar_of(gateway), fault.what))
    });
    // Moving costs the connections, there and back.
    let turns = moves.iter().flat_map(|(there, back)| [*there, back.saturating_sub(RECOVERY_MS)]);
    touching.map(lasting).chain(turns.map(|at| (at, at + RECOVERY_MS))).collect()
}

fn lasting(fault: &Inflicted) -> Stretch {
    (fault.begun_ms, fault.healed_ms + RECOVERY_MS)
}

fn meet(one: Stretch, other: Stretch) -> bool {
    one.0 <= other.1 && other.0 <= one.1
}

/// Whether a fault breaks the way through this sidecar.
fn touches(gateway: usize, sidecar: usize, what: What) -> bool {
    match what {
        What::Kill(part) | What::Pause(part) | What::Restart(part) => {
            [Part::Gateway(gateway), Part::Sidecar(sidecar), Part::Database].contains(&part)
        }
        What::Network(wire, _) => {
            [Wire::GatewaySidecar(gateway), Wire::SidecarDatabase(sidecar)].contains(&wire)
        }
        What::RowLocks | What::Deadlocks | What::DiskFull | What::PriceChange => true,
        What::RedisFlush | What::RedisSleep | What::ClockStep(..) | What::Move(_) => false,
    }
}

/// The longest stretch, those that overlap being one.
pub(crate) fn longest(stretches: &[Stretch]) -> u64 {
    let mut sorted = stretches.to_vec();
    sorted.sort_unstable();
    let (mut longest, mut current) = (0, (0, 0));
    for (from, to) in sorted {
        current = if from <= current.1 { (current.0, to.max(current.1)) } else { (from, to) };
        longest = longest.max(current.1 - current.0);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(what: What, begun_ms: u64, healed_ms: u64) -> Inflicted {
        Inflicted { what, kind: what.kind(), begun_ms, gone_ms: None, healed_ms, failed: None }
    }

    #[test]
    fn a_gateway_suffers_with_the_sidecar_that_it_has() {
        let kill = |begun_ms| fault(What::Kill(Part::Sidecar(1)), begun_ms, begun_ms + 1_000);
        assert_eq!(on_path(0, &[kill(10_000)]), []);
        let moved = fault(What::Move(0), 9_000, 12_000);
        let turns = [(9_000, 11_000), (12_000, 14_000)];
        assert_eq!(on_path(0, &[moved.clone(), kill(30_000)]), turns);
        let with_kill = [(10_000, 13_000), turns[0], turns[1]];
        assert_eq!(on_path(0, &[moved, kill(10_000)]), with_kill);
    }

    #[test]
    fn stretches_that_overlap_are_one() {
        assert_eq!(longest(&[]), 0);
        assert_eq!(longest(&[(10, 20), (15, 40), (100, 120)]), 30);
        assert_eq!(longest(&[(100, 120), (10, 20)]), 20);
    }
}
