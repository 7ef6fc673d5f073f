//! The `farebox` program; its parts are in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    farebox_sidecar::cli::run()
}
