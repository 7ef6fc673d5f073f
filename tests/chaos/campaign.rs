//! One campaign, from the first process to the verdict.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use farebox_core::money::Nanos;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::catalog::{CLIENTS, LEASE_TTL_MS, users};
use crate::control::Control;
use crate::inflict::{self, Log};
use crate::journal::{Entry, Journal};
use crate::judge::{Breach, Facts, Kind, judge, on_path};
use crate::plan::{Dice, GATEWAYS, Part, Plan, What};
use crate::report::Report;
use crate::served::everybody_is_served;
use crate::site::Site;
use crate::traffic::{Actor, credit};
use crate::watch::{self, Notes};
use crate::{books, drain, passes};

/// The clients, while they run.
struct Crowd {
    stop: Arc<AtomicBool>,
    actors: Vec<JoinHandle<Actor>>,
}

/// Runs a campaign.
pub(crate) async fn run(plan: Plan, control: Control, progress: &dyn Fn(&str)) -> Result<Report> {
    progress("starting 3 gateways, 2 sidecars, MariaDB, Redis, payment service");
    let site = Arc::new(Site::start(control, plan.on_lost).await?);
    let outcome = on_site(&site, plan, progress).await;
    let broken = outcome.as_ref().map_or(true, |report| !report.breaches.is_empty());
    if broken && control == Control::None {
        let kept = site.keep(&format!("farebox-chaos-{}", std::process::id()))?;
        progress(&format!(
            "logs, calls and the rows of the database are kept in {}",
            kept.display()
        ));
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
    let watcher = tokio::spawn(watch::watch(
        Arc::clone(site),
        Arc::clone(&journal),
        Arc::clone(&notes),
        Arc::clone(&stop),
    ));
    let crowd = Crowd::start(site, &journal, plan.seed);

    let (mut breaches, mut recoveries) = (Vec::new(), Vec::new());
    for (number, faults) in plan.rounds.iter().enumerate() {
        let (round, rounds) = (number + 1, plan.rounds.len());
        progress(&format!("round {round} of {rounds}: {} faults", faults.len()));
        watch::next_round(&notes);
        inflict::round(site, &journal, &log, faults).await;
        breaches.extend(inflict::revive_all(site).await.into_iter().map(crash));
        recoveries.push(everybody_is_served(site, &journal, round, &mut breaches).await);
    }
    progress("traffic ends; waiting for all that is under way");
    let actors = crowd.end().await?;
    stop.store(true, Ordering::Relaxed);
    watcher.await?;
    breaches.extend(drain::drain(site, actors).await?);
    watch::next_round(&notes);
    // The last word is on books that rest: it must be had.
    ensure!(watch::ask(site, &notes), "the invariants could not be asked for at the end");
    let allowed = watch::allowed(site, &log).await?;
    // In order: with that their access logs are whole.
    tokio::task::block_in_place(|| {
        (0..GATEWAYS).for_each(|gateway| site.end(Part::Gateway(gateway), false))
    });

    let seen = notes.lock().map(|seen| seen.clone()).unwrap_or_default();
    let facts = Facts {
        on_lost: plan.on_lost,
        above_budget: seen.above_budget.clone(),
        allowed,
        ..facts(site, &journal, &log).await?
    };
    fs::write(site.folder().join("calls.log"), calls(&facts)?)?;
    let verdict = judge(&facts);
    breaches.extend(seen.breaches.iter().cloned());
    breaches.extend(journal.contradictions().into_iter().map(contradiction));
    breaches.extend(unable(&log));
    breaches.extend(watch::unwatched(&seen.asked));
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

/// What clients and witnesses say of each call, a line of JSON each: what a breach is looked up in.
fn calls(facts: &Facts) -> Result<String> {
    let line = |call: &Entry| {
        let (arrived_ms, pass) = (facts.arrivals.get(&call.id), facts.passes.get(&call.id));
        let line = json!({ "call": call, "arrived_ms": arrived_ms, "pass": pass });
        serde_json::to_string(&line).map(|line| line + "\n")
    };
    Ok(facts.entries.iter().map(line).collect::<Result<_, _>>()?)
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
    let changes = faults.iter().filter(|fault| fault.what == What::PriceChange);
    Ok(Facts {
        entries: journal.entries(),
        arrivals,
        passes,
        charged: books::charged(site)?,
        accounts: books::accounts(site)?,
        money_in,
        deaths: log.deaths(),
        taken_back: books::taken_back(site, journal)?,
        price_changes: changes.map(|fault| (fault.begun_ms, fault.healed_ms)).collect(),
        troubles: (0..GATEWAYS).map(|gateway| on_path(gateway, &faults)).collect(),
        reclaim_ms: 2 * LEASE_TTL_MS,
        ..Facts::default()
    })
}
