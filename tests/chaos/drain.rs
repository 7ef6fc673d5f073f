//! After the traffic: what is not known is asked for again, and everything comes to rest.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::books::is_paid;
use crate::judge::{Breach, Kind};
use crate::site::Site;
use crate::traffic::Actor;
use crate::watch::stat;

/// How long it may take until everything has come to rest: undos are repeated with pauses, leases of dead gateways run out.
const REST_WITHIN: Duration = Duration::from_secs(90);

const POLL: Duration = Duration::from_millis(250);

/// What must be nothing: what it is, and how it is counted.
const OPEN: [(&str, &str); 3] = [
    ("open leases", "SELECT COUNT(*) FROM lease WHERE state = 'open'"),
    ("open reservations", "SELECT COUNT(*) FROM reservation WHERE state = 'open'"),
    ("pending refunds", "SELECT COUNT(*) FROM recharge_refund WHERE state = 'pending'"),
];

/// Orders that were credited.
const CREDITED: &str = "SELECT COUNT(*) FROM recharge_order WHERE credited_at IS NOT NULL";

/// Resolves what is unknown, and waits; what did not come to rest.
pub(crate) async fn drain(site: &Site, mut actors: Vec<Actor>) -> Result<Vec<Breach>> {
    let until = Instant::now() + REST_WITHIN;
    for actor in &mut actors {
        resolve(actor, until).await;
    }
    loop {
        let open = open(site).await?;
        if open.is_empty() {
            return Ok(Vec::new());
        }
        if until < Instant::now() {
            let breach = |text| Breach { kind: Kind::Drain, text };
            return Ok(open.into_iter().map(breach).collect());
        }
        hurry(site);
        tokio::time::sleep(POLL).await;
    }
}

/// Every key is asked about until it has an answer: then nothing but calls is unknown.
async fn resolve(actor: &mut Actor, until: Instant) {
    for asked in std::mem::take(&mut actor.open) {
        while !actor.ask_again(&asked).await {
            if until < Instant::now() {
                actor.give_up(&asked);
                break;
            }
            tokio::time::sleep(POLL).await;
        }
    }
    while !actor.credit_again() && Instant::now() < until {
        tokio::time::sleep(POLL).await;
    }
}

/// Orders and refunds have clocks of minutes and hours: they are asked for now.
fn hurry(site: &Site) {
    for table in ["recharge_order", "recharge_refund"] {
        let now =
            format!("UPDATE {table} SET ask_at = UTC_TIMESTAMP(3) WHERE ask_at > UTC_TIMESTAMP(3)");
        // Where the sidecar is about to ask, the database may have this statement give way.
        tokio::task::block_in_place(|| site.database.sql(&now)).ok();
    }
}

/// What has not come to rest.
async fn open(site: &Site) -> Result<Vec<String>> {
    let count = |statement: &str| -> Result<u64> {
        let rows = tokio::task::block_in_place(|| site.database.sql(statement))?;
        Ok(rows.concat().concat().parse()?)
    };
    let mut open = Vec::new();
    for (what, statement) in OPEN {
        let rows = count(statement)?;
        if rows != 0 {
            open.push(format!("{rows} {what}"));
        }
    }
    let payments = site.payment.payments().await;
    let paid = payments.iter().filter(|payment| is_paid(payment)).count() as u64;
    let credited = count(CREDITED)?;
    if credited != paid {
        open.push(format!("{paid} payments were made, {credited} orders are credited"));
    }
    for gateway in 0..site.gateways.len() {
        let stat =
            async |name: &str| stat(site, gateway, &format!("wasmcustom.farebox_{name}")).await;
        let (queued, done) = (stat("undo_queued").await, stat("undo_done").await);
        let (dropped, unreported) = (stat("undo_dropped").await, stat("unreported_units").await);
        if (queued, unreported)
            != (done.zip(dropped).map(|(done, dropped)| done + dropped), Some(0))
        {
            open.push(format!("gateway {gateway}: {queued:?} undos queued, {done:?} done, {dropped:?} dropped; {unreported:?} units unreported"));
        }
    }
    Ok(open)
}
