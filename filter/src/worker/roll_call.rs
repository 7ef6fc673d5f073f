//! Life and death of VMs: each shows that it lives, and units of the running calls of one that died come home.

use std::collections::BTreeMap;

use super::Worker;
use super::ticket::{Held, Ticket};
use crate::control;
use crate::host::{Host, Severity};
use crate::roster::{self, Roll, Roster, Vm};
use crate::running::VOID;
use crate::table::{self, Write};

/// How long a VM may be silent before it counts as dead: at least this, and several of its ticks.
const SILENCE_MS: u64 = 10_000;
const SILENT_TICKS: u64 = 5;

/// What a worker knows about its own life.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Whether it has a line in the roster.
    is_listed: bool,
    ticked_ms: u64,
    /// Since when it ticks without long pauses. The pause may have been everybody's: then nobody is dead.
    steady_since_ms: u64,
}

impl Worker {
    fn silence_ms(&self) -> u64 {
        self.config.sync_interval_ms.saturating_mul(SILENT_TICKS).max(SILENCE_MS)
    }

    /// Shows that this worker lives, and answers the roll call. Returns the roster as it was.
    pub(super) fn show_life(&mut self, host: &impl Host, now: u64) -> Roster {
        let silence_ms = self.silence_ms();
        let roster = roster::read(host);
        let line = roster.vm(self.name);
        if line.is_none() && self.life.is_listed {
            // It was taken for dead, and its units went back with the roll calls that are over.
            self.void_tickets(host, roster.closed);
        }
        let mut vm = line.unwrap_or_default();
        let must_answer = roster.roll == Roll::Open && vm.answered != roster.number;
        if must_answer && self.claim(host, roster.number) {
            vm.answered = roster.number;
        }
        // The line is renewed when a third of its time is over.
        let is_fresh = now.saturating_add(silence_ms).saturating_sub(silence_ms.div_ceil(3))
            <= vm.lives_until_ms;
        if !is_fresh || line.map(|line| line.answered) != Some(vm.answered) {
            let shown =
                Vm { name: self.name, lives_until_ms: now.saturating_add(silence_ms), ..vm };
            roster::update(host, |roster| {
                roster.show(shown);
                true
            });
            self.life.is_listed = roster::read(host).vm(self.name).is_some();
        }
        roster
    }

    /// A worker whose calls are charged by their end must be listed before one of them holds units.
    pub(super) fn show_life_once(&mut self, host: &impl Host) {
        if !self.life.is_listed {
            self.show_life(host, host.now_ms());
        }
    }

    /// The leader's part: calls the roll when a VM is silent, and closes it when everybody has answered.
    pub(super) fn call_roll(&mut self, host: &impl Host, roster: &Roster, now: u64) {
        if now < self.life.steady_since_ms.saturating_add(self.silence_ms()) {
            return;
        }
        if roster.must_open(now) {
            open_roll(host, now);
        } else if let Some(number) = roster.answered(now) {
            close_roll(host, number);
        }
    }

    /// Notes a tick. After a long pause, perhaps of the whole process, others get their time again to show that they live.
    pub(super) fn note_tick(&mut self, now: u64) {
        let limit_ms = self.silence_ms() >> 1;
        if self.life.ticked_ms == 0 || self.life.ticked_ms.saturating_add(limit_ms) < now {
            self.life.steady_since_ms = now;
        }
        self.life.ticked_ms = now;
    }

    /// Claims the units of this worker's calls. `false` when the host stored nothing: the next tick tries again.
    fn claim(&mut self, host: &impl Host, number: u64) -> bool {
        let mut claims: BTreeMap<Held, u64> = BTreeMap::new();
        for (held, roll, units) in self.running_tickets().filter_map(Ticket::held_units) {
            if *roll < number {
                let sum = claims.entry(held).or_default();
                *sum = sum.saturating_add(units);
            }
        }
        for (held, units) in claims {
            let Some(is_held) = claim_units(host, held, units, number) else { return false };
            let known = if is_held { number } else { VOID };
            for (of_ticket, roll, _) in self.running_tickets().filter_map(Ticket::held_units) {
                if of_ticket == held && *roll < number {
                    *roll = known;
                }
            }
        }
        true
    }

    /// Calls whose record has had a roll call since, of those that are over: their units are not theirs any more.
    fn void_tickets(&mut self, host: &impl Host, closed: u64) {
        for (held, roll, _) in self.running_tickets().filter_map(Ticket::held_units) {
            if *roll < closed && *roll < roll_of(host, held) {
                *roll = VOID;
            }
        }
    }

    /// The configuration is taken away, after its last stream: whatever still holds units counts as failed, and nobody
    /// misses this worker.
    pub fn shut_down(&mut self, host: &impl Host) {
        self.settle_all(host);
        if self.life.is_listed {
            roster::update(host, |roster| {
                roster.sign_off(self.name);
                true
            });
        }
    }
}

/// The latest roll call over the units among which these are.
fn roll_of(host: &impl Host, held: Held) -> u64 {
    let found = held.find(&table::read(host, held.set()));
    found.map_or(0, |(_, mut record)| held.running(&mut record).roll)
}

fn claim_units(host: &impl Host, held: Held, units: u64, number: u64) -> Option<bool> {
    table::update(host, held.set(), |content| {
        let Some((place, mut record)) = held.find(content) else { return (true, Write::No) };
        let is_held = held.running(&mut record).claim(units, number);
        content.put(place, &record);
        (is_held, Write::Yes)
    })
}

/// Opens a roll call: first its number is taken, then all records are told, then the VMs.
fn open_roll(host: &impl Host, now: u64) {
    let mut number = 0;
    let is_mine = roster::update(host, |roster| {
        if !roster.must_open(now) {
            return false;
        }
        roster.open(now);
        number = roster.number;
        true
    });
    if !is_mine {
        return;
    }
    host.log(
        Severity::Warn,
        "farebox: a VM of this process has fallen silent; the units of its calls are looked for",
    );
    for set in 0..table::SETS {
        table::update(host, set, |content| {
            let mut write = Write::No;
            for (place, mut record) in content.iter().collect::<Vec<_>>() {
                record.call_roll(number);
                if record.in_flight.roll == number || record.journal.in_flight.roll == number {
                    content.put(place, &record);
                    write = Write::Yes;
                }
            }
            ((), write)
        });
    }
    roster::update(host, |roster| {
        let is_mine = roster.roll == Roll::Opening && roster.number == number;
        if is_mine {
            roster.roll = Roll::Open;
        }
        is_mine
    });
}

/// Closes a roll call: what nobody has claimed comes home.
fn close_roll(host: &impl Host, number: u64) {
    let mut released = 0_u64;
    for set in 0..table::SETS {
        let units = table::update(host, set, |content| {
            let mut units = 0_u64;
            for (place, mut record) in content.iter().collect::<Vec<_>>() {
                units = units.saturating_add(record.close_roll(number));
                content.put(place, &record);
            }
            (units, if 0 < units { Write::Yes } else { Write::No })
        });
        if let Some(units @ 1..) = units {
            released = released.saturating_add(units);
            control::mark_changed(host, set);
        }
    }
    roster::update(host, |roster| {
        let is_open = roster.roll == Roll::Open && roster.number == number;
        if is_open {
            roster.roll = Roll::Closed;
            roster.closed = number;
        }
        is_open
    });
    if 0 < released {
        let text = format!("farebox: {released} units of calls of a VM that died have come back");
        host.log(Severity::Warn, &text);
    }
}
