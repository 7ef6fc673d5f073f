//! Which faults keep a gateway's reports from the books, and for how long.

use super::Stretch;
use crate::inflict::Inflicted;
use crate::plan::{Part, What, Wire};
use crate::site::sidecar_of;

/// What was broken works again so much later: connections are made anew, messages repeated.
const RECOVERY_MS: u64 = 2_000;

/// When the way from a gateway through its sidecar to the database was broken.
pub(crate) fn on_path(gateway: usize, faults: &[Inflicted]) -> Vec<Stretch> {
    let sidecar = sidecar_of(gateway);
    let touches = |what: What| match what {
        What::Kill(part) | What::Pause(part) | What::Restart(part) => {
            [Part::Gateway(gateway), Part::Sidecar(sidecar), Part::Database].contains(&part)
        }
        What::Network(wire, _) => {
            [Wire::GatewaySidecar(gateway), Wire::SidecarDatabase(sidecar)].contains(&wire)
        }
        What::RowLocks | What::Deadlocks | What::DiskFull | What::PriceChange => true,
        What::RedisFlush | What::RedisSleep | What::ClockStep(..) => false,
    };
    let touching = faults.iter().filter(|fault| touches(fault.what));
    touching.map(|fault| (fault.begun_ms, fault.healed_ms + RECOVERY_MS)).collect()
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
    use super::longest;

    #[test]
    fn stretches_that_overlap_are_one() {
        assert_eq!(longest(&[]), 0);
        assert_eq!(longest(&[(10, 20), (15, 40), (100, 120)]), 30);
        assert_eq!(longest(&[(100, 120), (10, 20)]), 20);
    }
}
