//! The demo: the life of a prepaid account, lived with real HTTP calls through a real Envoy.
//!
//! It exits with 0 only when everything was as told. `cargo xtask demo` builds what it needs and starts it.

use std::process::ExitCode;

use farebox_tests::run;

mod calls;
mod recharge;
mod screen;
mod story;

fn main() -> ExitCode {
    run(async {
        tokio::select! {
            outcome = story::tell() => match outcome {
                Ok(0) => ExitCode::SUCCESS,
                Ok(_) => ExitCode::FAILURE,
                Err(err) => {
                    eprintln!("farebox demo: {err:#}");
                    ExitCode::FAILURE
                }
            },
            // The story is dropped, and with it every process and file.
            _ = tokio::signal::ctrl_c() => ExitCode::from(130),
        }
    })
}
