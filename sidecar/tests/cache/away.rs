//! Redis dead, still, full, or without a place in the configuration: nobody waits for it for long.

use farebox_sidecar::cache::{Cache, CacheHealth, Lock};
use farebox_tests::eventually;
use tokio::time::Instant;

use crate::fixture::{FENCE, Fixture, LOCK, LONG, PATIENCE, account, ask_once, held, name};

/// Waits for a lock that cannot be had for a long time, and says how long it took to find that Redis is away.
async fn found_away(cache: &Cache) -> std::time::Duration {
    let started = Instant::now();
    let lock = cache.lock(&name(), 0, started + LONG).await;
    assert!(matches!(lock, Lock::Away), "{lock:?}");
    started.elapsed()
}

#[tokio::test]
async fn without_a_redis_there_is_nothing_to_wait_for() {
    let cache = Cache::off();
    found_away(&cache).await;
    assert!(cache.hint_clock().await.is_none());
    assert!(cache.hint::<u64>(&account("ada")).await.is_none());
    cache.drop_hints(&[account("ada")]).await;
}

#[tokio::test]
async fn a_dead_redis_is_found_out_and_found_back() {
    let redis = Fixture::new().await;
    let cache = redis.cache();
    drop(held(&cache, 0).await);
    redis.server.kill();
    assert!(found_away(&cache).await < LONG);
    assert!(cache.hint_clock().await.is_none());
    redis.server.start_again().await.unwrap();
    eventually!(matches!(ask_once(&cache).await, Lock::Held(_)), "asked again after a second");
}

#[tokio::test]
async fn a_lock_goes_back_to_a_redis_that_was_away() {
    let redis = Fixture::new().await;
    let cache = redis.cache();
    let guard = held(&cache, 0).await;
    let token = redis.server.get(LOCK).unwrap();
    redis.server.kill();
    cache.unlock(guard);
    // The first try began before this one does, and is in vain as well.
    eventually!(cache.health().await == CacheHealth::Unreachable);
    // As if it came back with what it held.
    redis.server.start_again().await.unwrap();
    redis.server.set(LOCK, &token);
    eventually!(!redis.exists(LOCK), "tried again");
}

#[tokio::test]
async fn a_full_redis_refuses_and_nobody_waits_for_it() {
    let redis = Fixture::new().await;
    let cache = redis.cache();
    let clock = cache.hint_clock().await.unwrap();
    redis.server.fill();
    found_away(&cache).await;
    assert!(!redis.exists(LOCK));
    cache.keep_hint(&account("ada"), &7, clock).await;
    assert_eq!(cache.hint::<u64>(&account("ada")).await, None);
    // It answers, so it is asked the next time.
    redis.server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(matches!(ask_once(&cache).await, Lock::Held(_)));
}

#[tokio::test]
async fn a_lock_that_a_slow_redis_gives_too_late_goes_back() {
    let redis = Fixture::new().await;
    let cache = redis.cache();
    drop(held(&cache, 0).await);
    eventually!(!redis.exists(LOCK));
    redis.server.remove(FENCE);
    let still = redis.server.stand_still();
    assert!(found_away(&cache).await < LONG);
    // One waits, the others do not.
    let started = Instant::now();
    for _ in 0..100 {
        assert!(cache.hint::<u64>(&account("ada")).await.is_none());
    }
    assert!(started.elapsed() < 20 * PATIENCE, "not one wait for each");
    drop(still);
    // Redis now carries out what it was asked long ago.
    redis.gone_without_expiry().await;
    eventually!(cache.hint_clock().await.is_some(), "found back");
}
