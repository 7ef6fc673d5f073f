//! How often somebody may come: a bucket for each, which fills with time. Pure.
//!
//! A crate for this (governor) keeps its keys without a bound and reads the clock itself; what is needed fits on a page.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// How many at once, and how soon one more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    pub(super) burst: u32,
    pub(super) one_more_after: Duration,
}

/// Somebody came too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooOften {
    /// When to come again.
    pub(super) after: Duration,
}

/// Everybody's bucket. Whoever has none has a full one.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    rate: Rate,
    /// The most buckets that are kept.
    most: usize,
    /// When each is full again.
    full_at: BTreeMap<K, Instant>,
}

impl<K: Ord + Clone> Buckets<K> {
    pub(super) fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most, full_at: BTreeMap::new() }
    }

    /// Whether somebody may come.
    pub(super) fn ask(&self, who: &K, now: Instant) -> Result<(), TooOften> {
        let Rate { burst, one_more_after } = self.rate;
        let full_at = self.full_at.get(who).copied().unwrap_or(now).max(now);
        // Full again after this one, no later than it would take to fill an empty bucket.
        let after = (full_at + one_more_after).duration_since(now);
        match after.checked_sub(one_more_after * burst) {
            Some(after) if !after.is_zero() => Err(TooOften { after }),
            Some(_) | None => Ok(()),
        }
    }

    /// Somebody comes, if they may.
    pub(super) fn take(&mut self, who: &K, now: Instant) -> Result<(), TooOften> {
        self.ask(who, now)?;
        if !self.full_at.contains_key(who) {
            self.make_room(now);
        }
        let full_at = self.full_at.entry(who.clone()).or_insert(now);
        *full_at = (*full_at).max(now) + self.rate.one_more_after;
        Ok(())
    }

    /// Forgets buckets that are full, and when none is, the fullest.
    fn make_room(&mut self, now: Instant) {
        if self.full_at.len() < self.most {
            return;
        }
        self.full_at.retain(|_, full_at| now < *full_at);
        if self.most <= self.full_at.len()
            && let Some((fullest, _)) = self.full_at.iter().min_by_key(|(_, full_at)| **full_at)
        {
            let fullest = fullest.clone();
            self.full_at.remove(&fullest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, one_more_after: Duration::from_millis(100) };

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_burst_is_let_through_and_then_one_at_a_time() {
        let (mut buckets, start) = (Buckets::new(RATE, 10), Instant::now());
        for _ in 0..3 {
            assert_eq!(buckets.take(&"ann", start), Ok(()));
        }
        assert_eq!(buckets.take(&"ann", start), Err(TooOften { after: ms(100) }));
        // Being refused costs nothing.
        assert_eq!(buckets.take(&"ann", start + ms(99)), Err(TooOften { after: ms(1) }));
        assert_eq!(buckets.take(&"ann", start + ms(100)), Ok(()));
        assert_eq!(buckets.take(&"ann", start + ms(100)), Err(TooOften { after: ms(100) }));
        assert_eq!(buckets.take(&"bob", start + ms(100)), Ok(()), "everybody has their own");
        // After a long time the bucket is full, and not fuller.
        let later = start + ms(60_000);
        let taken = (0..10).filter(|_| buckets.take(&"ann", later).is_ok()).count();
        assert_eq!(taken, 3);
    }

    #[test]
    fn asking_takes_nothing() {
        let (mut buckets, now) = (Buckets::new(RATE, 10), Instant::now());
        for _ in 0..10 {
            assert_eq!(buckets.ask(&"ann", now), Ok(()));
        }
        for _ in 0..3 {
            assert_eq!(buckets.take(&"ann", now), Ok(()));
        }
        assert_eq!(buckets.ask(&"ann", now), Err(TooOften { after: ms(100) }));
    }

    #[test]
    fn a_crowd_is_bounded_and_whoever_comes_most_is_remembered() {
        let (mut buckets, now) = (Buckets::new(RATE, 10), Instant::now());
        while buckets.take(&0, now).is_ok() {}
        for who in 1..1_000 {
            assert_eq!(buckets.take(&who, now), Ok(()));
            assert!(buckets.full_at.len() <= 10);
        }
        assert!(buckets.ask(&0, now).is_err());
    }
}
