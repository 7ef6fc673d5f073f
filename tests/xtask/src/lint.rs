//! Every check that needs no running part: formatting, clippy, house rules, licences, advisories.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{build, place, setup, shell, tidy};

/// A check: its name, why it is made, and how.
type Check = (&'static str, &'static str, fn() -> Result<()>);

/// Runs every check, also after one has failed.
pub(crate) fn run() -> Result<()> {
    setup::lint()?;
    let checks: [Check; 5] = [
        ("rustfmt", "one layout, so that differences are about content", format),
        ("clippy", "warnings are errors", clippy_native),
        ("clippy for wasm", "the code that only exists inside Envoy", clippy_wasm),
        ("tidy", "the house rules that a program can check", tidy_rules),
        ("cargo-deny", "licences, duplicate or forbidden crates, advisories", deny),
    ];
    let mut failed = Vec::new();
    for (name, why, check) in checks {
        shell::step(name, why);
        if let Err(err) = check() {
            shell::fail(&format!("{name}: {err:#}"));
            failed.push(name);
        }
    }
    if failed.is_empty() {
        shell::good("every check passed");
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

fn format() -> Result<()> {
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy_native() -> Result<()> {
    let mut cargo = shell::cargo();
    cargo.args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    shell::run(&mut cargo)
}

fn clippy_wasm() -> Result<()> {
    for features in ["", "farebox-filter/trap"] {
        let mut cargo = shell::cargo();
        cargo.args(["clippy", "--quiet", "--target", build::FILTER_TARGET]);
        cargo.args(["--package", "farebox-filter", "--package", "farebox-core"]);
        shell::run(cargo.args(["--features", features, "--", "-D", "warnings"]))?;
    }
    Ok(())
}

fn tidy_rules() -> Result<()> {
    let violations = tidy::violations(&place::repository())?;
    for violation in &violations {
        shell::fail(&violation.to_string());
    }
    match violations.len() {
        0 => Ok(()),
        count => bail!("{count} places break a house rule"),
    }
}

fn deny() -> Result<()> {
    let program = setup::cargo_deny()?;
    let check = |what: &[&str]| {
        let mut deny = Command::new(&program);
        deny.current_dir(place::repository());
        deny.args(["--log-level", "error", "check", "--hide-inclusion-graph"]);
        shell::run(deny.args(what))
    };
    check(&["licenses", "bans", "sources"])?;
    if advisories_are_here() {
        return check(&["--disable-fetch", "advisories"]);
    }
    shell::note(
        "advisories: not checked, their database is not on this machine (`cargo deny fetch`)",
    );
    Ok(())
}

fn advisories_are_here() -> bool {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let user = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let databases = home.or_else(user).map(|home| home.join("advisory-dbs"));
    let entries = databases.and_then(|folder| std::fs::read_dir(folder).ok());
    entries.is_some_and(|mut entries| entries.any(|entry| entry.is_ok_and(|e| e.path().is_dir())))
}
