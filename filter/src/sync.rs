//! Messages to the sidecar: what goes in, and what a reply changes in shared data.

use std::collections::{BTreeMap, BTreeSet};

use farebox_core::limits::UNITS_MAX;
use farebox_core::wire::{
    Grant, JournalReport, LeaseKey, Recall, Refusal, Report, SyncReply, SyncRequest, Want,
};

use crate::host::Host;
use crate::record::Record;
use crate::table::{self, Set, Write};

/// Times that the collection depends on.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The moment.
    pub now: u64,
    /// A lease unused for this long is given back.
    pub idle_return_ms: u64,
    /// A question asked now may be answered for this long.
    pub answer_within_ms: u64,
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
    /// Units drawn and not acknowledged, by set.
    pub unreported: BTreeMap<usize, u64>,
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
        self.reports.len().max(self.wants.len()).max(self.journal.len())
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
        self.unreported.insert(set, part.unreported);
        self.holds_leases |= part.holds_leases;
    }
}

/// What one set contributes.
#[derive(Debug, Default)]
struct Part {
    reports: Vec<Report>,
    wants: Vec<Want>,
    journal: Vec<JournalReport>,
    unreported: u64,
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

    /// The sets it reports about.
    pub fn sets(&self) -> impl Iterator<Item = usize> {
        self.places.values().chain(self.lines.values()).copied()
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
                record.note_question(timing.now.saturating_add(timing.answer_within_ms));
                part.wants.push(Want {
                    key,
                    units: record.wish(record.low_water.max(1), timing.now),
                    min: 1,
                    waiting: false,
                });
            }
            content.put(place, &record);
        }
        content.retain(|record| !(record.is_disposable(timing.now) && is_idle(record, timing)));
        let write = if *content == before { Write::No } else { Write::Yes };
        (part, write)
    });
    if let Some(part) = part {
        draft.absorb(set, part);
    }
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
    if has_run_out || (is_unused && record.in_flight == 0) {
        record.close();
    } else if is_unused {
        record.yield_units();
    }
}

fn report(record: &Record, key: Option<&LeaseKey>, timing: Timing, part: &mut Part) {
    part.unreported = part.unreported.saturating_add(record.unreported_units());
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
        in_flight: record.in_flight,
        returned: usage.returned,
        close: usage.close,
    }
}

/// Units of a set that were drawn and not acknowledged.
pub fn unreported(host: &impl Host, set: usize) -> u64 {
    table::read(host, set)
        .iter()
        .fold(0, |sum, (_, record)| sum.saturating_add(record.unreported_units()))
}

/// Why no question can be asked for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

/// Adds the question for a key's units to a draft and keeps a place for the answer.
///
/// `need` is what the first waiting call takes, `all` what all of them take.
pub fn ask(
    host: &impl Host,
    set: usize,
    key: &LeaseKey,
    (need, all): (u64, u64),
    timing: Timing,
    draft: &mut Draft,
) -> Result<(), NoRoom> {
    let part = table::update(host, set, |content| {
        let mut part = Part::default();
        let Some((_, record)) = place_for(content, key, timing) else {
            return (Err(NoRoom), Write::No);
        };
        let held = if record.is_live(timing.now) { record.remaining() } else { 0 };
        let min = need.saturating_sub(held).max(1);
        let least = all.saturating_sub(held).max(min).max(FIRST_WISH);
        let units = record.wish(least, timing.now).min(UNITS_MAX);
        part.wants.push(Want { key: key.clone(), units, min, waiting: true });
        // The answer may be about any lease that the sidecar has open for the key, also one that is on its way back.
        for (place, mut record) in content.places_of(key) {
            record.note_question(timing.now.saturating_add(timing.answer_within_ms));
            content.put(place, &record);
        }
        for (_, record) in content.iter() {
            if record.ended || record.has_unreported() {
                part.reports.push(report_of(&record));
            }
        }
        (Ok(part), Write::Yes)
    });
    draft.absorb(set, part.unwrap_or(Err(NoRoom))?);
    Ok(())
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
    let record = Record { last_draw_ms: timing.now, journal, ..Record::default() };
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
pub fn apply(host: &impl Host, seed: u64, sent: &Sent, reply: &SyncReply, now: u64) -> Applied {
    acknowledge(host, sent, reply, now);
    let mut applied = Applied::default();
    for grant in &reply.grants {
        match install(host, seed, grant, sent.asked_at, now) {
            Installed::Placed => continue,
            Installed::Spoken => {}
            Installed::Orphan => {
                let granted = grant.free_units.saturating_add(grant.paid_units);
                applied.orphans.push(empty_report(grant.lease, granted));
            }
        }
        applied.unplaced.insert(grant.lease);
    }
    for refusal in reply.refusals.iter().filter(|refusal| !refusal.soon) {
        remember(host, seed, refusal, now);
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
fn install(host: &impl Host, seed: u64, grant: &Grant, asked_at: u64, now: u64) -> Installed {
    let installed = table::update(host, table::set_of(seed, &grant.key), |content| {
        let Some((place, mut record)) = place_of(content, grant) else {
            let is_known = content.lease(grant.lease).is_some();
            return (if is_known { Installed::Spoken } else { Installed::Orphan }, Write::No);
        };
        record.closing = false;
        record.accept(grant, asked_at, now);
        content.put(place, &record);
        drop_empty_places(content, &grant.key);
        (Installed::Placed, Write::Yes)
    });
    // When the host stored nothing, the lease may be in use, so it must not be given back here.
    installed.unwrap_or(Installed::Spoken)
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

fn remember(host: &impl Host, seed: u64, refusal: &Refusal, now: u64) {
    table::update(host, table::set_of(seed, &refusal.key), |content| {
        let Some((place, mut record)) = content.current(&refusal.key) else {
            return ((), Write::No);
        };
        record.remember(refusal, now);
        content.put(place, &record);
        ((), Write::Yes)
    });
}
