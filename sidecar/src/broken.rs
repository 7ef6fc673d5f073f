//! The `farebox` program with guards that can be switched off: for negative controls, never to be installed.

use std::process::ExitCode;

fn main() -> ExitCode {
    farebox_sidecar::cli::run()
}
