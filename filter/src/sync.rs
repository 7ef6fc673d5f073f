//! Messages to the sidecar: what goes in, and what a reply changes in shared data.

use std::collections::{BTreeMap, BTreeSet};

use farebox_core::limits::UNITS_MAX;
use farebox_core::money::Nanos;
use farebox_core::wire::{
    Grant, JournalReport, Known, LeaseKey, Recall, Refusal, Report, SyncReply, SyncRequest, Want,
};

use crate::control;
use crate::host::Host;
use crate::record::Record;
use crate::risk::{self, Budget, Exposure};
use crate::table::{self, Set, Write};

/// Times and bounds that the collection depends on.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The moment.
    pub now: u64,
    /// A lease unused for this long is given back.
    pub idle_return_ms: u64,
    /// A question asked now may be answered for this long.
    pub answer_within_ms: u64,
    /// The most that may be lent.
    pub budget: Option<Budget>,
}

impl Timing {
    /// Until when a question that is asked now may be answered.
    fn answered_until(self) -> u64 {
        self.now.saturating_add(self.answer_within_ms)
    }
}

/// What a message carries, and where it came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    /// Usage of leases.
    pub reports: Vec<Report>,
    /// Units asked for.
    pub wants: Vec<Want>,
    /// Usage without a lease.
    pub journal: Vec<JournalReport>,
    /// The set of each lease and journal line.
    places: BTreeMap<u64, usize>,
    lines: BTreeMap<u64, usize>,
    /// Keys whose lease is to be refilled as far as the budget allows, with their sets; without one they are wants.
    pub refills: Vec<(usize, LeaseKey)>,
    /// What the records of each set stand for.
    pub exposures: BTreeMap<usize, Exposure>,
    /// Whether any lease is held.
    pub holds_leases: bool,
}

impl Draft {
    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.reports.is_empty() && self.wants.is_empty() && self.journal.is_empty()
    }

    /// The longest of the three lists.
    pub fn len(&self) -> usize {
        let wants = self.wants.len().saturating_add(self.refills.len());
        self.reports.len().max(wants).max(self.journal.len())
    }

    fn absorb(&mut self, set: usize, part: Part) {
        for report in &part.reports {
            self.places.insert(report.lease, set);
        }
        for line in &part.journal {
            self.lines.insert(line.line, set);
        }
        // One lease may come in twice, by a worker's question and by the list of changes: the later totals stand.
        self.reports.retain(|known| part.reports.iter().all(|report| report.lease != known.lease));
        self.journal.retain(|known| part.journal.iter().all(|line| line.line != known.line));
        self.reports.extend(part.reports);
        self.wants.extend(part.wants);
        self.journal.extend(part.journal);
        self.refills.extend(part.refills.into_iter().map(|key| (set, key)));
        self.exposures.insert(set, part.exposure);
        self.holds_leases |= part.holds_leases;
    }
}

/// What one set contributes.
#[derive(Debug, Default)]
struct Part {
    reports: Vec<Report>,
    wants: Vec<Want>,
    journal: Vec<JournalReport>,
    refills: Vec<LeaseKey>,
    exposure: Exposure,
    holds_leases: bool,
}

/// A message on its way.
#[derive(Debug, Clone)]
pub struct Sent {
    /// What it said.
    pub request: SyncRequest,
    /// When it was first sent: leases count from here.
    pub asked_at: u64,
    places: BTreeMap<u64, usize>,
    lines: BTreeMap<u64, usize>,
}

impl Sent {
    /// A message made of a draft.
    pub fn new(draft: Draft, header: SyncRequest, asked_at: u64) -> Self {
        let Draft { reports, wants, journal, places, lines, .. } = draft;
        Self { request: SyncRequest { reports, wants, journal, ..header }, asked_at, places, lines }
    }

    /// The units that it asks for a key.
    fn asked_for(&self, key: &LeaseKey) -> u64 {
        let wants = self.request.wants.iter().filter(|want| want.key == *key);
        wants.fold(0, |sum, want| sum.saturating_add(want.units))
    }

    /// The sets it reports about.
    pub fn sets(&self) -> impl Iterator<Item = usize> {
        self.places.values().chain(self.lines.values()).copied()
    }

    /// The sets of what a reply does not acknowledge: the sidecar has left it out.
    pub fn sets_left_out(&self, reply: &SyncReply) -> BTreeSet<usize> {
        let acked: BTreeSet<u64> = reply.acks.iter().map(|ack| ack.lease).collect();
        let leases = self.places.iter().filter(|(lease, _)| !acked.contains(lease));
        let acked: BTreeSet<u64> = reply.journal_acks.iter().map(|ack| ack.line).collect();
        let lines = self.lines.iter().filter(|(line, _)| !acked.contains(line));
        leases.chain(lines).map(|(_, set)| *set).collect()
    }
}

/// Adds to a draft what the records of a set have to say: unreported usage, renewals, returns, refills.
pub fn collect(host: &impl Host, set: usize, timing: Timing, draft: &mut Draft) {
    let part = table::update(host, set, |content| {
        let before = content.clone();
        let mut part = Part::default();
        let places: Vec<(usize, Record)> = content.iter().collect();
        for (place, mut record) in places {
            let key = content.key(place);
            record.queued = false;
            retire(&mut record, timing);
            record.end_if_possible(timing.now);
            report(&record, key.as_ref(), timing, &mut part);
            if record.wants_refill(timing.now)
                && let Some(key) = key
            {
                if timing.budget.is_some() {
                    part.refills.push(key);
                } else {
                    part.wants.push(refill(&mut record, key, timing));
                }
            }
            content.put(place, &record);
        }
        content.retain(|record| !(record.is_disposable(timing.now) && is_idle(record, timing)));
        part.exposure = content.exposure(timing.now);
        let write = if *content == before { Write::No } else { Write::Yes };
        (part, write)
    });
    if let Some(part) = part {
        draft.absorb(set, part);
    }
}

fn refill(record: &mut Record, key: LeaseKey, timing: Timing) -> Want {
    let units = record.wish(record.low_water.max(1), timing.now);
    record.note_question(timing.answered_until(), units, timing.now);
    Want { key, units, min: 1, waiting: false, known: Some(known(record)) }
}

fn known(record: &Record) -> Known {
    Known { lease: record.lease, granted: if record.lease == 0 { 0 } else { record.granted } }
}

fn is_idle(record: &Record, timing: Timing) -> bool {
    record.last_draw_ms.saturating_add(timing.idle_return_ms) <= timing.now
}

/// Closes a lease that has run out, or that nobody draws from any more; what running calls hold stays until they end.
fn retire(record: &mut Record, timing: Timing) {
    let is_unused = is_idle(record, timing) && record.asked_until_ms <= timing.now;
    let has_run_out = record.deadline_ms <= timing.now;
    if record.lease == 0 || record.closing {
        return;
    }
    if has_run_out || (is_unused && record.in_flight.units == 0) {
        record.close();
    } else if is_unused {
        record.yield_units();
    }
}

fn report(record: &Record, key: Option<&LeaseKey>, timing: Timing, part: &mut Part) {
    part.holds_leases |= record.lease != 0;
    if record.has_unreported() || record.ended || record.is_due_for_renewal(timing.now) {
        part.reports.push(report_of(record));
    }
    if record.journal.has_unreported()
        && let Some(key) = key
    {
        let line = JournalReport {
            line: record.journal.line,
            key: key.clone(),
            used: record.journal.used,
        };
        part.journal.push(line);
    }
}

fn report_of(record: &Record) -> Report {
    let usage = record.usage();
    Report {
        lease: record.lease,
        used: usage.used,
        in_flight: record.in_flight.units,
        returned: usage.returned,
        close: usage.close,
    }
}

/// What the records of a set stand for.
pub fn exposure(host: &impl Host, set: usize, now: u64) -> Exposure {
    table::read(host, set).exposure(now)
}

/// Why no question can be asked for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declined {
    /// Its set is full.
    NoRoom,
    /// Not even the fewest units that help fit into the budget.
    Budget,
}

/// What units are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Calls wait: the first takes some, all of them together take some more.
    Waiting(u64, u64),
    /// The lease runs low.
    Ahead,
}

impl Need {
    /// The fewest units that help, and how many would be good to have.
    fn units(self, record: &Record, now: u64) -> (u64, u64) {
        let held = if record.is_live(now) { record.remaining() } else { 0 };
        let (min, least) = match self {
            Self::Waiting(first, all) => {
                let min = first.saturating_sub(held).max(1);
                (min, all.saturating_sub(held).max(min).max(FIRST_WISH))
            }
            Self::Ahead => (1, record.low_water.max(1)),
        };
        (min, record.wish(least, now).min(UNITS_MAX))
    }
}

/// Adds the question for a key's units to a draft and keeps a place for the answer.
pub fn ask(
    host: &impl Host,
    set: usize,
    key: &LeaseKey,
    need: Need,
    timing: Timing,
    draft: &mut Draft,
) -> Result<(), Declined> {
    let lent = timing.budget.map(|budget| (budget, risk::lent(host).amount));
    let part = table::update(host, set, |content| {
        let mut part = Part::default();
        let Some((place, mut record)) = place_for(content, key, timing) else {
            return (Err(Declined::NoRoom), Write::No);
        };
        let (min, wish) = need.units(&record, timing.now);
        let price = record.known_price(key.price);
        let units = lent.map_or(Some(wish), |(budget, lent)| budget.units(lent, price, wish, min));
        let Some(units) = units else { return (Err(Declined::Budget), Write::No) };
        let waiting = need != Need::Ahead;
        let known = Some(known(&record));
        part.wants.push(Want { key: key.clone(), units, min, waiting, known });
        record.note_question(timing.answered_until(), units, timing.now);
        content.put(place, &record);
        // The answer may be about any lease that the sidecar has open for the key, also one that is on its way back.
        for (place, mut record) in content.places_of(key) {
            record.note_question(timing.answered_until(), 0, timing.now);
            content.put(place, &record);
        }
        for (_, record) in content.iter() {
            if record.ended || record.has_unreported() {
                part.reports.push(report_of(&record));
            }
        }
        part.exposure = content.exposure(timing.now);
        (Ok((part, price, units)), Write::Yes)
    });
    let (part, price, units) = part.unwrap_or(Err(Declined::NoRoom))?;
    if let Some(budget) = timing.budget {
        // The leader reads the set before it replaces the sum that the question is added to now.
        control::mark_changed(host, set);
        if !risk::reserve(host, budget, price, units) {
            // Others were faster.
            settle_question(host, set, key, units);
            return Err(Declined::Budget);
        }
    }
    draft.absorb(set, part);
    Ok(())
}

fn settle_question(host: &impl Host, set: usize, key: &LeaseKey, units: u64) {
    table::update(host, set, |content| {
        let is_changed = content.settle_question(key, units);
        ((), if is_changed { Write::Yes } else { Write::No })
    });
}

/// What a new account asks for: enough not to ask again at once, little enough not to hold much.
const FIRST_WISH: u64 = 16;

/// The record that the grant will go to: the current one, or a new one beside a lease that has run out.
pub fn place_for(content: &mut Set, key: &LeaseKey, timing: Timing) -> Option<(usize, Record)> {
    if let Some((place, mut record)) = content.current(key) {
        if record.lease == 0 || record.is_live(timing.now) {
            return Some((place, record));
        }
        record.close();
        content.put(place, &record);
    }
    content.make_room(timing.now);
    let journal = content.take_journal(key);
    let price = content.places_of(key).last().map_or(Nanos::ZERO, |(_, record)| record.price);
    let record = Record { last_draw_ms: timing.now, journal, price, ..Record::default() };
    content.push(key, &record).then(|| (content.len().saturating_sub(1), record))
}

/// What a reply leaves to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Leases whose grant found no place; the next message gives them back.
    pub orphans: Vec<Report>,
    /// Sets whose recalled units are to be reported with the next message.
    pub recalled: Vec<usize>,
    /// Leases whose grant cannot be drawn from.
    pub unplaced: BTreeSet<u64>,
}

/// Applies a reply.
pub fn apply(
    host: &impl Host,
    seed: u64,
    sent: &Sent,
    reply: &SyncReply,
    timing: Timing,
) -> Applied {
    let now = timing.now;
    acknowledge(host, sent, reply, now);
    let mut applied = Applied::default();
    for grant in &reply.grants {
        match install(host, seed, grant, sent, timing) {
            Installed::Placed => continue,
            Installed::Spoken => {}
            Installed::Orphan => {
                let granted = grant.free_units.saturating_add(grant.paid_units);
                applied.orphans.push(empty_report(grant.lease, granted));
            }
        }
        applied.unplaced.insert(grant.lease);
    }
    for refusal in &reply.refusals {
        remember(host, seed, refusal, sent.asked_for(&refusal.key), now);
    }
    for recall in &reply.recalls {
        let set = table::set_of(seed, &recall.key);
        match yield_lease(host, set, recall, now) {
            Yielded::Noted => applied.recalled.push(set),
            Yielded::Unknown => applied.orphans.push(empty_report(recall.lease, 0)),
            Yielded::Later => {}
        }
    }
    applied
}

/// What became of a recall.
enum Yielded {
    /// The lease's unused units go back with the next message.
    Noted,
    /// This process never heard of the lease, because the reply that granted it was lost: all of it goes back.
    Unknown,
    /// A reply that grants the lease may still arrive; the recall comes again with the next reply.
    Later,
}

fn yield_lease(host: &impl Host, set: usize, recall: &Recall, now: u64) -> Yielded {
    let yielded = table::update(host, set, |content| {
        if let Some((place, mut record)) = content.lease(recall.lease) {
            record.yield_units();
            content.put(place, &record);
            return (Yielded::Noted, Write::Yes);
        }
        let is_asked =
            content.places_of(&recall.key).iter().any(|(_, record)| now < record.asked_until_ms);
        (if is_asked { Yielded::Later } else { Yielded::Unknown }, Write::No)
    });
    yielded.unwrap_or(Yielded::Later)
}

/// The report of a lease that nothing was drawn from.
fn empty_report(lease: u64, returned: u64) -> Report {
    Report { lease, used: 0, in_flight: 0, returned, close: true }
}

fn acknowledge(host: &impl Host, sent: &Sent, reply: &SyncReply, now: u64) {
    for ack in &reply.acks {
        let Some(set) = sent.places.get(&ack.lease) else { continue };
        let Some(report) = sent.request.reports.iter().find(|report| report.lease == ack.lease)
        else {
            continue;
        };
        let reported = report.used.saturating_add(report.returned);
        table::update(host, *set, |content| {
            let Some((place, mut record)) = content.lease(ack.lease) else {
                return ((), Write::No);
            };
            record.acknowledge(reported, ack, sent.asked_at);
            if record.is_over(now) {
                record.forget_lease();
            }
            content.put(place, &record);
            content.retain(|record| record.lease != 0 || !record.is_disposable(now));
            ((), Write::Yes)
        });
    }
    for ack in &reply.journal_acks {
        let Some(set) = sent.lines.get(&ack.line) else { continue };
        table::update(host, *set, |content| {
            let Some((place, mut record)) = content.journal(ack.line) else {
                return ((), Write::No);
            };
            record.journal.acked = record.journal.acked.max(ack.used);
            content.put(place, &record);
            ((), Write::Yes)
        });
    }
}

/// What became of a grant.
enum Installed {
    /// It can be drawn from.
    Placed,
    /// It cannot, and a record of the lease speaks for it.
    Spoken,
    /// It cannot, and nothing in this process knows the lease: it is to be given back.
    Orphan,
}

/// Puts a grant where its key's question was noted.
///
/// A question is noted before it is asked, and a lease does not end while the note stands. So a grant that finds neither
/// its lease nor the note is for a lease that this process has ended: it must not be spent.
fn install(host: &impl Host, seed: u64, grant: &Grant, sent: &Sent, timing: Timing) -> Installed {
    let now = timing.now;
    let set = table::set_of(seed, &grant.key);
    let installed = table::update(host, set, |content| {
        let counted = content.exposure(now).counted();
        let noted = content.noted_units(&grant.key, now);
        let is_settled = content.settle_question(&grant.key, sent.asked_for(&grant.key));
        let Some((place, mut record)) = place_of(content, grant) else {
            let is_known = content.lease(grant.lease).is_some();
            let installed = if is_known { Installed::Spoken } else { Installed::Orphan };
            return ((installed, 0), if is_settled { Write::Yes } else { Write::No });
        };
        let known = if record.lease == grant.lease { record.granted } else { 0 };
        record.closing = false;
        record.accept(grant, sent.asked_at, now);
        if timing.budget.is_some() {
            record.hand_back(record.granted.saturating_sub(known).saturating_sub(noted));
        }
        content.put(place, &record);
        drop_empty_places(content, &grant.key);
        let added = content.exposure(now).counted().saturating_sub(counted);
        ((Installed::Placed, added), Write::Yes)
    });
    // When the host stored nothing, the lease may be in use, so it must not be given back here.
    let (installed, added) = installed.unwrap_or((Installed::Spoken, 0));
    if timing.budget.is_some() && 0 < added {
        control::mark_changed(host, set);
        risk::add(host, added);
    }
    installed
}

/// The record that takes a grant: the one of its lease, also when that was on its way back; else the noted one.
fn place_of(content: &mut Set, grant: &Grant) -> Option<(usize, Record)> {
    let of_key = content.places_of(&grant.key);
    if let Some((place, record)) = of_key.iter().find(|(_, record)| record.lease == grant.lease) {
        let is_newest = of_key.iter().all(|(_, other)| other.lease <= grant.lease);
        return (record.may_revive() && (is_newest || !record.closing))
            .then_some((*place, *record));
    }
    let (place, mut record) =
        content.current(&grant.key).filter(|(_, record)| record.lease < grant.lease)?;
    if record.lease == 0 {
        return Some((place, record));
    }
    // The sidecar has replaced the lease, for instance because the price changed.
    record.close();
    content.put(place, &record);
    let journal = content.take_journal(&grant.key);
    let record = Record { asked_until_ms: record.asked_until_ms, journal, ..Record::default() };
    content.push(&grant.key, &record).then(|| (content.len().saturating_sub(1), record))
}

/// A lease that came back to life needs no place beside it; the key's journal goes along.
fn drop_empty_places(content: &mut Set, key: &LeaseKey) {
    let journal = content.take_journal(key);
    for (place, record) in content.places_of(key).into_iter().rev() {
        if record.lease == 0 && !record.closing {
            content.remove(place);
        }
    }
    if let Some((place, mut record)) = content.current(key) {
        record.journal = journal;
        content.put(place, &record);
    }
}

/// Remembers a refusal, unless it is only about the moment.
fn remember(host: &impl Host, seed: u64, refusal: &Refusal, asked_units: u64, now: u64) {
    table::update(host, table::set_of(seed, &refusal.key), |content| {
        let is_settled = content.settle_question(&refusal.key, asked_units);
        if let Some((place, mut record)) = content.current(&refusal.key)
            && !refusal.soon
        {
            record.remember(refusal, now);
            content.put(place, &record);
            return ((), Write::Yes);
        }
        ((), if is_settled { Write::Yes } else { Write::No })
    });
}
