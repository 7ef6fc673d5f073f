//! Keeps callers from waiting, one after the other, for a Redis that does not answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long Redis counts as away after it did not answer.
pub(super) const AWAY_FOR: Duration = Duration::from_secs(1);

/// Whether Redis is asked at all.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    away_until: Mutex<Option<Instant>>,
}

impl Circuit {
    /// Whether to ask now. Of those who come while Redis is away, one a second may, to find out.
    pub(super) fn lets_through(&self, now: Instant) -> bool {
        let mut away_until = self.away_until();
        match *away_until {
            Some(until) if now < until => false,
            Some(_) => {
                *away_until = Some(now + AWAY_FOR);
                true
            }
            None => true,
        }
    }

    /// It did not answer.
    pub(super) fn open(&self, now: Instant) {
        *self.away_until() = Some(now + AWAY_FOR);
    }

    /// It answered.
    pub(super) fn close(&self) {
        *self.away_until() = None;
    }

    fn away_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.away_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_closes_the_way_for_a_second_and_then_one_finds_out() {
        let (circuit, start) = (Circuit::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(circuit.lets_through(start) && circuit.lets_through(start));
        circuit.open(start);
        assert!(!circuit.lets_through(at(0)) && !circuit.lets_through(at(999)));
        assert!(circuit.lets_through(at(1_000)));
        // The one that went has not come back yet.
        assert!(!circuit.lets_through(at(1_000)) && !circuit.lets_through(at(1_999)));
        assert!(circuit.lets_through(at(2_000)));
        circuit.close();
        assert!(circuit.lets_through(at(2_001)) && circuit.lets_through(at(2_001)));
    }
}
