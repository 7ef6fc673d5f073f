//! Hints: young, or none.

use farebox_sidecar::cache::HINT_AGE_MAX;
use farebox_tests::eventually;
use serde::{Deserialize, Serialize};

use crate::fixture::{Fixture, account};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Purse {
    balance: String,
}

fn purse(balance: &str) -> Purse {
    Purse { balance: balance.to_owned() }
}

const KEY: &str = "farebox:hint:ada";

#[tokio::test]
async fn a_hint_is_seen_by_every_sidecar_until_it_is_dropped() {
    let redis = Fixture::new().await;
    let (one, other) = (redis.cache(), redis.cache());
    let ada = account("ada");
    // A second is short on a busy machine.
    eventually!(
        {
            let clock = one.hint_clock().await.unwrap();
            one.keep_hint(&ada, &purse("10.5"), clock).await;
            other.hint::<Purse>(&ada).await == Some(purse("10.5"))
        },
        "kept and found within its second"
    );
    assert!(other.hint::<Purse>(&account("bob")).await.is_none());
    other.drop_hints(&[account("bob"), ada.clone()]).await;
    assert!(one.hint::<Purse>(&ada).await.is_none());
}

#[tokio::test]
async fn a_hint_ends_a_second_after_the_clock_was_taken_not_after_it_was_written() {
    let redis = Fixture::new().await;
    let cache = redis.cache();
    let ada = account("ada");
    let clock = cache.hint_clock().await.unwrap();
    cache.keep_hint(&ada, &1_u64, clock).await;
    let longest = i64::try_from(HINT_AGE_MAX.as_millis()).unwrap();
    assert!(redis.ends_in_ms(KEY) <= longest);
    eventually!(cache.hint::<u64>(&ada).await.is_none());
    // The same reading of the database, written again by a sidecar that stood still meanwhile.
    cache.keep_hint(&ada, &1_u64, clock).await;
    assert!(cache.hint::<u64>(&ada).await.is_none());
    assert!(!redis.exists(KEY));
}

#[tokio::test]
async fn what_cannot_be_read_is_no_hint() {
    let redis = Fixture::new().await;
    let (cache, ada) = (redis.cache(), account("ada"));
    for foreign in ["", "{", "null", "{\"balance\":1}", "{\"Balance\":\"1\"}"] {
        redis.server.set(KEY, foreign);
        assert_eq!(cache.hint::<Purse>(&ada).await, None, "{foreign}");
    }
    redis.server.set_bytes(KEY.as_bytes(), &[0xff, 0xfe]);
    assert_eq!(cache.hint::<Purse>(&ada).await, None);
    redis.server.remove(KEY);
    redis.server.push(KEY, "{\"balance\":\"1\"}");
    assert_eq!(cache.hint::<Purse>(&ada).await, None);
    // A hint takes its place.
    eventually!(
        {
            let clock = cache.hint_clock().await.unwrap();
            cache.keep_hint(&ada, &purse("2"), clock).await;
            cache.hint::<Purse>(&ada).await == Some(purse("2"))
        },
        "kept and found within its second"
    );
}
