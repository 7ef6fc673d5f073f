//! The slot table: a fixed number of sets in shared data, each holding the records of a few keys.
//!
//! Shared data has no delete and no size limit of its own, so the table is what bounds it. A set is one shared value, so
//! a draw reads and writes once. When a set is full, its longest unused lease is given back to make room.

use std::hash::{DefaultHasher, Hash, Hasher};

use farebox_core::money::Nanos;
use farebox_core::wire::LeaseKey;

use crate::host::{CAS_OF_MISSING, Host, SetOutcome};
use crate::record::{Journal, Record};
use crate::risk::Exposure;
use crate::running::Running;
use crate::stats::Stat;

/// The number of sets.
pub const SETS: usize = 8_192;

/// From this many records in a set on, a newcomer makes the set give its longest unused lease back.
pub const WAYS: usize = 8;

/// The most records a set holds, while leases are on their way back.
pub const WAYS_MAX: usize = 16;

/// How often a write is tried before the call gets its rule's answer to an unreachable sidecar.
const TRIES_MAX: usize = 64;

/// The set of a key. `seed` is drawn at random per process: callers cannot aim at one set.
pub fn set_of(seed: u64, key: &LeaseKey) -> usize {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    key.hash(&mut hasher);
    let sets = u64::try_from(SETS).unwrap_or(1);
    usize::try_from(hasher.finish().checked_rem(sets).unwrap_or(0)).unwrap_or(0)
}

/// The shared key of a set. The number after the name is the layout's version: another layout never meets this one.
fn name_of(set: usize) -> String {
    format!("farebox/set/2/{set}")
}

/// Numbers of a record, in the order in which they are stored.
const NUMBERS: usize = 34;
const NUMBERS_BYTES: usize = NUMBERS * 8;

/// A set, as read from shared data; records are decoded when they are looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    records: Vec<(Vec<u8>, [u8; NUMBERS_BYTES])>,
}

impl Set {
    /// Reads a stored value. An empty or an unreadable one is an empty set.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut records = Vec::new();
        let mut rest = bytes;
        while let Some((&length, after)) = rest.split_first() {
            let Some((key, after)) = after.split_at_checked(usize::from(length)) else { break };
            let Some((numbers, after)) = after.split_first_chunk::<NUMBERS_BYTES>() else { break };
            records.push((key.to_vec(), *numbers));
            rest = after;
        }
        Self { records }
    }

    /// The value to store.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes =
            Vec::with_capacity(self.records.len().saturating_mul(NUMBERS_BYTES.saturating_add(64)));
        for (key, numbers) in &self.records {
            bytes.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(numbers);
        }
        bytes
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The record that calls of this key draw from: the one that is not on its way back.
    pub fn current(&self, key: &LeaseKey) -> Option<(usize, Record)> {
        let key = encode_key(key);
        self.records.iter().enumerate().find_map(|(index, (stored, numbers))| {
            let record = decode_record(numbers);
            (*stored == key && !record.closing).then_some((index, record))
        })
    }

    /// The places of a key's records.
    pub fn places_of(&self, key: &LeaseKey) -> Vec<(usize, Record)> {
        let key = encode_key(key);
        let of_key = self.records.iter().enumerate().filter(|(_, (stored, _))| *stored == key);
        of_key.map(|(place, (_, numbers))| (place, decode_record(numbers))).collect()
    }

    /// The record of a lease.
    pub fn lease(&self, lease: u64) -> Option<(usize, Record)> {
        self.iter().find(|(_, record)| record.lease == lease)
    }

    /// The record that holds a journal line.
    pub fn journal(&self, line: u64) -> Option<(usize, Record)> {
        self.iter().find(|(_, record)| record.journal.line == line)
    }

    /// Takes the journal of a key out of whichever record has it: it follows the key from lease to lease.
    pub fn take_journal(&mut self, key: &LeaseKey) -> Journal {
        let key = encode_key(key);
        for (stored, numbers) in &mut self.records {
            let mut record = decode_record(numbers);
            if *stored == key && record.journal.line != 0 {
                let journal = std::mem::take(&mut record.journal);
                *numbers = encode_record(&record);
                return journal;
            }
        }
        Journal::default()
    }

    /// Units that answers about a key may still bring.
    pub fn noted_units(&self, key: &LeaseKey, now: u64) -> u64 {
        let of_key = self.places_of(key);
        of_key.iter().fold(0, |sum, (_, record)| sum.saturating_add(record.noted_units(now)))
    }

    /// A question for a key's units is answered: they are not expected any more. Returns whether any were.
    pub fn settle_question(&mut self, key: &LeaseKey, mut units: u64) -> bool {
        let mut is_changed = false;
        for (place, mut record) in self.places_of(key) {
            let settled = record.asked_units.min(units);
            units = units.saturating_sub(settled);
            record.asked_units = record.asked_units.saturating_sub(settled);
            is_changed |= 0 < settled;
            self.put(place, &record);
        }
        is_changed
    }

    /// What all records stand for.
    pub fn exposure(&self, now: u64) -> Exposure {
        let exposures = self.iter().map(|(place, record)| {
            let price = self.key(place).and_then(|key| key.price);
            Exposure::of(&record, price, now)
        });
        exposures.fold(Exposure::default(), Exposure::plus)
    }

    /// All records with their places.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Record)> {
        self.records.iter().map(|(_, numbers)| decode_record(numbers)).enumerate()
    }

    /// The key of the record at a place.
    pub fn key(&self, index: usize) -> Option<LeaseKey> {
        self.records.get(index).and_then(|(key, _)| decode_key(key))
    }

    /// Replaces the record at a place.
    pub fn put(&mut self, index: usize, record: &Record) {
        if let Some((_, numbers)) = self.records.get_mut(index) {
            *numbers = encode_record(record);
        }
    }

    /// Adds a record; `false` when the set has no room.
    pub fn push(&mut self, key: &LeaseKey, record: &Record) -> bool {
        let has_room = self.records.len() < WAYS_MAX;
        if has_room {
            self.records.push((encode_key(key), encode_record(record)));
        }
        has_room
    }

    /// Removes the record at a place; those behind it move up.
    pub fn remove(&mut self, index: usize) {
        if index < self.records.len() {
            self.records.remove(index);
        }
    }

    /// Keeps the records for which `keep` holds.
    pub fn retain(&mut self, keep: impl Fn(&Record) -> bool) {
        self.records.retain(|(_, numbers)| keep(&decode_record(numbers)));
    }

    /// Makes room for one more key: drops what nobody needs, and closes the longest unused lease of a full set.
    pub fn make_room(&mut self, now: u64) {
        self.retain(|record| !record.is_disposable(now));
        let returning = self.iter().filter(|(_, record)| record.closing).count();
        if self.len().saturating_sub(returning) < WAYS {
            return;
        }
        let longest_unused = self
            .iter()
            .filter(|(_, record)| {
                record.lease != 0
                    && !record.closing
                    && record.in_flight.units == 0
                    && record.asked_until_ms <= now
            })
            .min_by_key(|(_, record)| record.last_draw_ms);
        if let Some((index, mut record)) = longest_unused {
            record.close();
            self.put(index, &record);
        }
    }
}

/// Bytes of a key: price present or not and its value, then service, NUL, account. At most 170 bytes.
fn encode_key(key: &LeaseKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.push(u8::from(key.price.is_some()));
    bytes.extend_from_slice(&key.price.map_or(0, Nanos::get).to_le_bytes());
    bytes.extend_from_slice(key.service.as_str().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(key.account.as_str().as_bytes());
    bytes
}

fn decode_key(bytes: &[u8]) -> Option<LeaseKey> {
    let (has_price, rest) = bytes.split_first()?;
    let (price, rest) = rest.split_first_chunk::<8>()?;
    let (service, account) = std::str::from_utf8(rest).ok()?.split_once('\0')?;
    Some(LeaseKey {
        account: account.parse().ok()?,
        service: service.parse().ok()?,
        price: (*has_price == 1).then(|| Nanos::new(i64::from_le_bytes(*price))),
    })
}

fn money_bits(amount: Nanos) -> u64 {
    u64::from_le_bytes(amount.get().to_le_bytes())
}

fn money_of(bits: u64) -> Nanos {
    Nanos::new(i64::from_le_bytes(bits.to_le_bytes()))
}

fn encode_record(record: &Record) -> [u8; NUMBERS_BYTES] {
    let flags = u64::from(record.closing)
        | (u64::from(record.queued) << 1)
        | (u64::from(record.ended) << 2)
        | (u64::from(record.gone) << 3);
    let numbers: [u64; NUMBERS] = [
        record.lease,
        record.granted,
        record.granted_free,
        record.free_left,
        record.returned,
        record.used,
        record.in_flight.units,
        record.in_flight.roll,
        record.in_flight.unclaimed,
        record.acked,
        money_bits(record.price),
        record.deadline_ms,
        record.renew_at_ms,
        record.heard_ms,
        record.low_water,
        record.last_draw_ms,
        record.asked_until_ms,
        record.asked_units,
        record.rate_since_ms,
        record.rate_base,
        record.refused_need,
        record.refused_until_ms,
        record.refused_code,
        money_bits(record.refused_available),
        record.refused_free,
        record.quota_total,
        record.quota_resets_ms,
        record.journal.line,
        record.journal.used,
        record.journal.in_flight.units,
        record.journal.in_flight.roll,
        record.journal.in_flight.unclaimed,
        record.journal.acked,
        flags,
    ];
    let mut bytes = [0; NUMBERS_BYTES];
    for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

fn decode_record(bytes: &[u8; NUMBERS_BYTES]) -> Record {
    let mut numbers =
        bytes.chunks_exact(8).map(|chunk| chunk.try_into().map_or(0, u64::from_le_bytes));
    let mut next = || numbers.next().unwrap_or(0);
    // Fields are read in the order in which they are written above: struct expressions evaluate top to bottom.
    let mut record = Record {
        lease: next(),
        granted: next(),
        granted_free: next(),
        free_left: next(),
        returned: next(),
        used: next(),
        in_flight: Running { units: next(), roll: next(), unclaimed: next() },
        acked: next(),
        price: money_of(next()),
        deadline_ms: next(),
        renew_at_ms: next(),
        heard_ms: next(),
        low_water: next(),
        last_draw_ms: next(),
        asked_until_ms: next(),
        asked_units: next(),
        rate_since_ms: next(),
        rate_base: next(),
        refused_need: next(),
        refused_until_ms: next(),
        refused_code: next(),
        refused_available: money_of(next()),
        refused_free: next(),
        quota_total: next(),
        quota_resets_ms: next(),
        journal: Journal {
            line: next(),
            used: next(),
            in_flight: Running { units: next(), roll: next(), unclaimed: next() },
            acked: next(),
        },
        closing: false,
        ended: false,
        gone: false,
        queued: false,
    };
    let flags = next();
    record.closing = flags & 1 != 0;
    record.queued = flags & 2 != 0;
    record.ended = flags & 4 != 0;
    record.gone = flags & 8 != 0;
    record
}

/// Reads a set.
pub fn read(host: &impl Host, set: usize) -> Set {
    host.shared_get(&name_of(set)).map_or_else(Set::default, |(bytes, _)| Set::decode(&bytes))
}

/// Changes a set: reads it, lets `change` work on it, and writes it back, again from the start when another worker was
/// faster. `change` says whether there is anything to write. `None` when the host stored nothing in many tries.
pub fn update<T>(
    host: &impl Host,
    set: usize,
    mut change: impl FnMut(&mut Set) -> (T, Write),
) -> Option<T> {
    let name = name_of(set);
    for _ in 0..TRIES_MAX {
        let (mut content, cas) = match host.shared_get(&name) {
            Some((bytes, cas)) => (Set::decode(&bytes), cas),
            None => (Set::default(), CAS_OF_MISSING),
        };
        let (outcome, write) = change(&mut content);
        if write == Write::No {
            return Some(outcome);
        }
        match host.shared_set(&name, &content.encode(), cas) {
            SetOutcome::Stored => return Some(outcome),
            SetOutcome::Conflict => host.count(Stat::CasConflicts, 1),
            SetOutcome::Failed => return None,
        }
    }
    None
}

/// Whether a change is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// The set was changed.
    Yes,
    /// The set is as it was.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn key(account: &str, price: Option<i64>) -> LeaseKey {
        LeaseKey {
            account: account.parse().unwrap(),
            service: "asset".parse().unwrap(),
            price: price.map(Nanos::new),
        }
    }

    /// A record whose every number is different.
    fn distinct() -> Record {
        let mut bytes = [0; NUMBERS_BYTES];
        for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            chunk[0] = u8::try_from(index).unwrap() + 1;
        }
        bytes[NUMBERS_BYTES - 8] = 15;
        decode_record(&bytes)
    }

    #[test]
    fn a_set_round_trips_with_every_number_in_its_place() {
        let record = distinct();
        assert_eq!((record.lease, record.granted, record.journal.acked), (1, 2, 33));
        assert!(record.closing && record.queued && record.ended && record.gone);
        let mut set = Set::default();
        assert!(set.push(&key("用户-1", Some(-1)), &record));
        assert!(set.push(&key(&"x".repeat(128), None), &Record::default()));
        let read = Set::decode(&set.encode());
        assert_eq!(read, set);
        assert_eq!(read.key(0), Some(key("用户-1", Some(-1))));
        assert_eq!(read.key(1), Some(key(&"x".repeat(128), None)));
        assert_eq!(read.iter().next(), Some((0, record)));
    }

    #[test]
    fn a_damaged_value_is_read_as_far_as_it_is_whole() {
        let mut set = Set::default();
        set.push(&key("a", None), &distinct());
        let bytes = set.encode();
        for end in 0..bytes.len() {
            assert!(Set::decode(&bytes[..end]).is_empty());
        }
    }

    #[test]
    fn accounts_of_one_set_never_meet_each_others_units() {
        let mut set = Set::default();
        set.push(&key("a", None), &Record { lease: 1, ..Record::default() });
        set.push(&key("a", Some(5)), &Record { lease: 2, ..Record::default() });
        set.push(&key("ab", None), &Record { lease: 3, ..Record::default() });
        let lease =
            |account, price| set.current(&key(account, price)).map(|(_, record)| record.lease);
        assert_eq!(lease("a", None), Some(1));
        assert_eq!(lease("a", Some(5)), Some(2));
        assert_eq!(lease("ab", None), Some(3));
        assert_eq!(lease("b", None), None);
    }

    #[test]
    fn the_journal_follows_its_key() {
        let mut set = Set::default();
        let journal = Journal { line: 9, used: 5, ..Journal::default() };
        set.push(
            &key("a", None),
            &Record { lease: 1, closing: true, journal, ..Record::default() },
        );
        set.push(&key("b", None), &Record::default());
        assert_eq!(set.take_journal(&key("b", None)), Journal::default());
        assert_eq!(set.take_journal(&key("a", None)), journal);
        assert_eq!(set.take_journal(&key("a", None)), Journal::default());
    }

    #[test]
    fn a_full_set_gives_its_longest_unused_lease_back() {
        let mut set = Set::default();
        for lease in 1..=WAYS as u64 {
            let record = Record {
                lease,
                granted: 5,
                last_draw_ms: 100 - lease,
                deadline_ms: 1_000,
                ..Record::default()
            };
            set.push(&key(&format!("u{lease}"), None), &record);
        }
        set.make_room(200);
        let closing: Vec<u64> = set
            .iter()
            .filter(|(_, record)| record.closing)
            .map(|(_, record)| record.lease)
            .collect();
        assert_eq!(closing, [WAYS as u64]);
        assert_eq!(set.lease(WAYS as u64).unwrap().1.returned, 5);
    }

    #[test]
    fn what_nobody_needs_makes_room_first() {
        let mut set = Set::default();
        for index in 0..WAYS {
            set.push(&key(&format!("u{index}"), None), &Record::default());
        }
        set.make_room(1);
        assert!(set.is_empty());
    }
}
