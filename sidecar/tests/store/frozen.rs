//! Accounts that operators freeze: nothing new is lent or charged, what was set aside or used goes its way, money comes in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farebox_core::id::AccountId;
use farebox_core::wire::{JournalReport, Report};
use farebox_sidecar::app::{FreezeError, FreezeOutcome, Outcome};
use tokio::task::JoinSet;

use crate::calls::{
    call, commit, deduct, refund, release, reserve_amount, reserve_units, say, undo,
};
use crate::fixture::{Fixture, Gateway, key, refill, used, want};
use crate::orders;

fn name(account: &str) -> AccountId {
    account.parse().unwrap()
}

impl Fixture {
    pub(crate) async fn freeze(&self, account: &str) -> FreezeOutcome {
        self.app.freeze(&name(account), "ticket 9", "tests").await.unwrap()
    }

    pub(crate) async fn thaw(&self, account: &str) -> FreezeOutcome {
        self.app.thaw(&name(account), "paid", "tests").await.unwrap()
    }

    /// The code of a want's refusal; `None` when it is granted.
    async fn refusal(&self, edge: &mut Gateway, account: &str) -> Option<u32> {
        edge.want(want(account, "asset", 5, 2)).await.err().map(|refusal| refusal.code)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_frozen_account_is_lent_or_charged_not_even_free_units() {
    let farebox = Fixture::new(&[("asset", 100)], &[("asset", "0.1")]).await;
    farebox.credit("u", "10").await;
    let mut edge = farebox.gateway("edge-1");
    assert!(farebox.freeze("u").await.changed);

    let refused = edge.want(want("u", "asset", 5, 2)).await.unwrap_err();
    assert_eq!((refused.code, refused.soon, refused.min), (190_104, false, 1));
    assert!(refused.retry_after_ms <= 1_000, "a thaw works within a second");
    assert!(edge.want(refill("u", "asset", 5, 1)).await.is_err());
    for request in [
        deduct("d", "u", "asset", 1),
        reserve_units("r", "u", "asset", 1),
        reserve_amount("a", "u", "asset", "1"),
    ] {
        let Ok(Outcome::Refused(refusal)) = call(&farebox.app, request.clone()).await else {
            panic!("{request:?}")
        };
        assert_eq!(refusal.code, 190_104, "{request:?}");
    }
    let no = "no by account frozen, 100 free and 10 for 0";
    assert_eq!(farebox.checked("u", "asset", 1).await, no);
    let view = farebox.app.own_account(&name("u")).await.unwrap();
    assert!(view.frozen);
    assert_eq!(
        (farebox.money("u").await, farebox.quotas("u").await),
        ("10 0 0".to_owned(), "asset 0+0/100".to_owned())
    );
    // Others are served.
    assert!(edge.want(want("v", "asset", 5, 5)).await.is_ok());

    assert!(farebox.thaw("u").await.changed);
    assert_eq!(farebox.refusal(&mut edge, "u").await, None);
    let charged = farebox.told(deduct("d2", "u", "asset", 1)).await;
    assert_eq!(charged, "1 free, 0 paid for 0, leaves 10");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_or_used_before_goes_its_way() {
    let farebox = orders::with_payment(Fixture::new(&[], &[("asset", "1")]).await);
    farebox.credit("u", "20").await;
    let charged = farebox.record(deduct("d", "u", "asset", 2)).await;
    let [kept, dropped] = ["r1", "r2"].map(|key| reserve_units(key, "u", "asset", 3));
    let (kept, dropped) = (farebox.reservation(kept).await, farebox.reservation(dropped).await);
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 4, 4)).await.unwrap().lease;
    let frozen = farebox.freeze("u").await;
    assert_eq!((frozen.frozen, frozen.recalled_leases), (true, 1));

    assert_eq!(farebox.told(commit(&kept, None)).await, "0 free, 3 paid for 3, leaves 8");
    assert_eq!(farebox.told(release(&dropped)).await, "back 0 free, 3 paid, 3");
    let back = farebox.told(refund("f", &charged, Some(1))).await;
    assert_eq!(back, "back 0 free, 1 paid for 1, leaves 16");
    assert_eq!(farebox.told(undo("d", "u")).await, "back 0 free, 1 paid for 1, leaves 17");
    // What the gateway served until it heard of it is charged; the rest comes back.
    let reply = edge.report(Report { in_flight: 1, ..used(lease, 2) }).await;
    assert_eq!(reply.recalls.len(), 1);
    edge.report(Report { returned: 1, in_flight: 1, ..used(lease, 2) }).await;
    edge.report(Report { close: true, returned: 1, ..used(lease, 3) }).await;
    // What routes allowed while nobody could be asked is charged as well.
    let line = JournalReport { line: 1, key: key("u", "asset"), used: 2 };
    edge.send(vec![], vec![], vec![line]).await;
    assert_eq!(farebox.money("u").await, "12 0 0");
    // Money comes in, by hand and by an order that was paid.
    farebox.credit("u", "1").await;
    orders::paid(&farebox.app, "u", "5", "pay_1").await;
    assert_eq!(farebox.money("u").await, "18 0 0");
    assert_eq!(farebox.refusal(&mut edge, "u").await, Some(190_104));
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_was_on_its_way_is_recalled_until_all_of_it_is_back() {
    let farebox = Fixture::new(&[], &[("asset", "0.1")]).await;
    farebox.credit("u", "10").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 10, 10)).await.unwrap().lease;
    // The reply to this one takes its time.
    edge.want(want("u", "asset", 10, 10)).await.unwrap();
    farebox.freeze("u").await;
    // The gateway gives back what it knows of, as somebody else needed it; nothing was heard of the freeze.
    let first = Report { returned: 10, ..used(lease, 0) };
    let reply = edge.report(first.clone()).await;
    assert_eq!(reply.recalls.len(), 1, "ten more units are out");
    assert_eq!(edge.report(first).await.recalls.len(), 1, "as long as they are");
    let reply = edge.report(Report { returned: 18, in_flight: 1, ..used(lease, 1) }).await;
    assert_eq!(reply.recalls, [], "the last one is in use");
    assert_eq!(farebox.money("u").await, "9.9 0.1 0");
    // It fails, and its unit could be drawn again.
    let reply = edge.report(Report { returned: 18, ..used(lease, 1) }).await;
    assert_eq!(reply.recalls.len(), 1);
    edge.report(Report { returned: 19, ..used(lease, 1) }).await;
    assert_eq!(farebox.money("u").await, "9.9 0 0");
    farebox.assert_sound().await;
}

/// Users of an account, at full speed; each says what it was still given after the freeze was answered.
struct Crowd {
    is_answered: AtomicBool,
    stop: AtomicBool,
}

impl Crowd {
    async fn deduct(self: Arc<Self>, farebox: farebox_sidecar::app::App, user: usize) -> u64 {
        let mut late = 0;
        for number in 0.. {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            let is_late = self.is_answered.load(Ordering::SeqCst);
            let request = deduct(&format!("d-{user}-{number}"), "u", "asset", 1);
            let answer = call(&farebox, request).await;
            match answer {
                Ok(Outcome::Deducted(_)) => late += u64::from(is_late),
                Ok(Outcome::Refused(refusal)) => assert_eq!(refusal.code, 190_104),
                other => panic!("{}", say(other)),
            }
        }
        late
    }

    async fn draw(self: Arc<Self>, mut edge: Gateway) -> u64 {
        let mut late = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let is_late = self.is_answered.load(Ordering::SeqCst);
            match edge.want(want("u", "asset", 5, 1)).await {
                Ok(grant) => {
                    late += u64::from(is_late);
                    let total = grant.free_units + grant.paid_units;
                    edge.report(Report { close: true, ..used(grant.lease, total) }).await;
                }
                Err(refusal) => assert!(refusal.soon || refusal.code == 190_104, "{refusal:?}"),
            }
        }
        late
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_that_races_deducts_and_grants_ends_them_with_its_answer() {
    let farebox = Fixture::new(&[("asset", 50)], &[("asset", "0.01")]).await;
    farebox.credit("u", "1000").await;
    let crowd = Arc::new(Crowd { is_answered: false.into(), stop: false.into() });
    let mut users = JoinSet::new();
    for user in 0..4 {
        users.spawn(crowd.clone().deduct(farebox.app.clone(), user));
    }
    for number in 0..3 {
        users.spawn(crowd.clone().draw(farebox.gateway(&format!("edge-{number}"))));
    }
    let count = |table: &str, what: &str| {
        let sql = format!("SELECT COALESCE(SUM({what}), 0) FROM {table}");
        let database = &farebox.database;
        async move { database.rows(sql).await.join("").parse::<u64>().unwrap() }
    };
    let deducts = async || count("billing_record", "source = 'deduct'").await;
    let granted = async || count("lease", "free_granted + paid_granted").await;
    let refused = async || count("idempotency_key", "response LIKE '%190104%'").await;
    farebox_tests::eventually!(
        50 < deducts().await && 50 < granted().await,
        "all of them are at work"
    );
    farebox.freeze("u").await;
    crowd.is_answered.store(true, Ordering::SeqCst);
    let (charged, lent) = (deducts().await, granted().await);
    farebox_tests::eventually!(50 < refused().await, "they go on asking");
    crowd.stop.store(true, Ordering::SeqCst);
    assert_eq!(users.join_all().await, [0; 7], "nobody was given anything after the answer");
    assert_eq!((deducts().await, granted().await), (charged, lent));
    farebox.assert_sound().await;
    farebox.thaw("u").await;
    assert_eq!(farebox.refusal(&mut farebox.gateway("edge-9"), "u").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn freezing_twice_changes_nothing_and_each_change_leaves_a_line() {
    let farebox = Fixture::new(&[], &[]).await;
    let unknown = farebox.app.freeze(&name("nobody"), "r", "tests").await.unwrap_err();
    assert!(matches!(unknown, FreezeError::NoAccount { .. }), "{unknown}");
    assert!(farebox.database.rows("SELECT user_id FROM user_balance").await.is_empty());
    let silent = farebox.app.freeze(&name("u"), "", "tests").await.unwrap_err();
    assert_eq!(silent.to_string(), "reason has 0 bytes; give 1 to 1000");

    farebox.credit("u", "1").await;
    let first = farebox.freeze("u").await;
    let again = farebox.app.freeze(&name("u"), "another", "tests").await.unwrap();
    assert_eq!(again, FreezeOutcome { changed: false, ..first });
    assert_eq!(again.frozen_reason.as_deref(), Some("ticket 9"), "the first one stands");
    let view = farebox.view("u").await;
    assert_eq!((view.frozen, view.frozen_reason.as_deref()), (true, Some("ticket 9")));
    assert!(farebox.thaw("u").await.changed);
    assert!(!farebox.thaw("u").await.changed);
    let view = farebox.view("u").await;
    assert_eq!((view.frozen, view.frozen_at, view.frozen_reason), (false, None, None));
    let lines = "SELECT actor, action, subject, reason, JSON_EXTRACT(before_json, '$.frozen'),
        JSON_EXTRACT(after_json, '$.frozen') FROM audit_log WHERE action <> 'account.credit'";
    assert_eq!(
        farebox.database.rows(lines).await,
        ["tests account.freeze u ticket 9 false true", "tests account.thaw u paid true false"]
    );
    farebox.assert_sound().await;
}
