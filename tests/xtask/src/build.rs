//! Building what ships: the filter for WebAssembly, the sidecar for this machine.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{envoy, place, shell};

/// The target that Envoy loads.
pub(crate) const FILTER_TARGET: &str = "wasm32-wasip1";

/// What is built together for one purpose is built with the same features, once.
const PROGRAMS: [&str; 6] =
    ["--package", "farebox-sidecar", "--package", "farebox-tests", "--package", "farebox-chaos"];

/// The compiled filter.
fn filter_file() -> PathBuf {
    place::target().join(FILTER_TARGET).join("wasm/farebox_filter.wasm")
}

/// The folder of the filter that tests can kill: it must never take the place of what ships.
fn trap_folder() -> PathBuf {
    place::target().join("trap")
}

/// The filter that tests can kill.
fn trap_filter_file() -> PathBuf {
    trap_folder().join(FILTER_TARGET).join("wasm/farebox_filter.wasm")
}

/// The compiled sidecar.
fn sidecar_file() -> PathBuf {
    place::target().join("debug/farebox")
}

/// Builds the filter with the profile that it ships with.
pub(crate) fn filter() -> Result<()> {
    shell::step("build the filter", "what Envoy loads, optimised as it ships");
    shell::run(&mut filter_build())?;
    let bytes = std::fs::metadata(filter_file()).map_or(0, |file| file.len());
    shell::note(&format!("{} KiB", bytes.div_ceil(1_024)));
    Ok(())
}

/// Builds the filter whose VMs die when a request says so, for tests of what they leave behind.
pub(crate) fn trap_filter() -> Result<()> {
    shell::step("build the filter that can be killed", "the same code, with the feature `trap`");
    let mut cargo = filter_build();
    cargo.args(["--features", "trap", "--target-dir"]).arg(trap_folder());
    shell::run(&mut cargo)
}

fn filter_build() -> Command {
    let mut cargo = shell::cargo();
    cargo.args(["build", "--profile", "wasm", "--target", FILTER_TARGET]);
    cargo.args(["--package", "farebox-filter"]);
    cargo
}

/// Builds the sidecar, and with it the programs that show it: one command, because cargo would compile what the two share
/// twice, with different features, if it were asked twice.
pub(crate) fn programs() -> Result<()> {
    shell::step("build the sidecar", "the service and its command line, and what starts all parts");
    let mut cargo = shell::cargo();
    cargo.arg("build").args(PROGRAMS).arg("--bins");
    shell::run(&mut cargo)
}

/// Builds the campaign and what it runs, with the crates that the tests of the whole workspace have compiled.
pub(crate) fn campaign() -> Result<()> {
    shell::step("build the campaign", "what breaks everything, and what is broken");
    shell::run(shell::cargo().args(["build", "--workspace", "--bins"]))
}

/// Builds the sidecar whose guards can be switched off, beside the one that ships; both share all other crates.
pub(crate) fn broken() -> Result<PathBuf> {
    shell::step("build farebox-broken", "guards can be switched off in it: campaigns must notice");
    let mut cargo = shell::cargo();
    cargo.args(["build", "--workspace", "--bin", "farebox-broken"]);
    shell::run(cargo.args(["--features", "farebox-sidecar/negative-controls"]))?;
    Ok(place::target().join("debug/farebox-broken"))
}

/// Tells a program where the parts are that it starts.
pub(crate) fn with_paths(mut command: Command) -> Command {
    command
        .env("FAREBOX_FILTER_WASM", filter_file())
        .env("FAREBOX_FILTER_TRAP_WASM", trap_filter_file())
        .env("FAREBOX_BIN", sidecar_file())
        .env("FAREBOX_ENVOY", envoy::newest().binary());
    command
}

/// Builds what measures, as optimised as what ships; the program.
pub(crate) fn bench() -> Result<PathBuf> {
    shell::step("build the benchmarks", "optimised, as what they measure is");
    let mut cargo = shell::cargo();
    cargo.args([
        "build",
        "--release",
        "--package",
        "farebox-bench",
        "--package",
        "farebox-sidecar",
    ]);
    shell::run(&mut cargo)?;
    Ok(place::target().join("release/bench"))
}
