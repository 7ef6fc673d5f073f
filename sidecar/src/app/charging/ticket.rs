//! Whether a request can still be given up: its turn and the end of its time compete, and one of them wins.
//!
//! So a caller who hears that the account was busy knows that nothing was charged, wherever the request waited: in line,
//! for the lock, or for the row.

use std::sync::atomic::{AtomicU8, Ordering};

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// A request's state between its turn and its caller.
#[derive(Debug, Default)]
pub(super) struct Ticket(AtomicU8);

impl Ticket {
    /// Its turn has the account and is about to decide it; `false` when it was given up.
    pub(super) fn begin(&self) -> bool {
        self.change(WAITING, BEGUN) || self.0.load(Ordering::SeqCst) == BEGUN
    }

    /// Its turn ended without an outcome: it waits again.
    pub(super) fn put_off(&self) {
        self.change(BEGUN, WAITING);
    }

    /// Its time is over; `false` when a transaction is deciding it.
    pub(super) fn give_up(&self) -> bool {
        self.change(WAITING, GIVEN_UP) || self.0.load(Ordering::SeqCst) == GIVEN_UP
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_first_wins_until_the_turn_is_put_off() {
        let ticket = Ticket::default();
        assert!(ticket.begin() && ticket.begin(), "a transaction may be tried again");
        assert!(!ticket.give_up());
        ticket.put_off();
        assert!(ticket.give_up() && ticket.give_up());
        assert!(!ticket.begin());
        ticket.put_off();
        assert!(!ticket.begin(), "what was given up is never decided");
    }
}
