//! Reading ahead of traffic.

use crate::calls::deduct;
use crate::fixture::{Fixture, want};

#[tokio::test(flavor = "multi_thread")]
async fn the_accounts_that_changed_last_are_read_and_nothing_is_written() {
    let farebox = Fixture::new(&[("asset", 10)], &[("asset", "0.1")]).await;
    for user in ["a", "b", "c"] {
        farebox.told(deduct(user, user, "asset", 1)).await;
    }
    farebox.gateway("edge").want(want("c", "asset", 3, 3)).await.unwrap();
    farebox
        .database
        .run("UPDATE user_balance SET updated_at = '2020-01-01' WHERE user_id = 'a'")
        .await;
    let before = farebox.database.dump(&["*"], &[]).await;
    let warmed = farebox.app.warm(2).await.unwrap();
    assert_eq!((warmed.accounts, warmed.free_quotas, warmed.leases), (2, 2, 1));
    let warmed = farebox.app.warm(1_000_000).await.unwrap();
    assert_eq!((warmed.accounts, warmed.free_quotas, warmed.leases), (3, 3, 1));
    assert_eq!(farebox.app.warm(0).await.unwrap().accounts, 0);
    assert_eq!(farebox.database.dump(&["*"], &[]).await, before);
}
