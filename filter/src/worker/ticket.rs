//! Admitted calls: what they cost, and what their end changes.

use std::rc::Rc;

use farebox_core::charge::PaidBy;
use farebox_core::grant::Split;
use farebox_core::money::Nanos;

use super::{Moved, Worker};
use crate::answer::Caller;
use crate::control;
use crate::ending::Ending;
use crate::host::Host;
use crate::record::{ChargeOn, Drawn, Record};
use crate::running::Running;
use crate::stats::Stat;
use crate::table::{self, Set, Write};
use crate::undo::Charge;
use crate::waiting::Call;

/// An admitted call, as far as it must be remembered.
///
/// Where every call is charged, that is until its response begins: until then Envoy may send it through the filters again.
/// Where only successes are, until it ends.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    source: Source,
    units: u64,
    drawn: Drawn,
    charge_on: ChargeOn,
    caller: Caller,
}

/// Where a call's units are booked.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// In the process's shared records; with the roll call in which they were set aside or claimed.
    Shared(Held, u64),
    /// At the sidecar, by a deduct.
    Deduct(Rc<Charge>),
}

/// Where units stand in shared data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Held {
    /// In a lease.
    Lease { set: usize, lease: u64 },
    /// In the journal of what was allowed without one.
    JournalLine { set: usize, line: u64 },
}

impl Held {
    pub(super) fn set(self) -> usize {
        match self {
            Self::Lease { set, .. } | Self::JournalLine { set, .. } => set,
        }
    }

    /// The record that they stand in.
    pub(super) fn find(self, content: &Set) -> Option<(usize, Record)> {
        match self {
            Self::Lease { lease, .. } => content.lease(lease),
            Self::JournalLine { line, .. } => content.journal(line),
        }
    }

    /// The running units among which they are.
    pub(super) fn running(self, record: &mut Record) -> &mut Running {
        match self {
            Self::Lease { .. } => &mut record.in_flight,
            Self::JournalLine { .. } => &mut record.journal.in_flight,
        }
    }
}

impl Ticket {
    /// Where units are set aside until the call ends, in which roll call, and how many.
    pub(super) fn held_units(&mut self) -> Option<(Held, &mut u64, u64)> {
        match &mut self.source {
            Source::Shared(held, roll) if self.charge_on == ChargeOn::Success => {
                Some((*held, roll, self.units))
            }
            Source::Shared(..) | Source::Deduct(_) => None,
        }
    }
}

impl Worker {
    pub(super) fn admit(&mut self, host: &impl Host, call: &Call, source: Source, drawn: Drawn) {
        host.count(Stat::Admitted, 1);
        let (units, charge_on) = (call.rule.units, call.rule.charge_on);
        let ticket = Ticket { source, units, drawn, charge_on, caller: call.caller };
        self.tickets.insert(call.stream, ticket);
        if charge_on == ChargeOn::Success {
            self.show_life_once(host);
        }
    }

    /// The response begins: what the call costs, for an admitted call that is to tell it.
    pub fn on_response(&mut self, stream: u32) -> Option<(Nanos, &'static str)> {
        let ticket = self.tickets.get(&stream)?;
        let Ticket { drawn: Drawn { free, paid, price }, charge_on, .. } = *ticket;
        if charge_on == ChargeOn::Request {
            self.tickets.remove(&stream);
        }
        let source = PaidBy::of(Split { free, paid }).as_str();
        let charge = price.checked_mul(paid).unwrap_or(Nanos::MAX);
        self.config.response_headers.then_some((charge, source))
    }

    /// The caller of a call whose end matters: it is charged only if it ends well, or its response has not begun.
    pub fn judged_by_ending(&self, stream: u32) -> Option<Caller> {
        self.tickets.get(&stream).map(|ticket| ticket.caller)
    }

    /// The stream has ended.
    pub fn on_end(&mut self, host: &impl Host, stream: u32, ending: Ending) {
        self.waiting.remove(stream);
        self.forget_deduct(host, stream);
        if let Some(ticket) = self.tickets.remove(&stream) {
            self.settle(host, &ticket, ending);
        }
    }

    /// Every call that is to be judged by its end, between two passes or not.
    pub(super) fn running_tickets(&mut self) -> impl Iterator<Item = &mut Ticket> {
        self.tickets.values_mut().chain(self.moved.tickets())
    }

    /// Books all calls as failed that hold units of shared records, and whose end nobody will see.
    pub(super) fn settle_all(&mut self, host: &impl Host) {
        let mut open: Vec<Ticket> = self.running_tickets().map(|ticket| ticket.clone()).collect();
        self.tickets.clear();
        self.moved = Moved::default();
        open.retain_mut(|ticket| ticket.held_units().is_some());
        for ticket in open {
            self.settle(host, &ticket, Ending::Failure);
        }
    }

    /// Books the end of a call.
    pub(super) fn settle(&mut self, host: &impl Host, ticket: &Ticket, ending: Ending) {
        if ticket.charge_on == ChargeOn::Request {
            return;
        }
        let succeeded = ending == Ending::Success;
        let Ticket { units, drawn, .. } = *ticket;
        match &ticket.source {
            Source::Shared(held, roll) => finish(host, *held, |record| match held {
                Held::Lease { .. } => record.finish(units, drawn.free, *roll, succeeded),
                Held::JournalLine { .. } => record.journal.finish(units, *roll, succeeded),
            }),
            Source::Deduct(charge) => {
                if !succeeded {
                    self.undo(host, Rc::clone(charge));
                }
            }
        }
    }
}

/// Books the end of a call in the record that it was drawn from.
fn finish(host: &impl Host, held: Held, book: impl Fn(&mut Record)) {
    let must_queue = table::update(host, held.set(), |content| {
        let Some((place, mut record)) = held.find(content) else { return (false, Write::No) };
        book(&mut record);
        let must_queue = !std::mem::replace(&mut record.queued, true);
        content.put(place, &record);
        (must_queue, Write::Yes)
    });
    if must_queue == Some(true) {
        control::mark_changed(host, held.set());
    }
}
