//! One request after the other.

use super::{commit, commit_amount, deduct, refund, release, reserve_amount, reserve_units, undo};
use crate::fixture::{Fixture, used, want};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_user_is_charged_free_units_then_money_then_nothing() {
    let farebox = Fixture::new(&[("asset", 3)], &[("asset", "0.1")]).await;
    // The first call creates both rows (T41).
    assert_eq!(farebox.told(deduct("k1", "u", "asset", 2)).await, "2 free, 0 paid for 0, leaves 0");
    farebox.credit("u", "0.2").await;
    assert_eq!(farebox.checked("u", "asset", 3).await, "yes by mixed, 1 free and 0.2 for 0.2");
    assert_eq!(
        farebox.told(deduct("k2", "u", "asset", 3)).await,
        "1 free, 2 paid for 0.2, leaves 0"
    );
    let refused = "190102: 0 free and 0 do not cover 0.1";
    assert_eq!(farebox.told(deduct("k3", "u", "asset", 1)).await, refused);
    assert_eq!(farebox.quotas("u").await, "asset 3+0/3");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_first_call_leaves_the_rows_of_its_user() {
    let farebox = Fixture::new(&[("asset", 3)], &[]).await;
    // T42; and the service has no price, so only time would help.
    let refused = farebox.told(deduct("k1", "u", "asset", 4)).await;
    assert_eq!(refused, "190202: 3 free and 0 do not cover 0");
    assert_eq!(
        (farebox.money("u").await, farebox.quotas("u").await),
        ("0 0 0".into(), "asset 0+0/3".into())
    );
    // A check creates the quota row, and moves nothing.
    assert_eq!(farebox.checked("v", "asset", 3).await, "yes by free, 3 free and 0 for 0");
    let row = farebox
        .database
        .rows("SELECT user_id, used_quota FROM free_quota WHERE user_id = 'v'")
        .await;
    assert_eq!(row, ["v 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_service_is_an_error_for_check_and_deduct_and_makes_no_account() {
    let farebox = Fixture::new(&[("asset", 3)], &[]).await;
    let unknown = "asest has neither a price nor a free quota; name a service of billing.prices or billing.free_quotas";
    assert_eq!(farebox.checked("u", "asest", 1).await, unknown);
    let refused = farebox.told(deduct("k", "u", "asest", 1)).await;
    assert_eq!(refused, "190205: 0 free and 0 do not cover 0");
    assert!(farebox.database.rows("SELECT user_id FROM user_balance").await.is_empty());
    assert_eq!(farebox.told(deduct("k", "u", "asest", 1)).await, refused, "kept under its key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stands_for_one_content_and_one_answer() {
    let farebox = Fixture::new(&[("asset", 3)], &[("asset", "0.1")]).await;
    let first = super::call(&farebox.app, deduct("k", "u", "asset", 2)).await.unwrap();
    let before = farebox.books().await;
    assert_eq!(super::call(&farebox.app, deduct("k", "u", "asset", 2)).await.unwrap(), first);
    for other in [deduct("k", "u", "asset", 1), deduct("k", "v", "asset", 2)] {
        let answer = farebox.told(other).await;
        assert_eq!(
            answer,
            "key \"k\" was used for another request; give this one a key of its own"
        );
    }
    // v got its rows, and nothing else happened.
    let books: Vec<String> =
        farebox.books().await.into_iter().filter(|row| !row.contains("v")).collect();
    let before: Vec<String> = before.into_iter().filter(|row| !row.contains("v")).collect();
    assert_eq!(books, before);
    // A refusal is kept as well: money that comes later needs a new key.
    let refused = farebox.told(deduct("k2", "u", "asset", 9)).await;
    farebox.credit("u", "10").await;
    assert_eq!(farebox.told(deduct("k2", "u", "asset", 9)).await, refused);
    assert_eq!(
        farebox.told(deduct("k3", "u", "asset", 9)).await,
        "1 free, 8 paid for 0.8, leaves 9.2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_is_committed_in_part_and_the_rest_comes_back() {
    let farebox = Fixture::new(&[("asset", 2)], &[("asset", "0.1")]).await;
    farebox.credit("u", "1").await;
    let made = farebox.told(reserve_units("r1", "u", "asset", 5)).await;
    assert_eq!(made, "holds 2 free, 3 paid, 0.3, leaves 0.7");
    let id = farebox.reservation(reserve_units("r1", "u", "asset", 5)).await;
    assert_eq!(farebox.money("u").await, "1 0.3 0");
    farebox.assert_sound().await;
    let more = farebox.told(commit(&id, Some(6))).await;
    assert_eq!(more, "units is 6: must be no more than were reserved");
    let committed = farebox.told(commit(&id, Some(3))).await;
    assert_eq!(committed, "2 free, 1 paid for 0.1, leaves 0.9");
    assert_eq!(farebox.told(commit(&id, Some(3))).await, committed);
    let key = format!("key {id:?} was used for another request; give this one a key of its own");
    assert_eq!(farebox.told(commit(&id, Some(2))).await, key);
    let ended = farebox.told(release(&id)).await;
    assert!(ended.starts_with(&format!("reservation {id} was committed already")), "{ended}");
    assert_eq!(
        (farebox.money("u").await, farebox.quotas("u").await),
        ("0.9 0 0".into(), "asset 2+0/2".into())
    );
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amount_is_reserved_without_free_units_and_committed_at_its_own_price() {
    let farebox = Fixture::new(&[("asset", 5)], &[("asset", "0.1")]).await;
    farebox.credit("u", "1").await;
    let lacking = farebox.told(reserve_amount("r0", "u", "asset", "1.000000001")).await;
    assert_eq!(lacking, "190102: 0 free and 1 do not cover 1.000000001");
    let id = farebox.reservation(reserve_amount("r1", "u", "asset", "0.5")).await;
    assert_eq!(
        (farebox.money("u").await, farebox.quotas("u").await),
        ("1 0.5 0".into(), "asset 0+0/5".into())
    );
    assert_eq!(
        farebox.told(commit_amount(&id, "0.123456789")).await,
        "0 free, 1 paid for 0.123456789, leaves 0.876543211"
    );
    let nothing = farebox.reservation(reserve_amount("r2", "u", "asset", "0.5")).await;
    assert_eq!(
        farebox.told(commit_amount(&nothing, "0")).await,
        "0 free, 0 paid for 0, leaves 0.876543211"
    );
    let released = farebox.reservation(reserve_amount("r3", "u", "asset", "0.5")).await;
    assert_eq!(farebox.told(release(&released)).await, "back 0 free, 0 paid, 0.5");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_that_runs_out_comes_back_by_the_job_and_by_whoever_needs_it() {
    let farebox = Fixture::new(&[("asset", 2)], &[]).await;
    let run_out = |id: String| {
        let sql = format!(
            "UPDATE reservation SET expires_at = UTC_TIMESTAMP(3) - INTERVAL 1 SECOND WHERE reservation_id = '{id}'"
        );
        async { assert_eq!(farebox.database.run(sql).await, 1) }
    };
    let first = farebox.reservation(reserve_units("r1", "u", "asset", 2)).await;
    run_out(first.clone()).await;
    // The job did not come yet; the deduct takes what ran out.
    assert_eq!(farebox.told(deduct("k1", "u", "asset", 1)).await, "1 free, 0 paid for 0, leaves 0");
    let late = farebox.told(commit(&first, None)).await;
    assert!(late.contains("ran out at") && late.ends_with("deduct the call instead"), "{late}");
    assert_eq!(farebox.told(release(&first)).await, "back 0 free, 0 paid, 0");
    let second = farebox.reservation(reserve_units("r2", "u", "asset", 1)).await;
    run_out(second).await;
    assert_eq!(farebox.app.reclaim().await.unwrap(), 1);
    assert_eq!(farebox.quotas("u").await, "asset 1+0/2");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_goes_back_where_the_charge_came_from_and_never_twice() {
    let farebox = Fixture::new(&[("asset", 2)], &[("asset", "0.1")]).await;
    farebox.credit("u", "1").await;
    let record = farebox.record(deduct("k", "u", "asset", 5)).await;
    let part = farebox.told(refund("f1", &record, Some(2))).await;
    assert_eq!(part, "back 0 free, 2 paid for 0.2, leaves 0.9");
    assert_eq!(farebox.told(refund("f1", &record, Some(2))).await, part);
    let more = farebox.told(refund("f2", &record, Some(4))).await;
    assert_eq!(
        more,
        "units is 4, and 3 are left: must be no more than was charged and has not come back yet"
    );
    assert_eq!(
        farebox.told(refund("f3", &record, None)).await,
        "back 2 free, 1 paid for 0.1, leaves 1"
    );
    let again = farebox.told(refund("f4", &record, None)).await;
    assert_eq!(again, format!("all of billing record {record} went back already"));
    assert_eq!(
        farebox.told(refund("f5", "nobody", None)).await,
        "no billing record has the id \"nobody\""
    );
    assert_eq!(
        (farebox.money("u").await, farebox.quotas("u").await),
        ("1 0 0".into(), "asset 0+0/2".into())
    );
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_of_what_is_owed_pays_the_debt_first() {
    let farebox = Fixture::new(&[], &[("asset", "0.1")]).await;
    farebox.credit("u", "0.5").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 5, 5)).await.unwrap().lease;
    farebox.expire(lease).await;
    farebox.told(deduct("k", "u", "asset", 4)).await;
    // Late usage finds 0.1 and owes 0.4.
    edge.report(used(lease, 5)).await;
    assert_eq!(farebox.money("u").await, "0 0 0.4");
    let record = farebox
        .database
        .rows("SELECT billing_record_id FROM billing_record WHERE source = 'late'")
        .await;
    assert_eq!(
        farebox.told(refund("f", &record[0], None)).await,
        "back 0 free, 5 paid for 0.5, leaves 0.1"
    );
    assert_eq!(farebox.money("u").await, "0.1 0 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deduct_of_unknown_outcome_is_undone_whether_it_came_or_not() {
    let farebox = Fixture::new(&[("asset", 3)], &[("asset", "0.1")]).await;
    farebox.credit("u", "1").await;
    farebox.told(deduct("came", "u", "asset", 4)).await;
    let back = farebox.told(undo("came", "u")).await;
    assert_eq!(back, "back 3 free, 1 paid for 0.1, leaves 1");
    assert_eq!(farebox.told(undo("came", "u")).await, back);
    // This one arrives after it was undone.
    assert_eq!(farebox.told(undo("late", "u")).await, "back 0 free, 0 paid for 0, leaves 1");
    assert_eq!(farebox.told(deduct("late", "u", "asset", 1)).await, "cancelled");
    // Nobody undoes another one's deduct, and a user without an account can be undone too.
    farebox.told(deduct("theirs", "v", "asset", 1)).await;
    assert!(farebox.told(undo("theirs", "u")).await.starts_with("no billing record has the id"));
    assert_eq!(farebox.told(undo("never", "new")).await, "back 0 free, 0 paid for 0, leaves 0");
    assert_eq!(farebox.told(deduct("never", "new", "asset", 1)).await, "cancelled");
    assert_eq!(farebox.quotas("u").await, "asset 0+0/3");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_a_gateway_holds_unused_are_recalled_and_waited_for() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    let mut lease = edge.want(want("u", "asset", 10, 10)).await.unwrap().lease;
    // M4: nobody uses them, so check and deduct say yes.
    assert_eq!(farebox.checked("u", "asset", 4).await, "yes by free, 0 free and 0 for 0");
    let app = farebox.app.clone();
    let waiting =
        tokio::spawn(async move { super::told(&app, deduct("k", "u", "asset", 4)).await });
    let recalls = loop {
        let reply = edge.report(used(lease, 3)).await;
        if !reply.recalls.is_empty() {
            break reply.recalls;
        }
    };
    lease = recalls[0].lease;
    let mut give_back = used(lease, 3);
    give_back.returned = 7;
    edge.report(give_back).await;
    assert_eq!(waiting.await.unwrap(), "4 free, 0 paid for 0, leaves 0");
    assert_eq!(farebox.quotas("u").await, "asset 7+0/10");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_do_not_come_back_make_the_account_busy_and_leave_the_key_unused() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 10, 10)).await.unwrap().lease;
    let mut patient = deduct("k", "u", "asset", 4);
    if let super::Request::Deduct(request) = &mut patient {
        request.wait_ms = Some(100);
    }
    let busy =
        "the account is busy: other requests or gateways hold it; send the same request again";
    assert_eq!(farebox.told(patient).await, busy);
    let mut give_back = used(lease, 0);
    give_back.close = true;
    edge.report(give_back).await;
    assert_eq!(farebox.told(deduct("k", "u", "asset", 4)).await, "4 free, 0 paid for 0, leaves 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_the_predecessor_with_a_quota_and_no_balance_is_told_and_charged() {
    let farebox = Fixture::new(&[("asset", 3)], &[]).await;
    farebox.told(deduct("k1", "u", "asset", 1)).await;
    assert_eq!(farebox.database.run("DELETE FROM user_balance WHERE user_id = 'u'").await, 1);
    assert_eq!(farebox.checked("u", "asset", 2).await, "yes by free, 2 free and 0 for 0");
    assert_eq!(farebox.told(deduct("k2", "u", "asset", 2)).await, "2 free, 0 paid for 0, leaves 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_units_of_gateways_keep_their_order() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 10, 10)).await.unwrap().lease;
    let requests: Vec<_> =
        (0..20).map(|number| deduct(&format!("k{number}"), "u", "asset", 1)).collect();
    let app = farebox.app.clone();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    let waiting = tokio::spawn(async move { app.call(requests, deadline).await });
    while edge.report(used(lease, 0)).await.recalls.is_empty() {}
    // Three come back, the others are used meanwhile.
    let mut give_back = used(lease, 7);
    (give_back.returned, give_back.close) = (3, true);
    edge.report(give_back).await;
    let charged: Vec<bool> = waiting
        .await
        .unwrap()
        .into_iter()
        .map(|answer| super::say(answer).starts_with("1 free"))
        .collect();
    assert_eq!(charged, (0..20).map(|number| number < 3).collect::<Vec<_>>());
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reservation_held_that_ran_out_is_granted_to_a_gateway() {
    let farebox = Fixture::new(&[("asset", 3)], &[]).await;
    let held = farebox.reservation(reserve_units("r", "u", "asset", 3)).await;
    let mut edge = farebox.gateway("edge-1");
    assert!(edge.want(want("u", "asset", 3, 3)).await.is_err());
    let sql = format!(
        "UPDATE reservation SET expires_at = UTC_TIMESTAMP(3) - INTERVAL 1 SECOND WHERE reservation_id = '{held}'"
    );
    assert_eq!(farebox.database.run(sql).await, 1);
    assert_eq!(edge.want(want("u", "asset", 3, 3)).await.unwrap().free_units, 3);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_cannot_be_read_stops_its_own_service_only() {
    let farebox = Fixture::new(&[("asset", 3)], &[("asset", "0.1"), ("payment", "0.1")]).await;
    let broken = "UPDATE price_version SET price = 9999999999 WHERE service_name = 'payment'";
    assert_eq!(farebox.database.run(broken).await, 1);
    assert_eq!(farebox.told(deduct("k1", "u", "asset", 1)).await, "1 free, 0 paid for 0, leaves 0");
    assert_eq!(farebox.checked("u", "asset", 1).await, "yes by free, 2 free and 0 for 0");
    assert!(farebox.told(deduct("k2", "u", "payment", 1)).await.contains("price_version.price"));
}
