//! How leases end: by reboot, silence, month and report.

use farebox_core::wire::{Known, Report, Want};

use crate::fixture::{Fixture, refill, used, want};

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_ends_leaves_its_jobs_to_the_others() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let other = farebox.sidecar(&[("asset", 10)], &[]).await;
    assert_eq!(farebox.app.reclaim().await.unwrap(), 0, "it has the job now");
    farebox.gateway("edge-1").want(want("u", "asset", 10, 10)).await.unwrap();
    farebox.database.run("UPDATE lease SET reclaim_at = UTC_TIMESTAMP(3)").await;
    assert_eq!(other.reclaim().await.unwrap(), 0);
    farebox.app.release_jobs().await.unwrap();
    assert_eq!(other.reclaim().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebooted_gateway_ends_the_leases_of_the_process_before_it() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let mut old = farebox.gateway("edge-1");
    let lease = old.want(want("u", "asset", 10, 10)).await.unwrap().lease;
    let mut new = farebox.gateway("edge-1");
    assert!(new.want(want("u", "asset", 1, 1)).await.unwrap_err().soon);
    assert_eq!((old.request.epoch, new.request.epoch), (1, 2));
    let soon = "SELECT COUNT(*) FROM lease
        WHERE recall = 1 AND reclaim_at <= UTC_TIMESTAMP(3) + INTERVAL 1 SECOND";
    assert_eq!(farebox.database.rows(soon).await, ["1"]);

    // The old process still lives: it may report, and its report renews the lease.
    let reply = old.report(Report { in_flight: 10, ..used(lease, 0) }).await;
    assert!(reply.acks[0].open && reply.recalls.is_empty());
    assert_eq!(farebox.app.reclaim().await.unwrap(), 0);
    farebox.expire(lease).await;
    assert_eq!(new.want(want("u", "asset", 10, 10)).await.unwrap().free_units, 10);
    assert!(!old.report(used(lease, 0)).await.acks[0].open);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_process_held_is_granted_as_soon_as_its_time_is_over() {
    let farebox = Fixture::new(&[("asset", 1)], &[("asset", "0.5")]).await;
    farebox.credit("u", "2").await;
    let dead = farebox.gateway("edge-1").want(want("u", "asset", 5, 5)).await.unwrap();
    assert_eq!((dead.free_units, dead.paid_units), (1, 4));
    // Whoever asks first need not wait for the job.
    let mut new = farebox.gateway("edge-2");
    assert!(new.want(want("u", "asset", 5, 5)).await.unwrap_err().soon);

    farebox.database.run("UPDATE lease SET reclaim_at = UTC_TIMESTAMP(3)").await;
    let grant = new.want(want("u", "asset", 5, 5)).await.unwrap();
    assert_eq!((grant.free_units, grant.paid_units), (1, 4));
    let states = "SELECT state, recall, free_returned, paid_returned FROM lease ORDER BY lease_id";
    assert_eq!(farebox.database.rows(states).await, ["expired 0 1 4", "open 0 0 0"]);
    assert_eq!(farebox.app.reclaim().await.unwrap(), 0);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refill_that_no_call_waits_for_takes_nothing_from_other_gateways() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let mut holder = farebox.gateway("edge-1");
    let lease = holder.want(want("u", "asset", 10, 10)).await.unwrap().lease;
    let mut other = farebox.gateway("edge-2");
    let refusal = other.want(refill("u", "asset", 5, 1)).await.unwrap_err();
    assert!(refusal.soon, "the units are there, only elsewhere");
    assert_eq!(holder.report(used(lease, 1)).await.recalls, []);

    assert!(other.want(want("u", "asset", 5, 1)).await.unwrap_err().soon);
    assert_eq!(holder.report(used(lease, 2)).await.recalls[0].lease, lease);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_usage_is_charged_once_and_what_is_owed_is_collected() {
    let farebox = Fixture::new(&[], &[("asset", "0.5"), ("payment", "1")]).await;
    farebox.credit("u", "5").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 10, 10)).await.unwrap().lease;
    edge.report(used(lease, 4)).await;
    farebox.expire(lease).await;
    assert_eq!(farebox.money("u").await, "3 0 0");

    // Late, but the money is still there.
    let reply = edge.report(used(lease, 5)).await;
    assert_eq!((reply.acks[0].used, reply.acks[0].open), (5, false));
    assert_eq!(farebox.money("u").await, "2.5 0 0");
    // Late, and the money is gone meanwhile.
    let other = edge.want(want("u", "payment", 2, 2)).await.unwrap().lease;
    edge.report(Report { close: true, ..used(other, 2) }).await;
    for _ in 0..2 {
        assert_eq!(edge.report(used(lease, 9)).await.acks[0].used, 9);
        assert_eq!(farebox.money("u").await, "0 0 1.5");
    }
    assert_eq!(edge.report(used(lease, 99)).await.acks[0].used, 10, "up to what was granted");
    assert_eq!(farebox.view("u").await.records[0].source, "late");
    farebox.assert_sound().await;

    farebox.credit("u", "1.5").await;
    assert_eq!(farebox.money("u").await, "0 0 0.5");
    farebox.credit("u", "1.5").await;
    assert_eq!(farebox.money("u").await, "1 0 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_ends_with_its_month() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    let old = edge.want(want("u", "asset", 10, 10)).await.unwrap().lease;
    edge.report(used(old, 1)).await;
    farebox
        .database
        .run("UPDATE lease SET reset_month = '2020-01', not_after = '2020-01-31 16:00:00'")
        .await;
    farebox.database.run("UPDATE free_quota SET reset_month = '2020-01'").await;

    let reply = edge.report(Report { in_flight: 1, ..used(old, 2) }).await;
    assert_eq!((reply.acks[0].open, reply.acks[0].ttl_ms), (true, 0), "its units are to come back");
    assert_eq!(reply.recalls[0].lease, old);
    let new = edge.want(want("u", "asset", 10, 10)).await.unwrap();
    assert_ne!(new.lease, old);
    assert_eq!(farebox.quotas("u").await, "asset 0+10/10");
    // A call that began in the old month is charged to it.
    assert_eq!(edge.report(used(old, 3)).await.acks[0].used, 3);
    let month = "SELECT used_quota, held_quota FROM free_quota WHERE reset_month = '2020-01'";
    assert_eq!(farebox.database.rows(month).await, ["3 0"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_report_gives_the_rest_back_and_the_next_want_opens_another_lease() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    let first = edge.want(want("u", "asset", 10, 10)).await.unwrap().lease;
    let reply = edge
        .send(
            vec![Report { close: true, ..used(first, 4) }],
            vec![want("u", "asset", 6, 6), want("u", "asset", 1, 1)],
            vec![],
        )
        .await;
    assert!(!reply.acks[0].open);
    assert_eq!((reply.grants.len(), reply.refusals.len()), (1, 1));
    assert_ne!(reply.grants[0].lease, first);
    assert_eq!(farebox.quotas("u").await, "asset 4+6/10");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_others_and_unknown_ones_are_not_settled() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let mut owner = farebox.gateway("edge-1");
    let lease = owner.want(want("u", "asset", 10, 10)).await.unwrap().lease;
    let before = farebox.books().await;
    let reply = farebox
        .gateway("edge-2")
        .send(vec![used(lease, 3), used(4_000_000, 1)], vec![], vec![])
        .await;
    assert!(reply.acks.iter().all(|ack| !ack.open && ack.used == 0));
    assert_eq!(farebox.books().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_sidecar_reclaims_and_old_replies_are_purged() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    let other = farebox.sidecar(&[("asset", 10)], &[]).await;
    let mut edge = farebox.gateway("edge-1");
    edge.want(want("u", "asset", 10, 10)).await.unwrap();
    assert_eq!(other.reclaim().await.unwrap(), 0);
    farebox.database.run("UPDATE lease SET reclaim_at = UTC_TIMESTAMP(3)").await;
    assert_eq!(farebox.app.reclaim().await.unwrap(), 0, "the job is the other sidecar's");
    farebox.database.run("UPDATE job_lease SET until = UTC_TIMESTAMP(3)").await;
    assert_eq!(farebox.app.reclaim().await.unwrap(), 1);
    assert_eq!(
        farebox.database.rows("SELECT token FROM job_lease WHERE name = 'reclaim'").await,
        ["2"]
    );

    farebox
        .database
        .run("UPDATE sync_reply SET created_at = UTC_TIMESTAMP(3) - INTERVAL 61 MINUTE")
        .await;
    edge.want(want("u", "asset", 10, 10)).await.unwrap();
    assert_eq!(farebox.app.purge().await.unwrap(), 1);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_take_leases_back_and_stop_when_told() {
    let farebox = Fixture::new(&[("asset", 10)], &[]).await;
    farebox.gateway("edge-1").want(want("u", "asset", 10, 10)).await.unwrap();
    farebox.database.run("UPDATE lease SET reclaim_at = UTC_TIMESTAMP(3)").await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let jobs = tokio::spawn(farebox_sidecar::jobs::run(farebox.app.clone(), stopped));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while farebox.quotas("u").await != "asset 0+0/10" {
        assert!(std::time::Instant::now() < deadline, "the lease was not taken back");
        tokio::task::yield_now().await;
    }
    stop.send(true).unwrap();
    jobs.await.unwrap();
}

/// The answer that granted was lost. What it granted is the gateway's, so it is told again, and nobody is refused for it.
#[tokio::test(flavor = "multi_thread")]
async fn units_of_which_the_gateway_never_heard_are_told_again_and_not_granted_twice() {
    let farebox = Fixture::new(&[], &[("asset", "0.1")]).await;
    farebox.credit("u", "1").await;
    let mut edge = farebox.gateway("edge-1");
    let lost = edge.want(want("u", "asset", 10, 10)).await.unwrap();
    assert_eq!(farebox.money("u").await, "1 1 0");
    let asks = |lease, granted| Want {
        known: Some(Known { lease, granted }),
        ..want("u", "asset", 10, 10)
    };
    for known in [asks(0, 0), asks(lost.lease + 1, 10), asks(lost.lease, 9)] {
        let told = edge.want(known).await.unwrap();
        assert_eq!((told.lease, told.paid_units), (lost.lease, 10));
    }
    assert_eq!(farebox.money("u").await, "1 1 0", "nothing more is held");
    let refusal = edge.want(asks(lost.lease, 10)).await.unwrap_err();
    assert!(!refusal.soon, "there is no more");
    edge.report(used(lost.lease, 10)).await;
    let refusal = edge.want(asks(lost.lease, 10)).await.unwrap_err();
    assert!(!refusal.soon);
    assert_eq!(farebox.money("u").await, "0 0 0");
    farebox.assert_sound().await;
}
