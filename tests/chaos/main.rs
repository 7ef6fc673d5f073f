//! `cargo xtask chaos`: breaks everything around Farebox at random, under traffic, and judges whether the money is right.
//!
//! | file | what it does |
//! |---|---|
//! | `plan.rs` | the faults, from a seed: pure |
//! | `site.rs`, `inflict.rs` | the parts with proxies between them; doing faults to them |
//! | `catalog.rs`, `traffic.rs`, `journal.rs` | what is sold, who calls, what they were told |
//! | `watch.rs`, `served.rs`, `drain.rs` | invariants meanwhile; who is served afterwards; coming to rest |
//! | `books.rs`, `passes.rs` | what the witnesses say: database and payment service, gateways |
//! | `judge.rs` | the model and the bounds: pure |
//! | `control.rs` | guards that are switched off to see the judge notice |
//!
//! `docs/chaos.md` says what is proved and how to read the report.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::Parser;

use crate::control::Control;
use crate::plan::{Fault, OnLost, Part, Plan, Trouble, What, Wire};
use crate::report::Report;

mod books;
mod campaign;
mod catalog;
mod control;
mod drain;
mod inflict;
mod journal;
mod judge;
mod passes;
mod plan;
mod report;
mod served;
mod site;
mod traffic;
mod watch;

/// Enough for the clients, and for what waits for processes.
const WORKERS: usize = 4;

/// Breaks everything around Farebox at random and proves that the money is still right.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos")]
struct Arguments {
    /// What the faults are drawn from; absent: the time, which is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults are done for: 0.1 to 1440; a part of a minute is allowed.
    #[arg(long, default_value_t = 2.0, value_parser = minutes)]
    minutes: f64,
    /// Write the report here as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print the plan of faults as JSON and end.
    #[arg(long)]
    plan: bool,
    /// A few seconds with this guard of `farebox-broken` off, which must end in the breach that it guards against.
    #[arg(long, value_enum)]
    control: Option<Control>,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes| (0.1..=1_440.0).contains(minutes));
    minutes.ok_or_else(|| "write a number of minutes from 0.1 to 1440".to_owned())
}

fn main() -> ExitCode {
    match own_mounts().and_then(|()| start(&Arguments::parse())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("chaos: {err:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts this program again with mounts of its own, where that is permitted: a disk that can be filled then goes away with
/// its last process, however that ends.
fn own_mounts() -> Result<()> {
    if std::env::var_os(site::OWN_MOUNTS).is_some() {
        return Ok(());
    }
    let mut allowed = Command::new("unshare");
    allowed.args(["--mount", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !allowed.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let mut again = Command::new("unshare");
    again.args(["--mount", "--propagation", "private", "--"]).arg(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1)).env(site::OWN_MOUNTS, "1");
    Err(again.exec()).context("cannot start again with mounts of its own")
}

/// Whether everything was as it must be.
fn start(arguments: &Arguments) -> Result<bool> {
    let seed = arguments.seed.unwrap_or_else(time);
    let plan = match arguments.control {
        Some(control) => small(seed, control),
        None => plan::plan(seed, (arguments.minutes * 60_000.0) as u64),
    };
    if arguments.plan {
        let text = serde_json::to_string_pretty(&plan)?;
        // Whoever reads only its head has read enough.
        writeln!(std::io::stdout(), "{text}").ok();
        return Ok(true);
    }
    let control = arguments.control.unwrap_or(Control::None);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let progress = |text: &str| eprintln!("chaos, seed {seed}: {text}");
    let report = runtime.block_on(async {
        tokio::select! {
            report = campaign::run(plan, control, &progress) => report,
            // The stack is dropped, and with it every process and file.
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        }
    })?;
    if let Some(file) = &arguments.json {
        fs::write(file, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    report.print();
    Ok(is_as_expected(&report, control))
}

/// With a guard off, a breach that it leads to must be there; otherwise none.
fn is_as_expected(report: &Report, control: Control) -> bool {
    let expected = control.expected();
    if expected.is_empty() {
        return report.breaches.is_empty();
    }
    let noticed = report.breaches.iter().find(|breach| expected.contains(&breach.kind));
    match noticed {
        Some(breach) => println!("{control:?} off: {:?} was noticed", breach.kind),
        None => println!("{control:?} off: {expected:?} WAS NOT NOTICED"),
    }
    noticed.is_some()
}

/// A plan for controls: repeats and crashes that each guard is there for, within seconds.
fn small(seed: u64, control: Control) -> Plan {
    let fault = |at_ms, what| Fault { at_ms, length_ms: 600, what };
    let crashes = vec![
        fault(1_500, What::Network(Wire::GatewaySidecar(0), Trouble::Reset)),
        fault(3_000, What::Kill(Part::Sidecar(1))),
        fault(5_500, What::Network(Wire::SidecarDatabase(0), Trouble::Cut(4_000))),
    ];
    // Calls are allowed without a lease again and again, by one line each.
    let cut = |at_ms, gateway| {
        let what = What::Network(Wire::GatewaySidecar(gateway), Trouble::Reset);
        Fault { at_ms, length_ms: 1_000, what }
    };
    let outages =
        || [1_500, 3_500, 5_500].into_iter().flat_map(|at_ms| [cut(at_ms, 1), cut(at_ms, 2)]);
    let round = if control == Control::Lines { outages().collect() } else { crashes };
    Plan { seed, on_lost: OnLost::Reported, rounds: vec![round] }
}

fn time() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

#[cfg(test)]
mod cli {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
