//! Which VMs of the process live, and how far the roll call is: one shared value.
//!
//! Every VM renews its line now and then. When one has been silent for long, the leader strikes it off and calls the roll
//! ([`crate::running`]).

use crate::host::{CAS_OF_MISSING, Host, SetOutcome};

/// The number after the name is the layout's version, as for records.
const ROSTER: &str = "farebox/roster/2";
const TRIES_MAX: usize = 64;

/// The most VMs that are listed: one per worker thread and one of the main thread, for each configuration that is in use or
/// being drained.
pub const VMS_MAX: usize = 1_024;

/// A VM.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vm {
    /// Its random name.
    pub name: u64,
    /// It counts as dead if it does not renew this line until then.
    pub lives_until_ms: u64,
    /// The roll call that it has answered last.
    pub answered: u64,
}

/// How far the latest roll call is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Roll {
    /// It is over.
    #[default]
    Closed,
    /// The leader tells the records; a leader that finds it so at its tick was interrupted.
    Opening,
    /// VMs claim what belongs to their calls.
    Open,
}

/// All VMs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// The number of the latest roll call.
    pub number: u64,
    /// How far it is.
    pub roll: Roll,
    /// The number of the latest one that is over.
    pub closed: u64,
    /// There are more VMs than lines until then, so nobody can be missed.
    pub crowded_until_ms: u64,
    /// A line for each.
    pub vms: Vec<Vm>,
}

impl Roster {
    /// The line of a VM.
    pub fn vm(&self, name: u64) -> Option<Vm> {
        self.vms.iter().find(|vm| vm.name == name).copied()
    }

    /// Writes a VM's line. Without a free one, the roster is crowded for as long as the line would have stood.
    pub fn show(&mut self, vm: Vm) {
        if let Some(line) = self.vms.iter_mut().find(|line| line.name == vm.name) {
            *line = vm;
        } else if self.vms.len() < VMS_MAX {
            self.vms.push(vm);
        } else {
            self.crowded_until_ms = self.crowded_until_ms.max(vm.lives_until_ms);
        }
    }

    /// Strikes a VM off that has ended its calls.
    pub fn sign_off(&mut self, name: u64) {
        self.vms.retain(|vm| vm.name != name);
    }

    /// Whether a roll call is to be opened: a VM is silent, or the leader that opened the last one was interrupted.
    pub fn must_open(&self, now: u64) -> bool {
        let is_dead = |vm: &Vm| vm.lives_until_ms <= now;
        let is_due = match self.roll {
            Roll::Opening => true,
            Roll::Closed => self.vms.iter().any(is_dead),
            Roll::Open => false,
        };
        is_due && self.crowded_until_ms <= now
    }

    /// Begins a roll call: who is silent is struck off.
    pub fn open(&mut self, now: u64) {
        self.vms.retain(|vm| now < vm.lives_until_ms);
        self.number = self.number.saturating_add(1);
        self.roll = Roll::Opening;
    }

    /// The roll call that every living VM has answered, if that is so.
    pub fn answered(&self, now: u64) -> Option<u64> {
        let has_answered = |vm: &Vm| vm.answered == self.number || vm.lives_until_ms <= now;
        let is_over = self.roll == Roll::Open
            && self.crowded_until_ms <= now
            && self.vms.iter().all(has_answered);
        is_over.then_some(self.number)
    }

    fn encode(&self) -> Vec<u8> {
        let roll = match self.roll {
            Roll::Closed => 0,
            Roll::Opening => 1,
            Roll::Open => 2,
        };
        let lines = self.vms.iter().flat_map(|vm| [vm.name, vm.lives_until_ms, vm.answered]);
        let numbers = [self.number, roll, self.closed, self.crowded_until_ms].into_iter();
        numbers.chain(lines).flat_map(u64::to_le_bytes).collect()
    }

    fn decode(bytes: &[u8]) -> Self {
        let mut numbers =
            bytes.chunks_exact(8).map(|chunk| chunk.try_into().map_or(0, u64::from_le_bytes));
        let mut next = || numbers.next();
        let mut roster = Self {
            number: next().unwrap_or(0),
            roll: match next() {
                Some(1) => Roll::Opening,
                Some(2) => Roll::Open,
                Some(_) | None => Roll::Closed,
            },
            closed: next().unwrap_or(0),
            crowded_until_ms: next().unwrap_or(0),
            vms: Vec::new(),
        };
        while let (Some(name), Some(lives_until_ms), Some(answered)) = (next(), next(), next()) {
            roster.vms.push(Vm { name, lives_until_ms, answered });
        }
        roster
    }
}

/// Reads the roster.
pub fn read(host: &impl Host) -> Roster {
    host.shared_get(ROSTER).map_or_else(Roster::default, |(bytes, _)| Roster::decode(&bytes))
}

/// Changes the roster; `false` when nothing was written, because `change` did not want it or the host did not do it.
pub fn update(host: &impl Host, mut change: impl FnMut(&mut Roster) -> bool) -> bool {
    for _ in 0..TRIES_MAX {
        let (mut roster, cas) = match host.shared_get(ROSTER) {
            Some((bytes, cas)) => (Roster::decode(&bytes), cas),
            None => (Roster::default(), CAS_OF_MISSING),
        };
        if !change(&mut roster) {
            return false;
        }
        match host.shared_set(ROSTER, &roster.encode(), cas) {
            SetOutcome::Stored => return true,
            SetOutcome::Conflict => {}
            SetOutcome::Failed => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn vm(name: u64, lives_until_ms: u64) -> Vm {
        Vm { name, lives_until_ms, answered: 0 }
    }

    #[test]
    fn a_roster_round_trips() {
        let mut roster = Roster {
            number: 3,
            roll: Roll::Opening,
            closed: 2,
            crowded_until_ms: 9,
            vms: vec![Vm { answered: 7, ..vm(5, 6) }, vm(8, 9)],
        };
        for roll in [Roll::Closed, Roll::Opening, Roll::Open] {
            roster.roll = roll;
            assert_eq!(Roster::decode(&roster.encode()), roster);
        }
        assert_eq!(Roster::decode(&[]), Roster::default());
    }

    #[test]
    fn who_is_silent_is_struck_off_and_everybody_else_has_to_answer() {
        let mut roster = Roster::default();
        for line in [vm(1, 100), vm(2, 50), vm(3, 100)] {
            roster.show(line);
        }
        assert!(!roster.must_open(49) && roster.must_open(50));
        roster.open(50);
        assert_eq!((roster.vms.len(), roster.number, roster.roll), (2, 1, Roll::Opening));
        assert_eq!(roster.answered(50), None, "not before the records know");
        assert!(roster.must_open(50), "whoever opened it was interrupted");
        roster.roll = Roll::Open;
        assert!(!roster.must_open(50));
        roster.show(Vm { answered: 1, ..vm(1, 150) });
        assert_eq!(roster.answered(99), None, "3 has not answered");
        assert_eq!(roster.answered(100), Some(1), "and has been silent since");
        roster.sign_off(3);
        assert_eq!(roster.answered(60), Some(1));
    }

    #[test]
    fn nobody_is_missed_while_there_are_more_vms_than_lines() {
        let mut roster = Roster::default();
        (0..=VMS_MAX as u64).for_each(|name| roster.show(vm(name + 1, 100 + name)));
        assert_eq!((roster.vms.len(), roster.crowded_until_ms), (VMS_MAX, 100 + VMS_MAX as u64));
        assert!(!roster.must_open(1_000) && roster.must_open(2_000));
        roster.roll = Roll::Open;
        assert_eq!(roster.answered(1_000), None);
        assert!(roster.answered(2_000).is_some());
    }
}
