//! Campaigns of faults, and the negative controls that prove that a campaign can fail.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{build, place, setup, shell};

/// The campaign of `cargo xtask test`: the same faults each time, so that a failure is the change's.
const SHORT: [&str; 4] = ["--seed", "5", "--minutes", "0.9"];

/// What is switched off in `farebox-broken`; with nothing off it must pass like `farebox` itself.
const CONTROLS: [&str; 8] =
    ["none", "totals", "lines", "keys", "holds", "charges", "orders", "credits"];

/// Prepares the machine and the binaries, then becomes the campaign.
pub(crate) fn campaign(arguments: &[String]) -> Result<()> {
    setup::stack()?;
    setup::tests()?;
    build::filter()?;
    build::programs()?;
    let mut campaign = program();
    campaign.args(arguments);
    shell::replace_by(campaign)
}

/// A short campaign, then the controls; one after the other, because faults are hard enough on a machine of two cores.
pub(crate) fn short() -> Result<()> {
    build::campaign()?;
    let broken = build::broken()?;
    shell::step("chaos", "a campaign of faults; then guards are switched off and must be missed");
    let mut missed = Vec::new();
    if let Err(err) = run("campaign", program().args(SHORT)) {
        missed.push(format!("{err:#}"));
    }
    for guard in CONTROLS {
        let mut control = program();
        control.env("FAREBOX_BIN", &broken).args(["--seed", "1", "--control", guard]);
        if let Err(err) = run(guard, &mut control) {
            missed.push(format!("{err:#}"));
        }
    }
    if missed.is_empty() { Ok(()) } else { bail!(missed.join("\n")) }
}

fn program() -> Command {
    build::with_paths(Command::new(place::target().join("debug/chaos")))
}

/// Runs a campaign to its end, reading all along; what it prints is shown only if it fails.
fn run(name: &str, command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output
        .with_context(|| format!("cannot run {name}: {:?}", Path::new(command.get_program())))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        shell::good(&format!("chaos {name}: {}", printed.lines().last().unwrap_or_default()));
        return Ok(());
    }
    bail!("chaos {name} ended with {}:\n{printed}", output.status)
}
