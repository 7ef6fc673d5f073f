//! Which accounts were found locked by somebody else lately. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use farebox_core::id::AccountId;

/// The most accounts that are remembered.
const ACCOUNTS_MAX: usize = 10_000;

/// The accounts that were found locked lately, and until when that counts.
#[derive(Debug)]
pub(super) struct Contention {
    /// How long an account counts as contended after it was found locked.
    lasts: Duration,
    until: BTreeMap<AccountId, Instant>,
}

impl Contention {
    /// Nothing was found locked yet.
    pub(super) fn new(lasts: Duration) -> Self {
        Self { lasts, until: BTreeMap::new() }
    }

    /// The account was found locked.
    pub(super) fn note(&mut self, account: &AccountId, now: Instant) {
        if ACCOUNTS_MAX <= self.until.len() {
            self.until.retain(|_, until| now < *until);
        }
        if ACCOUNTS_MAX <= self.until.len()
            && let Some(first) = self.until.iter().min_by_key(|(_, until)| **until)
        {
            let first = first.0.clone();
            self.until.remove(&first);
        }
        self.until.insert(account.clone(), now + self.lasts);
    }

    /// Whether it was found locked lately.
    pub(super) fn is_contended(&self, account: &AccountId, now: Instant) -> bool {
        self.until.get(account).is_some_and(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_counts_for_a_while_and_the_memory_is_bounded() {
        let (lasts, now) = (Duration::from_secs(5), Instant::now());
        let mut contention = Contention::new(lasts);
        let account = |number: usize| format!("u{number}").parse::<AccountId>().unwrap();
        contention.note(&account(0), now);
        let later = now + lasts;
        assert!(contention.is_contended(&account(0), later - Duration::from_millis(1)));
        assert!(!contention.is_contended(&account(0), later));
        assert!(!contention.is_contended(&account(1), now));
        for number in 0..ACCOUNTS_MAX + 5 {
            contention.note(&account(number), now);
        }
        assert_eq!(contention.until.len(), ACCOUNTS_MAX);
        assert!(contention.is_contended(&account(ACCOUNTS_MAX + 4), now), "the newest is known");
        contention.note(&account(ACCOUNTS_MAX + 9), later);
        assert!(contention.is_contended(&account(ACCOUNTS_MAX + 9), later), "old ones made room");
    }
}
