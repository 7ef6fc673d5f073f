//! Running other programs, and saying what happens.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::place;

/// How often a long silent step says that it is still at work.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Announces a step: what is done, and why.
pub(crate) fn step(what: &str, why: &str) {
    say(&format!("{} {what} {}", paint("1;36", "▸"), paint("2", &format!("— {why}"))));
}

/// Reports something worth knowing that is no step.
pub(crate) fn note(text: &str) {
    say(&format!("  {}", paint("2", text)));
}

/// Reports that something is as it should be.
pub(crate) fn good(text: &str) {
    say(&format!("{} {text}", paint("32", "✓")));
}

/// Reports what went wrong.
pub(crate) fn fail(text: &str) {
    say(&format!("{} {text}", paint("31", "✗")));
}

fn say(line: &str) {
    // A reader that went away is no reason to stop.
    writeln!(io::stderr().lock(), "{line}").ok();
}

fn paint(color: &str, text: &str) -> String {
    let plain = env::var_os("NO_COLOR").is_some() || !io::stderr().is_terminal();
    if plain { text.to_owned() } else { format!("\x1b[{color}m{text}\x1b[0m") }
}

/// The cargo that started this program, in the repository's root.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(place::repository());
    // What cargo told this program about its package would have build scripts that look at it run again (ring's does), and
    // half of the dependencies with them, each time that cargo is used by hand in between.
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)) {
        cargo.env_remove(name);
    }
    cargo
}

/// Runs a program to its end with its output shown; an exit code other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if status.success() { Ok(()) } else { bail!("`{line}` ended with {status}") }
}

/// Runs a program that says nothing for long: shows that it is still at work, and what it printed if it fails.
pub(crate) fn run_quietly(what: &str, command: &mut Command) -> Result<()> {
    let line = line(command);
    let started = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.with_context(|| format!("cannot start `{line}`"))?;
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()).ok());
    let output = loop {
        match ended.recv_timeout(HEARTBEAT) {
            Ok(output) => break output.with_context(|| format!("cannot wait for `{line}`"))?,
            Err(RecvTimeoutError::Timeout) => {
                note(&format!("… {what}, {} s so far", started.elapsed().as_secs()));
            }
            Err(RecvTimeoutError::Disconnected) => bail!("nobody waits for `{line}` any more"),
        }
    };
    if output.status.success() { Ok(()) } else { bail!(failure(&line, &output)) }
}

/// Runs a program and gives what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command.output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!(failure(&line, &output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn failure(line: &str, output: &Output) -> String {
    let printed = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let printed = String::from_utf8_lossy(&printed);
    format!("`{line}` ended with {}:\n{}", output.status, printed.trim_end())
}

/// Becomes another program, so that Ctrl-C reaches it alone.
pub(crate) fn replace_by(mut command: Command) -> Result<()> {
    let line = line(&command);
    Err(command.exec()).with_context(|| format!("cannot start `{line}`"))
}

/// The command line for people: without quotes where none are needed.
fn line(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<String> = words
        .map(|word| {
            let word = word.to_string_lossy();
            if word.contains(' ') { format!("'{word}'") } else { word.into_owned() }
        })
        .collect();
    words.join(" ")
}
