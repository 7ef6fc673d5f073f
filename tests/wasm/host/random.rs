//! Random bytes that a test can script, and numbers for tests that vary with a seed.

use std::collections::VecDeque;

/// A stream of numbers that depends on its seed alone (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Starts at a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// An index of a list of `length` items, at least 1.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What guests get from `random_get`: the script first, then numbers.
#[derive(Debug)]
pub(crate) struct Entropy {
    script: VecDeque<u8>,
    rest: Random,
}

impl Entropy {
    pub(crate) fn new(seed: u64) -> Self {
        Self { script: VecDeque::new(), rest: Random::new(seed) }
    }

    pub(crate) fn script(&mut self, bytes: &[u8]) {
        self.script.extend(bytes);
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count)
            .map(|_| self.script.pop_front().unwrap_or_else(|| self.rest.number().to_le_bytes()[0]))
            .collect()
    }
}
