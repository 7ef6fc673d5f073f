//! Calls that Envoy sends through the filters again (internal redirects): they are charged once.
//!
//! The first pass ends with `on_log`, in which the call's ticket is put aside under a random number. The number goes into
//! the filter state of the downstream request, which the second pass shares and no client can write. The second pass
//! takes the ticket over. While nothing is put aside nobody looks for a number, so other calls pay nothing for this.

use std::collections::BTreeMap;

use super::Worker;
use super::ticket::Ticket;
use crate::ending::Ending;
use crate::host::Host;
use crate::request::Request;
use crate::stats::Stat;

/// Calls between two passes that one VM remembers; beyond them the oldest counts as failed.
const MOVED_MAX: usize = 1_000;
/// How long the second pass may take to arrive: filters before this one may hold it.
const MOVED_MS: u64 = 10_000;

/// Tickets between two passes, and when they count as failed.
#[derive(Debug, Default)]
pub(super) struct Moved {
    tickets: BTreeMap<u64, (u64, Ticket)>,
}

impl Moved {
    pub(super) fn tickets(&mut self) -> impl Iterator<Item = &mut Ticket> {
        self.tickets.values_mut().map(|(_, ticket)| ticket)
    }
}

impl Worker {
    /// The stream ends because Envoy sends its request through the filters again. Returns the note that the second pass
    /// is to find with the downstream request.
    pub fn on_redirect(&mut self, host: &impl Host, stream: u32) -> Option<[u8; 8]> {
        let ticket = self.tickets.remove(&stream)?;
        if MOVED_MAX <= self.moved.tickets.len() {
            let oldest = self.moved.tickets.iter().min_by_key(|(_, (until_ms, _))| *until_ms);
            if let Some(number) = oldest.map(|(number, _)| *number) {
                self.settle_lost(host, number);
            }
        }
        let number = host.random();
        let until_ms = host.now_ms().saturating_add(MOVED_MS);
        self.moved.tickets.insert(number, (until_ms, ticket));
        Some(number.to_le_bytes())
    }

    /// Takes the ticket of a call over that was charged in an earlier pass. Returns whether there was one.
    pub(super) fn take_over(
        &mut self,
        host: &impl Host,
        stream: u32,
        request: &impl Request,
    ) -> bool {
        if self.moved.tickets.is_empty() {
            return false;
        }
        let number = request.moved().and_then(|note| <[u8; 8]>::try_from(note).ok());
        let ticket =
            number.and_then(|number| self.moved.tickets.remove(&u64::from_le_bytes(number)));
        let Some((_, ticket)) = ticket else { return false };
        self.tickets.insert(stream, ticket);
        host.count(Stat::Redirected, 1);
        true
    }

    /// Ends the calls whose second pass never came to this filter.
    pub(super) fn settle_moved(&mut self, host: &impl Host, now: u64) {
        let late = self.moved.tickets.iter().filter(|(_, (until_ms, _))| *until_ms <= now);
        for number in late.map(|(number, _)| *number).collect::<Vec<u64>>() {
            self.settle_lost(host, number);
        }
    }

    fn settle_lost(&mut self, host: &impl Host, number: u64) {
        if let Some((_, ticket)) = self.moved.tickets.remove(&number) {
            self.settle(host, &ticket, Ending::Failure);
        }
    }
}
