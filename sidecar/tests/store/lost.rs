//! Who bears what a silent gateway had drawn and not reported: `leases.on_lost: granted`.

use farebox_core::lease::OnLost;
use farebox_core::wire::Report;
use farebox_sidecar::app::App;
use farebox_sidecar::store::Store;
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::calls::{deduct, refund};
use crate::fixture::{Fixture, settings, used, want};

/// Three free units of asset, others at 0.5; what is lost is charged.
async fn fixture() -> Fixture {
    with(OnLost::Granted).await
}

async fn with(on_lost: OnLost) -> Fixture {
    let farebox = Fixture::new(&[("asset", 3)], &[("asset", "0.5")]).await;
    let store = Store::connect(&farebox.database.options, 8).await.unwrap();
    let settings = settings(&[("asset", 3)], &[("asset", "0.5")]);
    let app = App::new(store, farebox_sidecar::app::Settings { on_lost, ..settings });
    Fixture { app, ..farebox }
}

/// What the records charged, by source: units, amount, units that came back.
const CHARGED: &str =
    "SELECT source, SUM(count), TRUNCATE(SUM(amount), 1), SUM(free_refunded + paid_refunded)
    FROM billing_record GROUP BY source ORDER BY source";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_gateway_held_is_charged_and_stays_charged() {
    let farebox = fixture().await;
    farebox.credit("u", "10").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 9, 9)).await.unwrap().lease;
    edge.report(Report { returned: 1, ..used(lease, 2) }).await;
    farebox.expire(lease).await;
    // 3 free, 5 of 6 paid units at 0.5; one had come back.
    assert_eq!(farebox.money("u").await, "7.5 0 0");
    assert_eq!(farebox.quotas("u").await, "asset 3+0/3");
    assert_eq!(farebox.database.rows(CHARGED).await, ["lease 2 0.0 0", "lost 6 2.5 0"]);
    farebox.assert_sound().await;
    assert_eq!(farebox.app.reclaim().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_turns_up_again_is_believed_once() {
    let farebox = fixture().await;
    farebox.credit("u", "10").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 9, 9)).await.unwrap().lease;
    edge.report(used(lease, 2)).await;
    farebox.expire(lease).await;
    assert_eq!(farebox.money("u").await, "7 0 0");

    // It had used 5, and one call still runs: the other 3 come back.
    let running = Report { in_flight: 1, ..used(lease, 5) };
    for _ in 0..2 {
        let reply = edge.report(running.clone()).await;
        assert!(!reply.acks[0].open);
        assert_eq!(farebox.money("u").await, "8.5 0 0");
    }
    // The call failed.
    for _ in 0..2 {
        edge.report(Report { close: true, ..used(lease, 5) }).await;
        assert_eq!(farebox.money("u").await, "9 0 0");
    }
    assert_eq!(farebox.database.rows(CHARGED).await, ["lease 2 0.0 0", "lost 7 3.0 4"]);
    let back = "SELECT COUNT(*), TRUNCATE(SUM(amount), 1) FROM ledger_entry WHERE kind = 'charge_refund' AND book = 'user'";
    assert_eq!(farebox.database.rows(back).await, ["2 2.0"]);
    farebox.assert_sound().await;
    // What it used after all is charged late.
    edge.report(used(lease, 6)).await;
    assert_eq!(farebox.money("u").await, "8.5 0 0");
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refunded_by_hand_does_not_go_back_twice() {
    let farebox = fixture().await;
    farebox.credit("u", "10").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 9, 9)).await.unwrap().lease;
    farebox.expire(lease).await;
    let lost = "SELECT lost_record_id FROM lease";
    let record = farebox.database.rows(lost).await.remove(0);
    farebox.told(refund("case-7", &record, Some(8))).await;
    assert_eq!(farebox.money("u").await, "10 0 0");
    edge.report(Report { close: true, ..used(lease, 0) }).await;
    assert_eq!(farebox.money("u").await, "10 0 0");
    assert_eq!(farebox.quotas("u").await, "asset 0+0/3");
    farebox.assert_sound().await;
}

/// A grant that never reached its gateway is never named by it. Its process goes on: heard when it could not spend from the
/// lease any more, it has told all that it used. Each way of taking leases back knows that.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_living_gateway_does_not_know_of_is_not_charged() {
    for by in ["the job", "a deduct", "a gateway"] {
        let farebox = fixture().await;
        farebox.credit("u", "1").await;
        let mut edge = farebox.gateway("edge-1");
        let lease = edge.want(want("u", "asset", 5, 5)).await.unwrap().lease;
        let later = "UPDATE lease SET renewed_at = renewed_at - INTERVAL 16 SECOND, reclaim_at = UTC_TIMESTAMP(3)";
        farebox.database.run(later).await;
        match by {
            "the job" => farebox.expire(lease).await,
            "a deduct" => {
                let told = farebox.told(deduct("d", "u", "asset", 1)).await;
                assert_eq!(told, "1 free, 0 paid for 0, leaves 1");
            }
            _ => drop(farebox.gateway("edge-2").want(want("u", "asset", 1, 1)).await.unwrap()),
        }
        let lost = "SELECT state, free_lost + paid_lost FROM lease WHERE gateway_id = 'edge-1'";
        assert_eq!(farebox.database.rows(lost).await, ["expired 0"], "by {by}");
        assert!(farebox.money("u").await.starts_with("1 "), "by {by}");
        farebox.assert_sound().await;
        // Should it have used it after all, that is charged.
        edge.report(used(lease, 1)).await;
        let late = "SELECT SUM(count) FROM billing_record WHERE source = 'late'";
        assert_eq!(farebox.database.rows(late).await, ["1"], "by {by}");
        farebox.assert_sound().await;
    }
}

/// A message may come late, and tell nothing of what was used since it was written.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_its_gateway_named_once_is_charged_although_the_process_was_heard_later() {
    let farebox = fixture().await;
    farebox.credit("u", "1").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 5, 5)).await.unwrap().lease;
    edge.report(used(lease, 1)).await;
    let long_ago = "UPDATE lease SET renewed_at = renewed_at - INTERVAL 16 SECOND";
    farebox.database.run(long_ago).await;
    farebox.expire(lease).await;
    assert_eq!(farebox.database.rows("SELECT free_lost, paid_lost FROM lease").await, ["2 2"]);
    farebox.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_gateway_and_a_call_in_want_find_the_units_charged() {
    let farebox = fixture().await;
    farebox.credit("u", "1").await;
    let old = farebox.gateway("edge-1").want(want("u", "asset", 5, 5)).await.unwrap();
    let mut new = farebox.gateway("edge-1");
    assert!(new.want(want("u", "asset", 1, 1)).await.unwrap_err().soon);
    farebox.database.run("UPDATE lease SET reclaim_at = UTC_TIMESTAMP(3)").await;
    // Whoever asks first takes the lease back: it is charged, and nothing is left.
    assert!(!new.want(want("u", "asset", 1, 1)).await.unwrap_err().soon);
    assert_eq!((old.free_units, old.paid_units), (3, 2));
    assert_eq!(farebox.money("u").await, "0 0 0");
    let states = "SELECT state, free_lost, paid_lost FROM lease";
    assert_eq!(farebox.database.rows(states).await, ["expired 3 2"]);
    farebox.assert_sound().await;
}

impl Fixture {
    /// Has a gateway borrow all that this account has, 3 free units and 2 for money, and then fall silent for too long.
    async fn lend_all_to_a_silent_gateway(&self, account: &str) {
        self.credit(account, "1").await;
        let silent = self.gateway("edge-1").want(want(account, "asset", 5, 5)).await.unwrap();
        let sql = "UPDATE lease SET reclaim_at = UTC_TIMESTAMP(3) WHERE lease_id = ";
        assert_eq!(self.database.run(format!("{sql}{}", silent.lease)).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deduct_in_want_takes_the_lease_back_as_the_setting_says() {
    for (on_lost, told) in [
        (OnLost::Granted, "190102: 0 free and 0 do not cover 0.5"),
        (OnLost::Reported, "1 free, 0 paid for 0, leaves 1"),
    ] {
        let farebox = with(on_lost).await;
        farebox.lend_all_to_a_silent_gateway("u").await;
        assert_eq!(farebox.told(deduct("d", "u", "asset", 1)).await, told, "{on_lost:?}");
        farebox.assert_sound().await;
    }
}

/// On one thread, so that what is recorded is what this test does.
#[tokio::test]
async fn what_may_be_lost_is_counted_whoever_takes_the_lease_back() {
    for on_lost in [OnLost::Reported, OnLost::Granted] {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let require = |who: &str, units: &str, amount: &str| {
            let (text, word) = (handle.render(), on_lost.as_str());
            for line in [
                format!("billing_lease_lost_units_total{{on_lost=\"{word}\"}} {units}"),
                format!("billing_lease_lost_amount_total{{on_lost=\"{word}\"}} {amount}"),
            ] {
                assert!(text.lines().any(|found| found == line), "{who}: no {line} in\n{text}");
            }
        };
        let farebox = with(on_lost).await;
        farebox.lend_all_to_a_silent_gateway("u").await;
        farebox.app.reclaim().await.unwrap();
        require("the job", "5", "1");
        farebox.lend_all_to_a_silent_gateway("v").await;
        let _ = farebox.gateway("edge-2").want(want("v", "asset", 1, 1)).await;
        require("a gateway", "10", "2");
        farebox.lend_all_to_a_silent_gateway("w").await;
        farebox.told(deduct("d", "w", "asset", 1)).await;
        require("a deduct", "15", "3");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_is_not_what_was_charged_is_found() {
    let farebox = fixture().await;
    farebox.credit("u", "10").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 9, 9)).await.unwrap().lease;
    farebox.expire(lease).await;
    for plant in [
        "UPDATE lease SET paid_lost = paid_lost - 1, untold_lost = untold_lost - 1, paid_returned = paid_returned + 1",
        "UPDATE lease SET lost_record_id = NULL",
        "UPDATE billing_record SET source = 'late' WHERE source = 'lost'",
    ] {
        farebox.database.run("CREATE TABLE IF NOT EXISTS good_lease AS SELECT * FROM lease").await;
        farebox.database.run(plant).await;
        let broken = farebox.app.invariants().await.unwrap();
        let loss = broken.iter().find(|invariant| invariant.name == "m3_lease_loss").unwrap();
        assert!(
            loss.violations.iter().any(|row| row.starts_with("lease 1: lost ")),
            "{plant}: {loss:?}"
        );
        farebox.database.run("DELETE FROM lease").await;
        farebox.database.run("INSERT INTO lease SELECT * FROM good_lease").await;
        farebox
            .database
            .run("UPDATE billing_record SET source = 'lost' WHERE source = 'late'")
            .await;
    }
    farebox.assert_sound().await;
}
