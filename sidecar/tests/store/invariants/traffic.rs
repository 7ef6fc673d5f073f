//! Checks beside traffic raise no false alarm: each sees one moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farebox_core::wire::Report;

use crate::calls::{deduct, refund};
use crate::fixture::{Fixture, used, want};

const ACCOUNTS: [&str; 3] = ["u", "v", "w"];

/// Until it is told to stop: draws, reports, returns and late reports of one gateway.
async fn draw(farebox: Arc<Fixture>, name: String, stop: Arc<AtomicBool>) {
    let mut edge = farebox.gateway(&name);
    for turn in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let account = ACCOUNTS[turn % ACCOUNTS.len()];
        let Ok(grant) = edge.want(want(account, "asset", 4, 1)).await else { continue };
        let total = grant.free_units + grant.paid_units;
        edge.report(used(grant.lease, total.div_ceil(2))).await;
        if turn % 2 == 0 {
            let close = Report { close: true, ..used(grant.lease, total.div_ceil(2)) };
            edge.report(close).await;
        }
    }
}

/// Charges and refunds one by one, and reclaims.
async fn charge(farebox: Arc<Fixture>, stop: Arc<AtomicBool>) {
    for turn in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let account = ACCOUNTS[turn % ACCOUNTS.len()];
        farebox.credit(account, "1").await;
        let record = farebox.record(deduct(&format!("d-{turn}"), account, "asset", 1)).await;
        farebox.told(refund(&format!("f-{turn}"), &record, None)).await;
        farebox
            .database
            .run("UPDATE lease SET reclaim_at = UTC_TIMESTAMP(3) WHERE lease_id % 5 = 0")
            .await;
        farebox.app.reclaim().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_beside_traffic_find_nothing_wrong() {
    let farebox = Arc::new(Fixture::new(&[("asset", 50)], &[("asset", "0.01")]).await);
    for account in ACCOUNTS {
        farebox.credit(account, "1000").await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let gateways = (0..3)
        .map(|number| tokio::spawn(draw(farebox.clone(), format!("edge-{number}"), stop.clone())));
    let charging = tokio::spawn(charge(farebox.clone(), stop.clone()));
    let traffic: Vec<_> = gateways.chain([charging]).collect();
    for _ in 0..40 {
        // Both kinds.
        farebox.assert_sound().await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in traffic {
        task.await.unwrap();
    }
    let records = farebox.database.rows("SELECT COUNT(*) FROM billing_record").await;
    println!("{} records were written meanwhile", records[0]);
    assert_ne!(records, ["0"]);
}
