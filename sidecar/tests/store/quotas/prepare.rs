//! Rows of the month to come.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farebox_core::call::CheckRequest;

use super::{DECEMBER, END_OF_27TH, FREE, LATER_ON_28TH, ON_28TH, ON_29TH, on_28th, prepare};
use crate::calls::{deduct, told};
use crate::fixture::{Gateway, want};

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_made_from_three_days_ahead_for_what_an_account_uses_and_once() {
    let farebox = on_28th().await;
    farebox.told(deduct("1", "ann", "asset", 4)).await;
    farebox.credit("bob", "1").await;
    farebox.told(deduct("2", "bob", "mail", 1)).await;
    farebox.credit("idle", "1").await;
    let too_early = farebox.at(END_OF_27TH, FREE).await;
    assert_eq!(prepare(&too_early).await, 0);
    too_early.release_jobs().await.unwrap();
    let before = farebox.database.dump(&["user_balance"], &[]).await;
    assert_eq!(prepare(&farebox.app).await, 2);
    let made = ["ann asset 10 0+0 ahead", "bob mail 0 0+0 ahead"];
    assert_eq!(farebox.rows_of("2026-12").await, made);
    assert_eq!(prepare(&farebox.app).await, 0);
    assert_eq!(farebox.database.dump(&["user_balance"], &[]).await, before);
    assert_eq!(farebox.rows_of("2026-11").await, ["ann asset 10 4+0", "bob mail 0 0+0"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_later_is_added_the_next_day_and_who_used_nothing_is_not_carried_on() {
    let farebox = on_28th().await;
    farebox.told(deduct("1", "ann", "asset", 4)).await;
    // A row of this month that was made ahead, and that nobody has used.
    farebox.credit("idle", "1").await;
    farebox
        .database
        .run(
            "INSERT INTO free_quota (free_quota_id, user_id, service_name, reset_month, total_quota, prepared, created_at, updated_at)
             VALUES ('x', 'idle', 'asset', '2026-11', 10, 1, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))",
        )
        .await;
    assert_eq!(prepare(&farebox.app).await, 1);
    farebox.told(deduct("2", "bob", "asset", 1)).await;
    let next_day = farebox.at(ON_29TH, FREE).await;
    assert_eq!((prepare(&next_day).await, prepare(&next_day).await), (1, 0));
    let made = ["ann asset 10 0+0 ahead", "bob asset 10 0+0 ahead"];
    assert_eq!(farebox.rows_of("2026-12").await, made);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_takes_what_is_in_force_when_it_is_used_whoever_made_it() {
    let farebox = on_28th().await;
    for user in ["a", "b", "c", "d", "e"] {
        farebox.told(deduct(user, user, "asset", 1)).await;
    }
    assert_eq!(prepare(&farebox.app).await, 5);
    // Sidecars are restarted with another configuration, one after the other.
    let old = farebox.at(DECEMBER, &[("asset", 10)]).await;
    let new = farebox.at(DECEMBER, &[("asset", 25)]).await;
    let none = farebox.at(DECEMBER, &[]).await;
    let shown = |app: &farebox_sidecar::app::App| {
        let app = app.clone();
        async move { app.account(&"b".parse().unwrap()).await.unwrap().unwrap().free_quotas }
    };
    assert_eq!(shown(&old).await[0].total, 10);
    assert_eq!(shown(&new).await[0].total, 25);
    assert_eq!(shown(&none).await, [], "what counts as none is not shown");
    let check = CheckRequest {
        user_id: "b".parse().unwrap(),
        service: "asset".parse().unwrap(),
        count: 25,
        price: None,
    };
    assert_eq!(new.check(&[check]).await[0].as_ref().unwrap().remaining_free, 25);
    assert_eq!(farebox.rows_of("2026-12").await[1], "b asset 10 0+0 ahead", "looking is no use");

    assert_eq!(told(&old, deduct("a1", "a", "asset", 1)).await, "1 free, 0 paid for 0, leaves 0");
    assert_eq!(told(&new, deduct("b1", "b", "asset", 20)).await, "20 free, 0 paid for 0, leaves 0");
    assert_eq!(told(&new, deduct("a2", "a", "asset", 1)).await, "1 free, 0 paid for 0, leaves 0");
    let refused = told(&none, deduct("c1", "c", "asset", 1)).await;
    assert_eq!(refused, "190102: 0 free and 0 do not cover 0.1");
    let grant = Gateway::new(&new, "edge").want(want("d", "asset", 24, 24)).await.unwrap();
    assert_eq!(grant.free_units, 24);
    assert_eq!(
        farebox.rows_of("2026-12").await,
        [
            "a asset 10 2+0",
            "b asset 25 20+0",
            "c asset 0 0+0",
            "d asset 25 0+24",
            "e asset 10 0+0 ahead",
        ]
    );
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_an_earlier_version_uses_stays_as_that_left_it() {
    let farebox = on_28th().await;
    farebox.told(deduct("1", "u", "asset", 1)).await;
    prepare(&farebox.app).await;
    // It does not know the mark.
    farebox
        .database
        .run("UPDATE free_quota SET used_quota = 3 WHERE reset_month = '2026-12'")
        .await;
    let new = farebox.at(DECEMBER, &[("asset", 4)]).await;
    assert_eq!(told(&new, deduct("2", "u", "asset", 5)).await, "5 free, 0 paid for 0, leaves 0");
    assert_eq!(farebox.rows_of("2026-12").await, ["u asset 10 8+0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_was_broken_off_is_finished_by_another_sidecar() {
    let farebox = on_28th().await;
    farebox.crowd(4_500).await;
    // Dies after its first round: its job is not given back.
    let rounds = Cell::new(0);
    let once = || rounds.replace(1) == 0;
    let made = farebox.app.prepare_quotas(once).await.unwrap();
    assert!(0 < made && made < 4_500, "{made}");
    let other = farebox.at(ON_28TH, FREE).await;
    assert_eq!(prepare(&other).await, 0, "the job is another one's");
    let later = farebox.at(LATER_ON_28TH, FREE).await;
    assert_eq!(prepare(&later).await, 4_500 - made);
    // The first one was only slow: it comes back, and the job is another one's.
    assert_eq!(prepare(&farebox.app).await, 0);
    let expected: Vec<String> =
        (0..4_500).map(|n| format!("p-{n:04} asset 10 0+0 ahead")).collect();
    assert_eq!(farebox.rows_of("2026-12").await, expected);
    let run = "SELECT reset_month, row_count, after_user FROM free_quota_run";
    assert_eq!(farebox.database.rows(run).await, ["2026-12 4500 NULL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_lost_the_job_while_it_stood_still_writes_nothing() {
    let farebox = on_28th().await;
    farebox.crowd(4_500).await;
    let (slow, later) = (farebox.app.clone(), farebox.at(LATER_ON_28TH, FREE).await);
    // Between two of its rounds another sidecar takes the job over and does all of it.
    let rounds = Cell::new(0);
    let (taken, was_taken) = std::sync::mpsc::channel();
    let (go, went) = std::sync::mpsc::channel::<()>();
    let takes_over = tokio::spawn(async move {
        tokio::task::spawn_blocking(move || went.recv().unwrap()).await.unwrap();
        taken.send(prepare(&later).await).unwrap();
    });
    let go_on = || {
        rounds.set(rounds.get() + 1);
        if rounds.get() == 2 {
            go.send(()).unwrap();
            let made = tokio::task::block_in_place(|| was_taken.recv().unwrap());
            assert!(0 < made, "the other sidecar did the rest");
        }
        true
    };
    let err = slow.prepare_quotas(go_on).await.unwrap_err();
    assert_eq!(err.to_string(), "job quotas belongs to another sidecar now");
    takes_over.await.unwrap();
    assert_eq!(farebox.rows_of("2026-12").await.len(), 4_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_the_new_month_and_the_job_meet_and_each_row_is_there_once() {
    let farebox = on_28th().await;
    farebox.crowd(2_500).await;
    let december = farebox.at(DECEMBER, &[("asset", 25)]).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let calls = tokio::spawn({
        let (december, is_over) = (december.clone(), Arc::clone(&is_over));
        async move {
            let mut calls = 0;
            // At least some before, during and after the job.
            while !is_over.load(Ordering::Relaxed) || calls < 400 {
                let account = format!("p-{:04}", (calls * 37) % 2_500);
                let answer = told(&december, deduct(&format!("k{calls}"), &account, "asset", 1));
                assert_eq!(answer.await, "1 free, 0 paid for 0, leaves 0", "{account}");
                calls += 1;
            }
            calls
        }
    });
    prepare(&farebox.app).await;
    is_over.store(true, Ordering::Relaxed);
    let calls = calls.await.unwrap();
    let rows = farebox.rows_of("2026-12").await;
    assert_eq!(rows.len(), 2_500);
    let ahead = rows.iter().filter(|row| row.ends_with("asset 10 0+0 ahead")).count();
    let used = rows.iter().filter(|row| row.contains(" asset 25 ")).count();
    assert_eq!(ahead + used, 2_500, "{calls} calls");
    let sum = "SELECT CAST(SUM(used_quota) AS CHAR) FROM free_quota WHERE reset_month = '2026-12'";
    assert_eq!(farebox.database.rows(sum).await, [calls.to_string()]);
    farebox.assert_sound().await;
}
