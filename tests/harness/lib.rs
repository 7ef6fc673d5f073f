//! Farebox as processes: real Envoy, real MariaDB, real Redis, the real `farebox` binary, a payment service, and a small
//! upstream.
//!
//! ```no_run
//! use farebox_tests::{Plan, Stack, run};
//!
//! run(async {
//!     let stack = Stack::start(Plan::reference()).await.unwrap();
//!     stack.credit("ada", "0.010");
//!     let answer = stack.client().get("/v1/asset/items").user("ada").send().await;
//!     assert_eq!(answer.status, 200);
//!     stack.invariants();
//! });
//! ```
//!
//! A [`Stack`] owns everything that it starts: dropping it stops each process by its id and removes its directory. When
//! the test process dies without dropping it, the kernel ends the children and a janitor removes the directory.
//!
//! The programs are found by three environment variables, which `cargo xtask` sets: `FAREBOX_BIN`,
//! `FAREBOX_FILTER_WASM` and `FAREBOX_ENVOY`. Without them, the files stand where `cargo xtask` puts them. The payment
//! service stands beside `FAREBOX_BIN`, or where `FAREBOX_PAYMENT_SERVICE` says. `FAREBOX_FILTER_TRAP_WASM` is the filter
//! that a request can kill ([`binaries::trap_filter`]).

pub mod binaries;
pub mod child;
pub mod client;
pub mod collector;
pub mod cut;
pub mod database;
pub mod envoy;
pub mod galera;
pub mod link;
pub mod part;
pub mod payment;
pub mod port;
pub mod prometheus;
pub mod redis;
pub mod router;
pub mod scratch;
pub mod sidecar;
pub mod stack;
pub mod tls;
pub mod upstream;
pub mod wait;

use std::sync::LazyLock;

pub use client::{Answer, Client, Tally};
pub use collector::Collector;
pub use galera::Galera;
pub use payment::PaymentService;
pub use stack::{Account, Gateway, Plan, Stack};

/// Why a part of the stack did not start or answer.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// A file that `cargo xtask` builds or fetches is not there.
    #[error("{what} is missing at {path}: run `cargo xtask setup`, or set {variable}")]
    Missing {
        /// What the file is.
        what: &'static str,
        /// Where it was looked for.
        path: String,
        /// The environment variable that points elsewhere.
        variable: &'static str,
    },
    /// The system refused an operation on a file, a socket or a process.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A process ended, or did not become ready in time.
    #[error("{name} {problem}; the end of its log:\n{log}")]
    NotReady {
        /// Which part.
        name: String,
        /// What happened to it.
        problem: String,
        /// The last lines of its log.
        log: String,
    },
    /// A command line ended with an error.
    #[error("`{command}` ended with {status}:\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it printed, both streams.
        output: String,
    },
    /// A configuration template lacks a mark, or has it twice.
    #[error("the mark `{mark}` stands {count} times in {template}: it must stand once")]
    Mark {
        /// Which mark.
        mark: String,
        /// How often it was found.
        count: usize,
        /// The template.
        template: String,
    },
}

impl StackError {
    /// Adds what was tried to an error of the system.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// One runtime for all tests of a process, so that a stack may be shared between them.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Runtime::new().expect("a tokio runtime needs threads and a poll descriptor")
});

/// Runs `test` to its end on the runtime that all tests of this process share.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    RUNTIME.block_on(test)
}
