//! After the faults: everybody who has money is served, by each way that there is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use farebox_core::money::Nanos;
use futures_util::future::try_join_all;

use crate::catalog::{Service, gateways_of, is_tight, users};
use crate::journal::Journal;
use crate::judge::{Breach, Kind};
use crate::plan::Dice;
use crate::site::Site;
use crate::traffic::{Actor, credit};

/// How soon after the faults of a round everybody with money must be served.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

/// Between two calls of somebody who waits to be served.
const POLL: Duration = Duration::from_millis(50);

/// Somebody who waits to be served.
struct Waiting {
    actor: Actor,
    round: usize,
    healed: Instant,
}

/// After the faults, everybody who has money is served: from a lease and call by call at each gateway, and by each sidecar
/// that is asked. How long the last one waited.
pub(crate) async fn everybody_is_served(
    site: &Arc<Site>,
    journal: &Arc<Journal>,
    round: usize,
    breaches: &mut Vec<Breach>,
) -> Duration {
    let healed = Instant::now();
    let waiting: Vec<_> = users()
        .into_iter()
        .map(|(user, _)| Actor::new(site, journal, &user, Dice::new(0, 0)))
        .map(|actor| tokio::spawn(Waiting { actor, round, healed }.until_served()))
        .collect();
    let mut longest = Duration::ZERO;
    for user in waiting {
        match user.await.unwrap_or_else(|err| Err(err.to_string())) {
            Ok(took) => longest = longest.max(took),
            Err(text) => breaches.push(Breach { kind: Kind::Liveness, text }),
        }
    }
    longest
}

impl Waiting {
    async fn until_served(self) -> Result<Duration, String> {
        let (user, round) = (&self.actor.user, self.round);
        if is_tight(user) {
            let (amount, key) = ("0.50", format!("round-{round}-{user}"));
            while !credit(&self.actor.site, user, amount, &key) {
                self.wait("could not be given money").await?;
            }
            self.actor.journal.credited(user, amount.parse().unwrap_or(Nanos::ZERO));
        }
        // At once: those who have little money would have spent it by the time that their turn came.
        tokio::try_join!(self.calls(Service::Coin), self.calls(Service::Strict), self.deducts())?;
        Ok(self.healed.elapsed())
    }

    async fn calls(&self, service: Service) -> Result<(), String> {
        let through = async |gateway| {
            while !self.actor.call_path(service, gateway, &service.path()).await {
                let what = format!("got no {} through gateway {gateway}", service.name());
                self.wait(&what).await?;
            }
            Ok::<(), String>(())
        };
        try_join_all(gateways_of(&self.actor.user).map(through)).await.map(drop)
    }

    async fn deducts(&self) -> Result<(), String> {
        for sidecar in 0..self.actor.sidecars.len() {
            let mut open = None;
            while !self.actor.deduct_at(sidecar, &mut open).await {
                let late = self.wait(&format!("got no deduct of sidecar {sidecar}")).await;
                if let (Err(_), Some(asked)) = (&late, &open) {
                    self.actor.give_up(asked);
                }
                late?;
            }
        }
        Ok(())
    }

    /// A moment, unless it is too late.
    async fn wait(&self, what: &str) -> Result<(), String> {
        if self.healed.elapsed() < SERVED_WITHIN {
            tokio::time::sleep(POLL).await;
            return Ok(());
        }
        let (user, round) = (&self.actor.user, self.round);
        Err(format!(
            "{user} {what} within {SERVED_WITHIN:?} after the faults of round {round} had healed"
        ))
    }
}
