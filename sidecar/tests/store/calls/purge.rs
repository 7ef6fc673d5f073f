//! Answers are kept for a day, and then forgotten.

use super::{commit, deduct, refund, release, reserve_units, undo};
use crate::fixture::{Fixture, credit};

impl Fixture {
    /// Lets every stored answer grow older.
    async fn age(&self, by: &str) {
        let sql =
            format!("UPDATE idempotency_key SET created_at = created_at - INTERVAL {by} SECOND");
        self.database.run(sql).await;
    }

    async fn answers(&self) -> Vec<String> {
        self.database
            .rows("SELECT scope, idempotency_key FROM idempotency_key ORDER BY created_at, scope")
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_go_after_a_day_and_those_of_operators_stay() {
    let farebox = Fixture::new(&[("asset", 9)], &[("asset", "0.1")]).await;
    farebox.app.credit(&credit("u", "1", "paid-in")).await.unwrap();
    let record = farebox.record(deduct("old", "u", "asset", 1)).await;
    let committed = farebox.reservation(reserve_units("old-r", "u", "asset", 2)).await;
    farebox.record(commit(&committed, None)).await;
    let released = farebox.reservation(reserve_units("old-s", "u", "asset", 2)).await;
    farebox.told(release(&released)).await;
    farebox.told(refund("old-f", &record, None)).await;
    farebox.told(undo("old-never", "u")).await;
    farebox.age("600").await;
    farebox.told(deduct("young", "u", "asset", 1)).await;
    // Five minutes above a day, and five minutes below it.
    farebox.age("86100").await;
    let before = farebox.books().await;
    assert_eq!(farebox.app.purge().await.unwrap(), 8);
    assert_eq!(farebox.answers().await, ["account.credit paid-in", "call.deduct young"]);
    assert_eq!(farebox.books().await, before, "only answers go");
    assert_eq!(farebox.app.purge().await.unwrap(), 0);

    // The younger key still stands for its answer; the older one is free for another request.
    let other = farebox.told(deduct("young", "u", "asset", 2)).await;
    assert!(other.contains("was used for another request"), "{other}");
    assert_eq!(
        farebox.told(deduct("old", "u", "asset", 2)).await,
        "2 free, 0 paid for 0, leaves 1"
    );
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_once_has_ended_even_when_its_answer_is_forgotten() {
    let farebox = Fixture::new(&[("asset", 9)], &[]).await;
    let record = farebox.record(deduct("d", "u", "asset", 1)).await;
    farebox.told(refund("f", &record, None)).await;
    let id = farebox.reservation(reserve_units("r", "u", "asset", 3)).await;
    let charged = farebox.record(commit(&id, Some(2))).await;
    let gone = farebox.reservation(reserve_units("s", "u", "asset", 3)).await;
    farebox.told(release(&gone)).await;
    farebox.age("86401").await;
    farebox.app.purge().await.unwrap();
    assert!(farebox.answers().await.is_empty());
    let before = farebox.books().await;
    for (request, expected) in [
        (
            commit(&id, Some(2)),
            format!("reservation {id} was committed already, as billing record {charged}"),
        ),
        (
            release(&id),
            format!("reservation {id} was committed already, as billing record {charged}"),
        ),
        (commit(&gone, None), format!("reservation {gone} was released; deduct the call instead")),
        (release(&gone), "back 0 free, 0 paid, 0".to_owned()),
        (refund("f", &record, None), format!("all of billing record {record} went back already")),
    ] {
        assert_eq!(farebox.told(request).await, expected);
    }
    assert_eq!(farebox.books().await, before);
    assert_eq!(farebox.quotas("u").await, "asset 2+0/9");
    farebox.assert_sound().await;
}
