//! Admitted calls: what they cost, and what their end changes.

use std::rc::Rc;

use farebox_core::charge::PaidBy;
use farebox_core::grant::Split;
use farebox_core::money::Nanos;

use super::Worker;
use crate::answer::Caller;
use crate::control;
use crate::ending::Ending;
use crate::host::Host;
use crate::record::{ChargeOn, Drawn, Record};
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
    /// In a lease.
    Lease { set: usize, lease: u64 },
    /// In the journal of what was allowed without one.
    JournalLine { set: usize, line: u64 },
    /// At the sidecar, by a deduct.
    Deduct(Rc<Charge>),
}

impl Worker {
    pub(super) fn admit(&mut self, host: &impl Host, call: &Call, source: Source, drawn: Drawn) {
        host.count(Stat::Admitted, 1);
        let (units, charge_on) = (call.rule.units, call.rule.charge_on);
        let ticket = Ticket { source, units, drawn, charge_on, caller: call.caller };
        self.tickets.insert(call.stream, ticket);
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

    /// Books the end of a call.
    pub(super) fn settle(&mut self, host: &impl Host, ticket: &Ticket, ending: Ending) {
        if ticket.charge_on == ChargeOn::Request {
            return;
        }
        let succeeded = ending == Ending::Success;
        let Ticket { units, drawn, .. } = *ticket;
        match &ticket.source {
            Source::Lease { set, lease } => finish(
                host,
                *set,
                |content| content.lease(*lease),
                |record| record.finish(units, drawn.free, succeeded),
            ),
            Source::JournalLine { set, line } => finish(
                host,
                *set,
                |content| content.journal(*line),
                |record| record.journal.finish(units, succeeded),
            ),
            Source::Deduct(charge) => {
                if !succeeded {
                    self.undo(host, Rc::clone(charge));
                }
            }
        }
    }
}

/// Books the end of a call in the record that it was drawn from.
fn finish(
    host: &impl Host,
    set: usize,
    find: impl Fn(&Set) -> Option<(usize, Record)>,
    book: impl Fn(&mut Record),
) {
    let must_queue = table::update(host, set, |content| {
        let Some((place, mut record)) = find(content) else { return (false, Write::No) };
        book(&mut record);
        let must_queue = !std::mem::replace(&mut record.queued, true);
        content.put(place, &record);
        (must_queue, Write::Yes)
    });
    if must_queue == Some(true) {
        control::mark_changed(host, set);
    }
}
