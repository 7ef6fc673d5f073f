//! Calls that are paused until units arrive, first come first served per key, with one question at a time per key.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use farebox_core::wire::LeaseKey;

use crate::answer::Caller;
use crate::rule::Metered;
use crate::trace::Trace;

/// The most calls that may wait in one VM; beyond them callers are told to come back.
pub const WAITING_MAX: usize = 20_000;

/// A metered call, as far as it must be remembered while it is paused or runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The stream.
    pub stream: u32,
    /// Who pays for what.
    pub key: LeaseKey,
    /// The route's rule.
    pub rule: Rc<Metered>,
    /// How the caller is spoken to.
    pub caller: Caller,
}

/// A paused call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiter {
    /// The call.
    pub call: Call,
    /// When it stops waiting.
    pub until_ms: u64,
    /// The trace that its message belongs to.
    pub trace: Option<Trace>,
}

/// Where the question for a key's units stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// To be asked with the next message.
    Due,
    /// Asked; the answer is on its way.
    Asked,
    /// To be asked again at this moment.
    Later(u64),
}

/// The calls that wait for one key.
#[derive(Debug)]
pub struct Group {
    /// In order of arrival; never empty.
    pub waiters: VecDeque<Waiter>,
    /// Where their question stands.
    pub phase: Phase,
}

impl Group {
    /// Units that all waiting calls need together.
    pub fn units(&self) -> u64 {
        self.waiters.iter().fold(0, |sum, waiter| sum.saturating_add(waiter.call.rule.units))
    }
}

/// All paused calls of one VM.
#[derive(Debug, Default)]
pub struct Waiting {
    groups: BTreeMap<LeaseKey, Group>,
    keys: BTreeMap<u32, LeaseKey>,
}

impl Waiting {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many calls wait.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Adds a call at the end of its key's queue.
    pub fn push(&mut self, waiter: Waiter) {
        let key = waiter.call.key.clone();
        self.keys.insert(waiter.call.stream, key.clone());
        self.groups
            .entry(key)
            .or_insert_with(|| Group { waiters: VecDeque::new(), phase: Phase::Due })
            .waiters
            .push_back(waiter);
    }

    /// Takes a key's first call out.
    pub fn pop(&mut self, key: &LeaseKey) -> Option<Call> {
        self.pop_waiter(key).map(|waiter| waiter.call)
    }

    /// Takes a key's first call out, with the time until which it waits.
    pub fn pop_waiter(&mut self, key: &LeaseKey) -> Option<Waiter> {
        let group = self.groups.get_mut(key)?;
        let waiter = group.waiters.pop_front()?;
        self.forget(&waiter, key);
        Some(waiter)
    }

    /// A key's first call.
    pub fn first(&self, key: &LeaseKey) -> Option<&Call> {
        self.groups.get(key)?.waiters.front().map(|waiter| &waiter.call)
    }

    /// Takes a call out whose stream has ended.
    pub fn remove(&mut self, stream: u32) {
        let Some(key) = self.keys.get(&stream).cloned() else { return };
        let Some(group) = self.groups.get_mut(&key) else { return };
        let place = group.waiters.iter().position(|waiter| waiter.call.stream == stream);
        if let Some(waiter) = place.and_then(|place| group.waiters.remove(place)) {
            self.forget(&waiter, &key);
        }
    }

    fn forget(&mut self, waiter: &Waiter, key: &LeaseKey) {
        self.keys.remove(&waiter.call.stream);
        if self.groups.get(key).is_some_and(|group| group.waiters.is_empty()) {
            self.groups.remove(key);
        }
    }

    /// Takes the calls out that have waited long enough.
    pub fn expire(&mut self, now: u64) -> Vec<Call> {
        let streams: Vec<u32> = self
            .groups
            .values()
            .flat_map(|group| &group.waiters)
            .filter(|waiter| waiter.until_ms <= now)
            .map(|waiter| waiter.call.stream)
            .collect();
        let mut calls = Vec::with_capacity(streams.len());
        for stream in streams {
            let waiter =
                self.keys.get(&stream).and_then(|key| self.groups.get(key)).and_then(|group| {
                    group.waiters.iter().find(|waiter| waiter.call.stream == stream).cloned()
                });
            self.remove(stream);
            calls.extend(waiter.map(|waiter| waiter.call));
        }
        calls
    }

    /// The keys whose question is due, at most `limit`.
    pub fn due(&self, now: u64, limit: usize) -> Vec<LeaseKey> {
        self.groups
            .iter()
            .filter(|(_, group)| match group.phase {
                Phase::Due => true,
                Phase::Later(at) => at <= now,
                Phase::Asked => false,
            })
            .map(|(key, _)| key.clone())
            .take(limit)
            .collect()
    }

    /// The calls of a key.
    pub fn group(&self, key: &LeaseKey) -> Option<&Group> {
        self.groups.get(key)
    }

    /// Moves a key's question.
    pub fn set_phase(&mut self, key: &LeaseKey, phase: Phase) {
        if let Some(group) = self.groups.get_mut(key) {
            group.phase = phase;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ChargeOn;
    use crate::rule::{Mode, OnUnreachable};
    use farebox_core::code::Language;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn waiter(stream: u32, account: &str, until_ms: u64) -> Waiter {
        let rule = Metered {
            service: "asset".parse().unwrap(),
            price: None,
            units: 2,
            charge_on: ChargeOn::Request,
            on_unreachable: OnUnreachable::Deny,
            mode: Mode::Lease,
            shadow: false,
        };
        let key = LeaseKey {
            account: account.parse().unwrap(),
            service: rule.service.clone(),
            price: None,
        };
        let caller = Caller { language: Language::English, is_grpc: false };
        Waiter { call: Call { stream, key, rule: Rc::new(rule), caller }, until_ms, trace: None }
    }

    #[test]
    fn a_key_is_asked_for_once_however_many_calls_wait() {
        let mut waiting = Waiting::default();
        for stream in 0..5 {
            waiting.push(waiter(stream, "u1", 100));
        }
        waiting.push(waiter(9, "u2", 100));
        let due = waiting.due(0, 10);
        assert_eq!(due.len(), 2);
        waiting.set_phase(&due[0], Phase::Asked);
        waiting.set_phase(&due[1], Phase::Later(50));
        waiting.push(waiter(10, "u1", 100));
        assert_eq!((waiting.due(49, 10).len(), waiting.due(50, 10).len()), (0, 1));
        assert_eq!(waiting.group(&due[0]).map(Group::units), Some(12));
    }

    #[test]
    fn a_call_leaves_by_its_turn_its_end_or_its_time_and_only_once() {
        let mut waiting = Waiting::default();
        for (stream, until) in [(1, 10), (2, 20), (3, 30)] {
            waiting.push(waiter(stream, "u1", until));
        }
        let key = waiter(0, "u1", 0).call.key;
        waiting.remove(2);
        waiting.remove(2);
        let expired: Vec<u32> = waiting.expire(20).iter().map(|call| call.stream).collect();
        assert_eq!(expired, [1]);
        assert_eq!(waiting.pop(&key).map(|call| call.stream), Some(3));
        assert!(waiting.is_empty() && waiting.pop(&key).is_none());
    }
}
