//! `cargo xtask`: everything that is done to this repository, by name. CI runs only these commands.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod build;
mod chaos;
mod envoy;
mod lint;
mod place;
mod setup;
mod shell;
mod tests;
mod tidy;

/// Installs, builds, shows, tests and checks Farebox.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct CommandLine {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what the other commands need and this machine lacks
    Setup,
    /// Build the filter and the sidecar
    Build,
    /// Live through the life of a prepaid account, with real calls through a real Envoy
    Demo,
    /// Leave the demo's stack running until Ctrl-C
    Up,
    /// Run every test; arguments go to `cargo test`
    Test {
        /// The Envoy to run on: 1.40.0, 1.38.2 or 1.36.4; default: the newest
        #[arg(long, value_name = "VERSION", value_parser = envoy::parse)]
        envoy: Option<&'static envoy::Release>,
        /// For instance `-p farebox-core`, or `-- invariants`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure what Farebox costs against what it replaces, side by side in one run
    Bench,
    /// Break everything at random under traffic, and judge whether the money is right
    Chaos {
        /// `--seed N --minutes M --json FILE`; `--help` lists all
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check formatting, clippy, the house rules, licences and advisories
    Lint,
}

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().task {
        Task::Setup => setup::everything(),
        Task::Build => {
            setup::stack().and_then(|()| build::filter()).and_then(|()| build::programs())
        }
        Task::Demo => show("demo"),
        Task::Up => show("up"),
        Task::Test { envoy, arguments } => {
            tests::run(envoy.unwrap_or_else(envoy::newest), &arguments)
        }
        Task::Bench => bench(),
        Task::Chaos { arguments } => chaos::campaign(&arguments),
        Task::Lint => lint::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            shell::fail(&format!("{err:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prepares the machine and the binaries, then becomes the program that shows them.
fn show(program: &str) -> anyhow::Result<()> {
    setup::stack()?;
    build::filter()?;
    build::programs()?;
    shell::replace_by(build::with_paths(std::process::Command::new(
        place::target().join("debug").join(program),
    )))
}

/// Prepares the machine and the benchmarks, then becomes them.
fn bench() -> anyhow::Result<()> {
    setup::stack()?;
    let program = build::bench()?;
    let mut command = build::with_paths(std::process::Command::new(program));
    command.env("FAREBOX_BIN", place::target().join("release/farebox"));
    shell::replace_by(command)
}

#[cfg(test)]
mod cli {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::CommandLine::command().debug_assert();
    }
}
