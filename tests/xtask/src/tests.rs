//! Running every test there is, and summing up.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::envoy::Release;
use crate::{build, chaos, setup, shell};

/// The target of the tests that run in Node: the processor that the filter ships for, without a system.
const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// One group of tests.
struct Outcome {
    name: &'static str,
    took: Duration,
    result: Result<()>,
}

/// Prepares the machine, builds what ships and runs the tests on this Envoy; `arguments` narrow the native ones.
pub(crate) fn run(envoy: &Release, arguments: &[String]) -> Result<()> {
    setup::stack()?;
    envoy.fetch()?;
    setup::tests()?;
    build::filter()?;
    build::trap_filter()?;
    let mut outcomes =
        vec![timed("native: core, filter, sidecar, harness, Envoy", || native(envoy, arguments))];
    if arguments.is_empty() {
        outcomes.push(timed("wasm32: core and filter in Node", wasm));
        outcomes.push(timed(
            "chaos: a short campaign, and guards off that must be noticed",
            chaos::short,
        ));
    }
    sum_up(&outcomes)
}

fn timed(name: &'static str, tests: impl FnOnce() -> Result<()>) -> Outcome {
    let started = Instant::now();
    let result = tests();
    Outcome { name, took: started.elapsed(), result }
}

fn native(envoy: &Release, arguments: &[String]) -> Result<()> {
    let names_package = |argument: &String| argument == "-p" || argument.starts_with("--package");
    let mut cargo = build::with_paths(shell::cargo());
    cargo.env("FAREBOX_ENVOY", envoy.binary()).args(["test", "--no-fail-fast"]);
    if arguments.iter().any(names_package) {
        // Tests of the whole workspace build the sidecar by themselves.
        build::programs()?;
    } else {
        cargo.arg("--workspace");
    }
    shell::step("cargo test", "pure rules, tables, compiled filter, real Envoy");
    shell::run(cargo.args(arguments))
}

fn wasm() -> Result<()> {
    shell::step(
        &format!("cargo test --target {WASM_TARGET}"),
        "the arithmetic that ships is the arithmetic that is tested",
    );
    let runner = setup::wasm_runner()?;
    let mut cargo: Command = shell::cargo();
    cargo
        .args(["test", "--no-fail-fast", "--target", WASM_TARGET, "--lib"])
        .args(["--package", "farebox-core", "--package", "farebox-filter"])
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner);
    shell::run(&mut cargo)
}

fn sum_up(outcomes: &[Outcome]) -> Result<()> {
    for Outcome { name, took, result } in outcomes {
        let seconds = took.as_secs();
        match result {
            Ok(()) => shell::good(&format!("{name} ({seconds} s)")),
            Err(err) => shell::fail(&format!("{name} ({seconds} s): {err:#}")),
        }
    }
    let failed = outcomes.iter().filter(|outcome| outcome.result.is_err()).count();
    if failed == 0 { Ok(()) } else { bail!("{failed} of {} groups failed", outcomes.len()) }
}
