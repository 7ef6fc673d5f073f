//! What stands in the database, shown in the metrics of this process: what gateways hold, who runs low, what waits.

use std::time::Duration;

use crate::app::App;
use crate::app::quotas::prepare;
use crate::calendar::Month;
use crate::metrics;
use crate::store::standing::{Lent, Watched};
use crate::store::{self, StoreError, outbox, standing};

/// Asks the database and shows it. Every sidecar shows all of it, so one of them is enough for a graph.
pub(super) async fn show(app: &App) -> Result<(), StoreError> {
    let mut connection = app.store.acquire().await?;
    let now = store::now(&mut connection).await?;
    let month = Month::at(now, app.settings.time_zone).text;
    let Lent { leases, free_units, paid_units, amount, lag } =
        standing::lent(&mut connection).await?;
    let silent_gateways =
        standing::silent_gateways(&mut connection, app.settings.lease_ttl).await?;
    let thresholds = &app.settings.low;
    let Watched { low, frozen } = standing::watched(&mut connection, thresholds.balance).await?;
    let low_quotas =
        standing::low_quotas(&mut connection, &month, thresholds.quota_percent).await?;
    let (pending, outbox_lag) = match app.events {
        Some(_) => {
            let pending = outbox::pending(&mut connection).await?;
            (pending, standing::outbox_lag(&mut connection).await?)
        }
        // Without a receiver events are kept for a while, and wait for nobody.
        None => (0, Duration::ZERO),
    };
    let anomalies = standing::anomalies(&mut connection).await?;
    let jobs = standing::jobs(&mut connection).await?;
    let quotas = prepare::progress(&mut connection, app, now).await?;

    metrics::lent(metrics::Lent { leases, free_units, paid_units, amount, lag, silent_gateways });
    metrics::balances_low(low);
    metrics::accounts_frozen(frozen);
    for service in app.settings.free_quotas.keys() {
        let low = low_quotas.iter().find(|(name, _)| name == service.as_str());
        metrics::quotas_low(&app.services.label(service), low.map_or(0, |(_, users)| *users));
    }
    metrics::outbox_pending(pending);
    metrics::outbox_lag(outbox_lag);
    metrics::anomalies(anomalies);
    for (job, until) in jobs {
        metrics::job_held_until(job, until.timestamp());
    }
    metrics::quotas_unprepared(quotas.unfinished);
    if let Some(finished) = quotas.finished_at {
        metrics::quotas_prepared_at(finished.timestamp());
    }
    let (open, idle) = app.store.open_connections();
    metrics::connections_to_database(open.saturating_sub(idle), idle);
    metrics::standing_seen_at(now.timestamp());
    Ok(())
}
