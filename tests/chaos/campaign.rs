//! One campaign, from the first process to the verdict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use farebox_core::money::Nanos;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::catalog::{LEASE_TTL_MS, Service, gateways_of, is_tight, users};
use crate::control::Control;
use crate::inflict::{self, Log};
use crate::journal::Journal;
use crate::judge::{Breach, Facts, Kind, judge, on_path};
use crate::plan::{Dice, GATEWAYS, Part, Plan, What};
use crate::report::Report;
use crate::site::Site;
use crate::traffic::{Actor, credit};
use crate::watch::{self, Notes};
use crate::{books, drain, passes};

/// Clients of each user: enough that they meet themselves.
const CLIENTS: u64 = 2;

/// How soon after the faults of a round everybody with money must be served, by each gateway.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

/// Between two calls of somebody who waits to be served.
const POLL: Duration = Duration::from_millis(50);

/// The clients, while they run.
struct Crowd {
    stop: Arc<AtomicBool>,
    actors: Vec<JoinHandle<Actor>>,
}

/// Runs a campaign.
pub(crate) async fn run(plan: Plan, control: Control, progress: &dyn Fn(&str)) -> Result<Report> {
    progress("starting 3 gateways, 2 sidecars, MariaDB, Redis, payment service");
    let site = Arc::new(Site::start(control).await?);
    let outcome = on_site(&site, plan, progress).await;
    let broken = outcome.as_ref().map_or(true, |report| !report.breaches.is_empty());
    if broken && control == Control::None {
        let kept = site.keep(&format!("farebox-chaos-{}", std::process::id()))?;
        progress(&format!("logs and a dump of the database are kept in {}", kept.display()));
    }
    outcome
}

async fn on_site(site: &Arc<Site>, plan: Plan, progress: &dyn Fn(&str)) -> Result<Report> {
    let journal = Arc::new(Journal::new());
    // Every callback comes twice.
    site.payment.behave(json!({ "callback": { "copies": 2 } })).await;
    fund(site, &journal)?;
    let (log, notes) = (Arc::new(Log::default()), Notes::default());
    let stop = Arc::new(AtomicBool::new(false));
    let watcher =
        tokio::spawn(watch::watch(Arc::clone(site), Arc::clone(&notes), Arc::clone(&stop)));
    let crowd = Crowd::start(site, &journal, plan.seed);

    let (mut breaches, mut recoveries) = (Vec::new(), Vec::new());
    for (number, faults) in plan.rounds.iter().enumerate() {
        let (round, rounds) = (number + 1, plan.rounds.len());
        progress(&format!("round {round} of {rounds}: {} faults", faults.len()));
        inflict::round(site, &journal, &log, faults).await;
        breaches.extend(inflict::revive_all(site).await.into_iter().map(crash));
        recoveries.push(everybody_is_served(site, &journal, round, &mut breaches).await);
    }
    progress("traffic ends; waiting for all that is under way");
    let actors = crowd.end().await?;
    stop.store(true, Ordering::Relaxed);
    watcher.await?;
    breaches.extend(drain::drain(site, actors).await?);
    // The last word is on books that rest: it must be had.
    ensure!(watch::ask(site, &notes), "the invariants could not be asked for at the end");
    // In order: with that their access logs are whole.
    tokio::task::block_in_place(|| {
        (0..GATEWAYS).for_each(|gateway| site.end(Part::Gateway(gateway), false))
    });

    let facts = facts(site, &journal, &log).await?;
    let verdict = judge(&facts);
    let seen = notes.lock().map(|seen| seen.clone()).unwrap_or_default();
    breaches.extend(seen.breaches.iter().cloned());
    breaches.extend(journal.contradictions().into_iter().map(contradiction));
    breaches.extend(unable(&log));
    breaches.extend(verdict.breaches.iter().cloned());
    Ok(Report::new(plan, &journal, &log, &seen, verdict, recoveries, breaches, site.disk.is_some()))
}

fn contradiction(text: String) -> Breach {
    Breach { kind: Kind::Contradiction, text }
}

/// What nobody ended must not end.
fn crash(part: Part) -> Breach {
    Breach { kind: Kind::Liveness, text: format!("{part} ended by itself: see its log") }
}

/// A part that did not come back keeps nobody's promise.
fn unable(log: &Log) -> Vec<Breach> {
    let dead = log.all().into_iter().filter(|fault| {
        let restarts = matches!(fault.what, What::Kill(_) | What::Restart(_) | What::PriceChange);
        restarts && fault.failed.is_some()
    });
    dead.map(|fault| {
        let text = format!("{}: {}", fault.what, fault.failed.unwrap_or_default());
        Breach { kind: Kind::Liveness, text }
    })
    .collect()
}

/// Everybody gets their first money.
fn fund(site: &Site, journal: &Journal) -> Result<()> {
    for (user, amount) in users() {
        ensure!(credit(site, &user, amount, &format!("first-{user}")), "{user} got no money");
        journal.credited(&user, amount.parse().context("an amount")?);
    }
    Ok(())
}

impl Crowd {
    fn start(site: &Arc<Site>, journal: &Arc<Journal>, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let people =
            users().into_iter().flat_map(|(user, _)| (0..CLIENTS).map(move |_| user.clone()));
        let actors = (1..).zip(people).map(|(purpose, user)| {
            let actor = Actor::new(site, journal, &user, Dice::new(seed, purpose));
            tokio::spawn(actor.run(Arc::clone(&stop)))
        });
        Self { actors: actors.collect(), stop }
    }

    async fn end(self) -> Result<Vec<Actor>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut actors = Vec::new();
        for actor in self.actors {
            actors.push(actor.await?);
        }
        Ok(actors)
    }
}

/// After the faults, everybody who has money is served by each gateway; how long the last one waited.
async fn everybody_is_served(
    site: &Arc<Site>,
    journal: &Arc<Journal>,
    round: usize,
    breaches: &mut Vec<Breach>,
) -> Duration {
    let healed = Instant::now();
    let waiting: Vec<_> = users()
        .into_iter()
        .map(|(user, _)| {
            let (site, journal) = (Arc::clone(site), Arc::clone(journal));
            tokio::spawn(async move { is_served(&site, &journal, &user, round, healed).await })
        })
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

async fn is_served(
    site: &Arc<Site>,
    journal: &Arc<Journal>,
    user: &str,
    round: usize,
    healed: Instant,
) -> Result<Duration, String> {
    if is_tight(user) {
        let (amount, key) = ("0.50", format!("round-{round}-{user}"));
        while !credit(site, user, amount, &key) {
            late(healed, user, round, "could not be given money")?;
        }
        journal.credited(user, amount.parse().unwrap_or(Nanos::ZERO));
    }
    let actor = Actor::new(site, journal, user, Dice::new(0, 0));
    for gateway in gateways_of(user) {
        while !actor.call_path(Service::Coin, gateway, &Service::Coin.path()).await {
            late(healed, user, round, &format!("was not served by gateway {gateway}"))?;
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(healed.elapsed())
}

fn late(healed: Instant, user: &str, round: usize, what: &str) -> Result<(), String> {
    if healed.elapsed() < SERVED_WITHIN {
        return Ok(());
    }
    Err(format!(
        "{user} {what} within {SERVED_WITHIN:?} after the faults of round {round} had healed"
    ))
}

/// Collects what everybody knows.
async fn facts(site: &Site, journal: &Journal, log: &Log) -> Result<Facts> {
    let arrivals = site.upstream.arrivals();
    let arrivals = arrivals.iter().map(|arrival| (arrival.call, journal.at(arrival.at))).collect();
    let mut money_in: BTreeMap<String, Nanos> = journal.credits();
    for (user, amount) in books::paid(&site.payment.payments().await)? {
        let sum = money_in.entry(user).or_default();
        *sum = sum.checked_add(amount).context("a sum out of range")?;
    }
    let passes = passes::read(site)?;
    let faults = log.all();
    let deaths = faults.iter().filter_map(|fault| match fault.what {
        What::Kill(Part::Gateway(gateway)) | What::Restart(Part::Gateway(gateway)) => {
            Some((gateway, fault.begun_ms))
        }
        _ => None,
    });
    Ok(Facts {
        entries: journal.entries(),
        arrivals,
        passes,
        charged: books::charged(site)?,
        accounts: books::accounts(site)?,
        money_in,
        deaths: deaths.collect(),
        troubles: (0..GATEWAYS).map(|gateway| on_path(gateway, &faults)).collect(),
        reclaim_ms: 2 * LEASE_TTL_MS,
    })
}
