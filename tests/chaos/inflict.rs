//! Doing what the plan says to the parts, and undoing it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use farebox_tests::database::{Database, Held};
use farebox_tests::link::Weather;
use serde::Serialize;

use crate::journal::Journal;
use crate::judge::Death;
use crate::plan::{Fault, Part, Trouble, What};
use crate::site::{Site, other_sidecar_of, sidecar_of};

/// How long a part may take to be started again, over several attempts.
const START_ATTEMPTS: usize = 30;
const START_PAUSE: Duration = Duration::from_millis(500);

/// How long a server without a disk may take to end itself.
const DYING_LOOKS: usize = 20;
const DYING_PAUSE: Duration = Duration::from_millis(100);

/// Somebody else's transaction that locks rows from both ends waits so long between two of them.
const DEADLOCK_PAUSE: Duration = Duration::from_millis(150);

/// A fault as it was.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Inflicted {
    /// What it was.
    pub(crate) what: What,
    pub(crate) kind: &'static str,
    /// Milliseconds since the campaign began.
    pub(crate) begun_ms: u64,
    /// When the process that it ended was gone, if it ended one: on a busy machine that takes a while.
    pub(crate) gone_ms: Option<u64>,
    /// When everything it had broken worked again.
    pub(crate) healed_ms: u64,
    /// Why it could not be done, if so.
    pub(crate) failed: Option<String>,
}

/// The faults so far.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Vec<Inflicted>>);

impl Log {
    /// All of them.
    pub(crate) fn all(&self) -> Vec<Inflicted> {
        self.0.lock().map(|log| log.clone()).unwrap_or_default()
    }

    /// Which gateways were ended without draining.
    pub(crate) fn deaths(&self) -> Vec<Death> {
        let faults = self.all().into_iter();
        let deaths = faults.filter_map(|fault| match fault.what {
            What::Kill(Part::Gateway(gateway)) | What::Restart(Part::Gateway(gateway)) => {
                let gone_ms = fault.gone_ms.unwrap_or(fault.healed_ms);
                Some(Death { gateway, begun_ms: fault.begun_ms, gone_ms })
            }
            _ => None,
        });
        deaths.collect()
    }

    fn add(&self, inflicted: Inflicted) {
        if let Ok(mut log) = self.0.lock() {
            log.push(inflicted);
        }
    }
}

/// Does all faults of a round; ends when all have healed.
pub(crate) async fn round(
    site: &Arc<Site>,
    journal: &Arc<Journal>,
    log: &Arc<Log>,
    faults: &[Fault],
) {
    let faults: Vec<_> = faults
        .iter()
        .map(|&fault| {
            let (site, journal, log) = (Arc::clone(site), Arc::clone(journal), Arc::clone(log));
            // On a thread of its own: ending a process and waiting for it blocks.
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || runtime.block_on(one(&site, &journal, &log, fault)))
        })
        .collect();
    for fault in faults {
        // A fault that panics is a mistake of the campaign, and ends it.
        fault.await.unwrap_or_else(|err| std::panic::resume_unwind(err.into_panic()));
    }
}

async fn one(site: &Site, journal: &Journal, log: &Log, fault: Fault) {
    tokio::time::sleep(Duration::from_millis(fault.at_ms)).await;
    let begun_ms = journal.now_ms();
    let gone_ms = ended_by(fault.what).map(|(part, at_once)| {
        site.end(part, at_once);
        journal.now_ms()
    });
    let outcome = inflict(site, fault.what, Duration::from_millis(fault.length_ms)).await;
    let failed = outcome.err().map(|err| format!("{err:#}"));
    let (what, kind) = (fault.what, fault.what.kind());
    log.add(Inflicted { what, kind, begun_ms, gone_ms, healed_ms: journal.now_ms(), failed });
}

/// Which part a fault ends first, and whether it does so at once.
fn ended_by(what: What) -> Option<(Part, bool)> {
    match what {
        What::Kill(part) => Some((part, true)),
        What::Restart(part) => Some((part, false)),
        _ => None,
    }
}

async fn inflict(site: &Site, what: What, length: Duration) -> Result<()> {
    match what {
        What::Kill(part) => {
            tokio::time::sleep(length).await;
            start(site, part).await
        }
        What::Restart(part) => start(site, part).await,
        What::Pause(part) => {
            site.process(part).pause();
            tokio::time::sleep(length).await;
            site.process(part).resume();
            Ok(())
        }
        What::Network(wire, trouble) => {
            let link = site.links.get(&wire).with_context(|| format!("no proxy for {wire}"))?;
            link.set(weather(trouble));
            tokio::time::sleep(length).await;
            link.set(Weather::Fair);
            Ok(())
        }
        What::Move(gateway) => {
            site.lead(gateway, other_sidecar_of(gateway));
            tokio::time::sleep(length).await;
            site.lead(gateway, sidecar_of(gateway));
            Ok(())
        }
        What::RedisFlush => redis(site, &["FLUSHALL"]),
        What::RedisSleep => {
            let seconds = format!("{:.1}", length.as_secs_f64());
            // Its answer comes after the sleep, and nobody waits so long for it.
            redis(site, &["DEBUG", "SLEEP", &seconds]).ok();
            tokio::time::sleep(length).await;
            Ok(())
        }
        What::ClockStep(sidecar, seconds) => {
            site.step_clock(sidecar, seconds)?;
            tokio::time::sleep(length).await;
            site.step_clock(sidecar, 0)
        }
        What::RowLocks => {
            let held = hold(&site.database, "ASC")?;
            tokio::time::sleep(length).await;
            drop(held);
            Ok(())
        }
        What::Deadlocks => deadlocks(&site.database, length).await,
        What::DiskFull => disk_full(site, length).await,
        What::PriceChange => change_prices(site).await,
    }
}

fn weather(trouble: Trouble) -> Weather {
    match trouble {
        Trouble::Latency(ms) => {
            let base = Duration::from_millis(ms);
            Weather::Slow { base, jitter: base }
        }
        Trouble::Reset => Weather::Reset,
        Trouble::Cut(bytes) => Weather::CutAfter(bytes),
        Trouble::Silence => Weather::Silent,
    }
}

/// A sidecar does not start while its database is away, so it is tried until it does.
async fn start(site: &Site, part: Part) -> Result<()> {
    let mut outcome = site.start_again(part).await;
    for _ in 0..START_ATTEMPTS {
        if outcome.is_ok() {
            return outcome;
        }
        tokio::time::sleep(START_PAUSE).await;
        // What has ended by itself is still held as a process.
        site.end(part, true);
        outcome = site.start_again(part).await;
    }
    outcome.with_context(|| format!("{part} did not come back"))
}

/// Redis may be away itself: then there is nothing to do.
fn redis(site: &Site, words: &[&str]) -> Result<()> {
    site.redis.try_command(words).map(drop).context("Redis did not take the command")
}

/// Locks the rows of all accounts.
fn hold(database: &Database, order: &str) -> Result<Held> {
    let rows = format!("SELECT user_id FROM user_balance ORDER BY user_id {order} FOR UPDATE");
    Ok(database.hold(&rows)?)
}

/// Locks all rows from the last to the first, again and again, for moments: everybody else goes the other way.
async fn deadlocks(database: &Database, length: Duration) -> Result<()> {
    let until = tokio::time::Instant::now() + length;
    while tokio::time::Instant::now() < until {
        // It may be the one that the database rolls back; that is the point.
        let held = hold(database, "DESC").ok();
        tokio::time::sleep(DEADLOCK_PAUSE).await;
        drop(held);
        tokio::time::sleep(DEADLOCK_PAUSE).await;
    }
    Ok(())
}

async fn disk_full(site: &Site, length: Duration) -> Result<()> {
    let disk = site.disk.as_ref().context("no disk of its own: mounting is not permitted here")?;
    let filler = disk.join("filler");
    fill(&filler)?;
    tokio::time::sleep(length).await;
    std::fs::remove_file(filler)?;
    // Without room to roll back, InnoDB ends the server; that may take it a moment.
    for _ in 0..DYING_LOOKS {
        if site.process(Part::Database).has_ended() {
            return revive(site, Part::Database).await;
        }
        tokio::time::sleep(DYING_PAUSE).await;
    }
    Ok(())
}

/// Writes until nothing more fits. The file is closed when this ends: its room is free once it is removed.
fn fill(filler: &Path) -> Result<()> {
    let mut file = File::create(filler)?;
    let block = vec![0_u8; 1 << 20];
    while file.write_all(&block).is_ok() {}
    Ok(())
}

/// Starts what has ended by itself, as the supervisor of a process does.
async fn revive(site: &Site, part: Part) -> Result<()> {
    site.end(part, true);
    start(site, part).await
}

/// Starts all parts that have ended by themselves, and says which.
pub(crate) async fn revive_all(site: &Site) -> Vec<Part> {
    let mut ended = Vec::new();
    for part in Part::all().filter(|part| site.process(*part).has_ended()) {
        // One that does not come back is missed by everybody who is not served.
        revive(site, part).await.ok();
        ended.push(part);
    }
    ended
}

/// Both sidecars are told the new prices before either is started again: a sidecar that starts brings the price book in
/// line with its own configuration.
async fn change_prices(site: &Site) -> Result<()> {
    site.change_prices()?;
    for part in (0..site.sidecars.len()).map(Part::Sidecar) {
        site.end(part, false);
        start(site, part).await?;
    }
    Ok(())
}
