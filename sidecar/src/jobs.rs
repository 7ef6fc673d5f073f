//! Work that no request starts, on its clock.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::app::{App, Deliveries, Touched};

/// Together with `leases.boot_grace` well below the time that a gateway lets a call wait: after a restart, an account whose
/// last units the dead process held is served, not refused.
const RECLAIM_EVERY: Duration = Duration::from_millis(500);
const PURGE_EVERY: Duration = Duration::from_secs(60);

/// How often orders and refunds that are due are looked for. Each has its own clock, of minutes and hours.
const PAYMENTS_EVERY: Duration = Duration::from_secs(2);

/// How often events that are due are looked for.
const EVENTS_EVERY: Duration = Duration::from_secs(2);

/// How often accounts that changed are checked.
const INVARIANTS_EVERY: Duration = Duration::from_secs(60);

/// How often the database is asked for what gateways hold and who runs low.
const STANDING_EVERY: Duration = Duration::from_secs(30);

/// How often it is looked whether free quotas of the month to come are to be made.
const QUOTAS_EVERY: Duration = Duration::from_secs(60);

/// Runs the jobs until `shutdown` turns true, or its sender is gone, and leaves them to other sidecars. A failure is logged,
/// and the next round tries again.
pub async fn run(app: App, shutdown: watch::Receiver<bool>) {
    // Apart, because neither a slow payment service nor a slow receiver of events must keep leases from being taken back.
    tokio::join!(
        books(app.clone(), shutdown.clone()),
        payments(app.clone(), shutdown.clone()),
        refunds(app.clone(), shutdown.clone()),
        events(app.clone(), shutdown.clone()),
        invariants(app.clone(), shutdown.clone()),
        quotas(app.clone(), shutdown.clone()),
        standing(app.clone(), shutdown),
    );
    if let Err(err) = app.release_jobs().await {
        tracing::warn!(error = %err, "jobs of this process stand still for a minute or more");
    }
}

async fn books(app: App, mut shutdown: watch::Receiver<bool>) {
    let (mut reclaim, mut purge) = (clock(RECLAIM_EVERY), clock(PURGE_EVERY));
    loop {
        tokio::select! {
            () = stopped(&mut shutdown) => return,
            _ = reclaim.tick() => match app.reclaim().await {
                Ok(0) => {}
                Ok(claims) => tracing::info!(claims, "took back leases of silent gateways, and reservations"),
                Err(err) => tracing::error!(error = %err, "leases of silent gateways and old reservations were not taken back"),
            },
            _ = purge.tick() => match app.purge().await {
                Ok(0) => {}
                Ok(rows) => tracing::debug!(rows, "deleted old replies and events"),
                Err(err) => tracing::error!(error = %err, "old replies and events were not deleted"),
            },
        }
    }
}

async fn payments(app: App, mut shutdown: watch::Receiver<bool>) {
    let mut clock = clock(PAYMENTS_EVERY);
    while ticked(&mut clock, &mut shutdown).await {
        match app.ask_for_payments().await {
            Ok(0) => {}
            Ok(orders) => {
                tracing::info!(orders, "orders ended after the payment service was asked")
            }
            Err(err) => tracing::error!(error = %err, "pending orders were not asked for"),
        }
    }
}

/// Apart from orders: a payment service that is slow to give money back must not keep money from being credited.
async fn refunds(app: App, mut shutdown: watch::Receiver<bool>) {
    let mut clock = clock(PAYMENTS_EVERY);
    while ticked(&mut clock, &mut shutdown).await {
        match app.continue_refunds().await {
            Ok(0) => {}
            Ok(refunds) => {
                tracing::info!(refunds, "refunds ended after the payment service was asked")
            }
            Err(err) => tracing::error!(error = %err, "pending refunds were not asked for"),
        }
    }
}

async fn events(app: App, mut shutdown: watch::Receiver<bool>) {
    let mut clock = clock(EVENTS_EVERY);
    let observer = shutdown.clone();
    // A sender that is gone is a stop as well.
    let go_on = || !*observer.borrow() && observer.has_changed().is_ok();
    while ticked(&mut clock, &mut shutdown).await {
        match app.deliver_events(&go_on).await {
            Ok(Deliveries { is_full: true, .. }) => clock.reset_immediately(),
            Ok(_) => {}
            Err(err) => tracing::error!(error = %err, "events were not delivered"),
        }
    }
}

async fn quotas(app: App, mut shutdown: watch::Receiver<bool>) {
    let mut clock = clock(QUOTAS_EVERY);
    let observer = shutdown.clone();
    let go_on = || !*observer.borrow() && observer.has_changed().is_ok();
    while ticked(&mut clock, &mut shutdown).await {
        match app.prepare_quotas(&go_on).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "made free quotas of the month to come"),
            Err(err) => {
                tracing::error!(error = %err, "free quotas of the month to come were not made")
            }
        }
    }
}

/// One sidecar checks, and every one shows what is known.
async fn invariants(app: App, mut shutdown: watch::Receiver<bool>) {
    let mut clock = clock(INVARIANTS_EVERY);
    while ticked(&mut clock, &mut shutdown).await {
        match app.check_touched().await {
            Ok(None) => {}
            Ok(Some(Touched { accounts, is_full: true, .. })) => {
                tracing::warn!(
                    accounts,
                    "more accounts changed than one run checks; the rest is left for the next one"
                );
            }
            Ok(Some(Touched { accounts, .. })) => {
                tracing::debug!(accounts, "checked accounts that changed")
            }
            Err(err) => tracing::error!(error = %err, "accounts that changed were not checked"),
        }
        if let Err(err) = app.show_invariants().await {
            tracing::error!(error = %err, "the invariants' metrics are those of an earlier moment");
        }
    }
}

/// Every sidecar shows what stands in the database.
async fn standing(app: App, mut shutdown: watch::Receiver<bool>) {
    let mut clock = clock(STANDING_EVERY);
    while ticked(&mut clock, &mut shutdown).await {
        if let Err(err) = app.show_standing().await {
            tracing::error!(error = %err, "the metrics of leases and low balances are those of an earlier moment");
        }
    }
}

/// A clock whose rounds are apart, also after one that took long.
fn clock(period: Duration) -> Interval {
    let mut clock = interval(period);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock
}

/// Waits for the next round; `false` when the process is to stop.
async fn ticked(clock: &mut Interval, shutdown: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = stopped(shutdown) => false,
        _ = clock.tick() => true,
    }
}

/// Returns when the process is to stop. What the channel lends is given back before anything else is awaited.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    drop(shutdown.wait_for(|stop| *stop).await);
}
