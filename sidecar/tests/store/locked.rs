//! An account that somebody else keeps locked: the messages of gateways go on without it, and nothing of it is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farebox_core::wire::{JournalReport, Report, SyncReply};
use farebox_sidecar::metrics;
use sqlx::{AssertSqlSafe, MySql, Transaction};

use crate::calls::{deduct, told};
use crate::fixture::{Fixture, key, reply, used, want};

/// Somebody's transaction that has locked the account's row.
async fn lock(farebox: &Fixture, account: &str) -> Transaction<'static, MySql> {
    let mut holder = farebox.database.pool.begin().await.unwrap();
    let row = format!("SELECT 1 FROM user_balance WHERE user_id = '{account}' FOR UPDATE");
    sqlx::query(AssertSqlSafe(row)).fetch_one(&mut *holder).await.unwrap();
    holder
}

fn journal(line: u64, account: &str, used: u64) -> JournalReport {
    JournalReport { line, key: key(account, "asset"), used }
}

/// The leases and the journal lines that were taken in, and for whom units were granted.
fn taken_in(reply: &SyncReply) -> (Vec<u64>, Vec<u64>, Vec<&str>) {
    (
        reply.acks.iter().map(|ack| ack.lease).collect(),
        reply.journal_acks.iter().map(|ack| ack.line).collect(),
        reply.grants.iter().map(|grant| grant.key.account.as_str()).collect(),
    )
}

fn left_out() -> [u64; 3] {
    let text = metrics::install().unwrap().render();
    ["journal", "report", "want"].map(|item| {
        let series = format!("billing_sync_left_out_total{{item=\"{item}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_on_without_a_locked_account_and_its_usage_is_charged_once() {
    let before = left_out();
    let farebox = Fixture::new(&[("asset", 100)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    let locked = edge.want(want("locked", "asset", 9, 9)).await.unwrap().lease;
    let open = edge.want(want("open", "asset", 9, 9)).await.unwrap().lease;
    let holder = lock(&farebox, "locked").await;
    let reports = || vec![used(locked, 3), used(open, 4)];
    let lines = || vec![journal(1, "locked", 5), journal(2, "open", 6)];

    let wants = vec![want("locked", "asset", 7, 2), want("open", "asset", 8, 8)];
    let message = edge.message(reports(), wants, lines());
    let text = edge.deliver(&message).await.unwrap();
    let told = reply(&text);
    assert_eq!(taken_in(&told), (vec![open], vec![2], vec!["open"]));
    let [refusal] = &told.refusals[..] else { panic!("{told:?}") };
    assert_eq!((&refusal.key, refusal.min), (&key("locked", "asset"), 2));
    assert_eq!((refusal.soon, refusal.code), (true, 190_402), "to be asked again, not refused");
    assert_eq!(farebox.quotas("open").await, "asset 10+13/100");
    assert_eq!(farebox.quotas("locked").await, "asset 0+9/100");
    let named = "SELECT is_named FROM lease ORDER BY lease_id";
    assert_eq!(farebox.database.rows(named).await, ["1", "1"], "its gateway has it");
    let after = left_out();
    assert!(before.iter().zip(&after).all(|(before, after)| before < after), "{after:?}");

    let told = edge.send(vec![used(locked, 3)], vec![], vec![journal(1, "locked", 5)]).await;
    assert_eq!(taken_in(&told), (vec![], vec![], vec![]), "nothing else is said");
    assert!(told.refusals.is_empty());

    holder.rollback().await.unwrap();
    assert_eq!(edge.deliver(&message).await.unwrap(), text, "it was answered, so it does nothing");
    assert_eq!(farebox.quotas("locked").await, "asset 0+9/100");
    for _ in 0..2 {
        let mut told = edge.send(reports(), vec![], lines()).await;
        told.acks.sort_by_key(|ack| ack.lease);
        assert_eq!(taken_in(&told), (vec![locked, open], vec![1, 2], vec![]));
        assert_eq!(farebox.quotas("locked").await, "asset 8+6/100");
        assert_eq!(farebox.quotas("open").await, "asset 10+13/100");
    }
    farebox.assert_sound().await;
}

/// A broken row has the message taken in item by item; the locked account is left out of that as well, and is no error.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_account_beside_a_broken_one_is_left_out_and_the_others_are_served() {
    let farebox = Fixture::new(&[("asset", 100)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    let mut leases = Vec::new();
    for account in ["broken", "locked", "sound"] {
        leases.push(edge.want(want(account, "asset", 5, 5)).await.unwrap().lease);
    }
    let torn = "UPDATE user_balance SET balance = 9999999999 WHERE user_id = 'broken'";
    assert_eq!(farebox.database.run(torn).await, 1);
    let holder = lock(&farebox, "locked").await;
    let reports: Vec<Report> = leases.iter().map(|&lease| used(lease, 1)).collect();
    let wants = ["broken", "locked", "sound"].map(|account| want(account, "asset", 1, 1)).to_vec();
    let told = edge.send(reports.clone(), wants, vec![]).await;
    assert_eq!(taken_in(&told), (vec![leases[2]], vec![], vec!["sound"]));
    let refused: Vec<&str> =
        told.refusals.iter().map(|refusal| refusal.key.account.as_str()).collect();
    assert_eq!(refused, ["locked"], "of an account that cannot be read, nothing is said");
    holder.rollback().await.unwrap();
    let told = edge.send(reports, vec![], vec![]).await;
    assert_eq!(told.acks.len(), 2, "{told:?}");
    assert_eq!(farebox.quotas("locked").await, "asset 1+4/100");
}

/// The lock ends while the message has its other account already. That takes less than the moment that is waited, if not
/// at the first attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_ends_soon_is_waited_for() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let mut waited = 0;
    for round in 0..8 {
        // Rows are locked in order, so whoever has the first one waits for the second.
        let [first, second] = ["a", "b"].map(|letter| format!("{letter}{round}"));
        let mut edge = farebox.gateway("edge-1");
        for account in [&first, &second] {
            edge.want(want(account, "asset", 1, 1)).await.unwrap();
        }
        let holder = lock(&farebox, &second).await;
        let wants = vec![want(&first, "asset", 1, 1), want(&second, "asset", 1, 1)];
        let waiting = tokio::spawn(async move { edge.send(vec![], wants, vec![]).await });
        let row = format!("SELECT 1 FROM user_balance WHERE user_id = '{first}'");
        let free = format!("{row} FOR UPDATE SKIP LOCKED");
        while !waiting.is_finished() && !farebox.database.rows(free.clone()).await.is_empty() {}
        holder.rollback().await.unwrap();
        waited += usize::from(waiting.await.unwrap().grants.len() == 2);
    }
    // A machine that stands still for the whole moment is excused; luck alone brings one to three of them.
    assert!(7 <= waited, "{waited} of 8 messages waited");
    farebox.assert_sound().await;
}

/// Two sidecars charge the account without a pause, so that one of them always waits for it; the messages of a gateway find
/// it free now and then all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_sidecars_hand_to_each_other_is_had_by_messages_too() {
    let farebox = Fixture::new(&[("asset", 1_000_000)], &[]).await;
    let other = farebox.sidecar(&[("asset", 1_000_000)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("busy", "asset", 100, 100)).await.unwrap().lease;
    let is_over = Arc::new(AtomicBool::new(false));
    let clients = (0..12).map(|client| {
        let app = if client % 2 == 0 { farebox.app.clone() } else { other.clone() };
        let is_over = Arc::clone(&is_over);
        tokio::spawn(async move {
            let mut charged = 0;
            while !is_over.load(Ordering::Relaxed) {
                let key = format!("client-{client}-{charged}");
                told(&app, deduct(&key, "busy", "asset", 1)).await;
                charged += 1;
            }
            charged
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut taken_in = 0;
    for used_so_far in 1..=10 {
        taken_in += edge.send(vec![used(lease, used_so_far)], vec![], vec![]).await.acks.len();
    }
    is_over.store(true, Ordering::Relaxed);
    let mut charged = 0;
    for client in clients {
        charged += client.await.unwrap();
    }
    assert!(7 <= taken_in, "{taken_in} of 10 messages had the account, beside {charged} deducts");
    farebox.assert_sound().await;
}
