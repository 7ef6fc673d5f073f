//! Units of calls that run: set aside until the calls end, and found again when their VM dies.
//!
//! A roll call asks all VMs for whose calls the units are set aside. When it opens, all of them are unclaimed; every VM
//! claims those of its own calls, and calls that end meanwhile speak for themselves. Units of calls that began later do not
//! take part. What nobody has claimed when all VMs have answered belongs to calls of VMs that are dead.

/// The roll call of a call whose VM was taken for dead: its units have been given back.
pub const VOID: u64 = u64::MAX;

/// Units of calls that still run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Running {
    /// How many they are.
    pub units: u64,
    /// The latest roll call over them; a call that begins notes it.
    pub roll: u64,
    /// Those among them that nobody has spoken for in that roll call.
    pub unclaimed: u64,
}

impl Running {
    /// A call begins.
    pub fn begin(&mut self, units: u64) {
        self.units = self.units.saturating_add(units);
    }

    /// A call ends that began, or was claimed, in roll call `roll`. `false` when its units have been given back already,
    /// because its VM was taken for dead.
    pub fn end(&mut self, units: u64, roll: u64) -> bool {
        let is_held = roll != VOID && (self.roll <= roll || self.claim(units, self.roll));
        if is_held {
            self.units = self.units.saturating_sub(units);
        }
        is_held
    }

    /// Opens a roll call.
    pub fn call(&mut self, number: u64) {
        if 0 < self.units {
            self.roll = number;
            self.unclaimed = self.units;
        }
    }

    /// Speaks for units of calls that began before a roll call. `false` when it has closed without them.
    pub fn claim(&mut self, units: u64, number: u64) -> bool {
        if self.roll != number {
            return true;
        }
        let left = self.unclaimed.checked_sub(units);
        self.unclaimed = left.unwrap_or(self.unclaimed);
        left.is_some()
    }

    /// Closes a roll call: units that nobody has spoken for are not set aside any more. Returns how many.
    pub fn release(&mut self, number: u64) -> u64 {
        if self.roll != number {
            return 0;
        }
        let units = std::mem::take(&mut self.unclaimed).min(self.units);
        self.units = self.units.saturating_sub(units);
        units
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn with(units: u64) -> Running {
        Running { units, ..Running::default() }
    }

    #[test]
    fn what_nobody_speaks_for_comes_back_and_the_rest_stays() {
        let mut running = with(7);
        running.call(1);
        assert!(running.claim(3, 1));
        running.begin(2);
        assert!(running.end(1, 0), "a call that ends speaks for itself");
        assert!(running.end(2, 1), "one that began later has nothing to do with it");
        assert_eq!((running.units, running.release(1)), (6, 3));
        assert_eq!((running.units, running.release(1)), (3, 0));
        assert!(running.end(3, 1), "a claimed one ends as usual");
        assert_eq!(running.units, 0);
    }

    #[test]
    fn a_call_whose_vm_was_taken_for_dead_takes_nothing_from_others() {
        let mut running = with(5);
        running.call(1);
        assert!(running.claim(3, 1));
        running.release(1);
        assert!(!running.end(2, 0));
        assert!(!running.end(2, VOID));
        assert_eq!(running.units, 3);
        running.call(2);
        assert!(!running.end(2, VOID), "nor in a later roll call");
        assert_eq!((running.units, running.unclaimed), (3, 3));
    }

    #[test]
    fn a_claim_that_comes_too_late_is_told_so() {
        let mut running = with(2);
        running.call(1);
        running.release(1);
        assert!(!running.claim(2, 1));
        assert_eq!(running, Running { units: 0, roll: 1, unclaimed: 0 });
    }

    #[test]
    fn a_roll_call_that_is_repeated_begins_anew() {
        let mut running = with(4);
        running.call(1);
        assert!(running.claim(4, 1));
        running.call(2);
        assert!(running.claim(4, 1), "it says nothing about the second");
        assert_eq!((running.release(1), running.unclaimed), (0, 4));
        assert!(running.claim(4, 2));
        assert_eq!(running.release(2), 0);
        assert_eq!(running.units, 4);
    }

    #[cfg(not(target_family = "wasm"))]
    proptest::proptest! {
        /// The model: calls of three VMs, of which one may die. Whoever lives answers each roll call before it closes.
        #[test]
        fn exactly_the_units_of_the_dead_come_back(
            steps in proptest::collection::vec((0..6_u8, 0..3_usize, 1..4_u64), 0..80),
            dead in 0..4_usize,
        ) {
            let mut running = Running::default();
            let mut calls: Vec<(usize, u64, u64)> = Vec::new();
            let (mut number, mut answered, mut is_open) = (0, [true; 3], false);
            for (step, vm, units) in steps {
                match step {
                    0 | 1 => {
                        running.begin(units);
                        calls.push((vm, units, running.roll));
                    }
                    2 => if let Some(place) = calls.iter().position(|call| call.0 == vm && vm != dead) {
                        let (_, units, roll) = calls.swap_remove(place);
                        proptest::prop_assert!(running.end(units, roll));
                    },
                    3 if !is_open => {
                        number += 1;
                        running.call(number);
                        (answered, is_open) = ([false; 3], true);
                    }
                    4 if is_open && vm != dead && !answered[vm] => {
                        let mine = |call: &&mut (usize, u64, u64)| call.0 == vm && call.2 < number;
                        let sum = calls.iter_mut().filter(mine).map(|call| call.1).sum();
                        proptest::prop_assert!(running.claim(sum, number));
                        calls.iter_mut().filter(mine).for_each(|call| call.2 = number);
                        answered[vm] = true;
                    }
                    5 if is_open && (0..3).all(|vm| answered[vm] || vm == dead) => {
                        let lost: u64 =
                            calls.extract_if(.., |call| call.0 == dead && call.2 < running.roll)
                                .map(|call| call.1).sum();
                        let released = running.release(number);
                        proptest::prop_assert_eq!(released, lost);
                        is_open = false;
                    }
                    _ => {}
                }
                proptest::prop_assert_eq!(running.units, calls.iter().map(|call| call.1).sum::<u64>());
            }
        }
    }
}
