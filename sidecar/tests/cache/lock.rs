//! One holder at a time, each with a larger number.

use farebox_sidecar::cache::{Cache, Lock, LockName};
use farebox_tests::eventually;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fixture::{FENCE, Fixture, LOCK, LONG, account, ask_once, held, name};

#[tokio::test]
async fn a_lock_has_one_holder_until_it_is_given_back() {
    let redis = Fixture::new().await;
    let (one, other) = (redis.cache(), redis.cache());
    let guard = held(&one, 0).await;
    assert!((1..=5_000).contains(&redis.ends_in_ms(LOCK)));
    assert!(matches!(ask_once(&other).await, Lock::Busy));
    assert!(matches!(ask_once(&one).await, Lock::Busy), "nor twice for one sidecar");
    // Another month, service or account is another lock.
    let next = LockName::new(&account("ada"), &"asset".parse().unwrap(), "2026-06");
    assert!(matches!(other.lock(&next, 0, Instant::now()).await, Lock::Held(_)));
    let first = guard.fencing();
    one.unlock(guard);
    assert!(first < held(&other, 0).await.fencing());
}

#[tokio::test]
async fn who_waits_gets_it_when_the_holders_time_is_over() {
    let redis = Fixture::new().await;
    let (one, other) = (redis.cache(), redis.cache());
    let stuck = held(&one, 0).await;
    let waiting = tokio::spawn(async move { held(&other, 0).await });
    redis.server.command(&["PEXPIRE", LOCK, "1"]);
    let successor = waiting.await.unwrap();
    assert!(stuck.fencing() < successor.fencing());
    // The old holder comes back to life and gives back what it no longer has.
    one.unlock(stuck);
    settled(&one).await;
    assert!(redis.exists(LOCK), "the successor's lock");
    drop(successor);
    eventually!(!redis.exists(LOCK));
}

/// Waits until what was given back in the background has reached Redis: a lock given back later is free again.
async fn settled(cache: &Cache) {
    let other = LockName::new(&account("settled"), &"asset".parse().unwrap(), "2026-05");
    for _ in 0..3 {
        let lock = cache.lock(&other, 0, Instant::now() + LONG).await;
        assert!(matches!(lock, Lock::Held(_)), "{lock:?}");
    }
}

#[tokio::test]
async fn waiting_ends_with_its_time() {
    let redis = Fixture::new().await;
    let cache = redis.cache();
    let _guard = held(&cache, 0).await;
    let until = Instant::now() + std::time::Duration::from_millis(100);
    assert!(matches!(cache.lock(&name(), 0, until).await, Lock::Busy));
    assert!(redis.exists(LOCK), "not waited until the holder's time was over");
}

#[tokio::test]
async fn numbers_grow_whatever_redis_has_forgotten() {
    let redis = Fixture::new().await;
    let cache = redis.cache();
    let first = held(&cache, 0).await.fencing();
    let second = held(&cache, 0).await.fencing();
    assert!(first < second);
    // The rows have seen more than Redis knows of.
    let ahead = second + 3_600_000_000;
    assert_eq!(held(&cache, ahead).await.fencing(), ahead + 1);
    assert_eq!(
        held(&cache, 0).await.fencing(),
        ahead + 2,
        "remembered, though the clock is behind"
    );
    redis.server.command(&["FLUSHALL"]);
    assert_eq!(held(&cache, ahead + 2).await.fencing(), ahead + 3);
}

#[tokio::test]
async fn a_number_that_is_none_is_not_believed() {
    let redis = Fixture::new().await;
    let cache = redis.cache();
    let mut last = held(&cache, 0).await.fencing();
    for nonsense in ["", "x", "nan", "inf", "-5", "1e300", "9007199254740992"] {
        redis.server.set(FENCE, nonsense);
        let next = held(&cache, last).await.fencing();
        assert!(last < next && next < last + 3_600_000_000, "{nonsense:?}: {last} {next}");
        last = next;
    }
    redis.server.remove(FENCE);
    redis.server.push(FENCE, "x");
    assert!(last < held(&cache, last).await.fencing());
    // Beyond what a number can say, there is none.
    assert!(matches!(cache.lock(&name(), 1 << 53, Instant::now()).await, Lock::Away));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sidecars_take_turns() {
    let redis = Fixture::new().await;
    let mut turns = JoinSet::new();
    for _ in 0..4 {
        let cache = redis.cache();
        turns.spawn(async move {
            let mut numbers = Vec::new();
            for _ in 0..5 {
                let guard = held(&cache, 0).await;
                numbers.push(guard.fencing());
            }
            numbers
        });
    }
    let turns = turns.join_all().await;
    assert!(turns.iter().all(|numbers| numbers.is_sorted()));
    let mut all = turns.concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 20, "no number twice");
}

#[tokio::test]
async fn a_lock_that_nobody_waits_for_any_more_goes_back() {
    let redis = Fixture::new().await;
    let cache = redis.cache();
    drop(held(&cache, 0).await);
    eventually!(!redis.exists(LOCK));
    // Whoever asked is gone before the answer is here.
    redis.server.remove(FENCE);
    let still = redis.server.stand_still();
    let asking = tokio::time::timeout(std::time::Duration::from_millis(100), held(&cache, 0));
    assert!(asking.await.is_err());
    drop(still);
    redis.gone_without_expiry().await;
}
