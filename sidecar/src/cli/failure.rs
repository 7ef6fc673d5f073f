//! Why a command failed, in one line, and with which exit code.

use std::io;

use super::threads::ThreadsError;
use crate::app::{
    AccountsError, AuditError, CreditError, ImportError, NotReady, OrdersError, PricesError,
    RefundError,
};
use crate::assembly::AssemblyError;
use crate::config::ConfigError;
use crate::server::ServeError;
use crate::store::StoreError;
use crate::telemetry::TelemetryError;

const EXIT_FAILURE: u8 = 1;
const EXIT_UNAVAILABLE: u8 = 69;

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(
        "data.database.source is \"{database}\": {problem}; start the database or correct the source"
    )]
    Connect { database: String, problem: StoreError },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    NotReady(#[from] NotReady),
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("there is no account {0}; it begins with its first call or credit")]
    NoAccount(String),
    #[error(
        "there is no billing record, lease, reservation, order or refund \"{0}\"; `farebox account show` and `farebox orders list` tell ids"
    )]
    NothingToExplain(String),
    #[error(transparent)]
    Credit(CreditError),
    /// Nobody knows whether it was made; asking again under its key tells.
    #[error("{problem}; run it again with --key {key}, it is made once")]
    Unknown { key: String, problem: StoreError },
    #[error(transparent)]
    Orders(#[from] OrdersError),
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Refund(RefundError),
    #[error(transparent)]
    Prices(#[from] PricesError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("violations: {count}; the first is {first}")]
    Violations { count: usize, first: String },
    #[error("the result cannot be written: {0}")]
    Output(io::Error),
    #[error(transparent)]
    Threads(#[from] ThreadsError),
}

impl Failure {
    /// The message in one line: drivers may break theirs.
    pub(super) fn line(&self) -> String {
        self.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Telemetry(_) | Self::Assembly(_) => super::EXIT_USAGE,
            Self::Connect { .. } => EXIT_UNAVAILABLE,
            Self::Store(err) => of_store(err),
            Self::NotReady(err) => of_readiness(err),
            Self::Serve(err) => of_serve(err),
            Self::Credit(problem) => of_credit(problem),
            Self::Unknown { problem, .. } => of_store(problem),
            Self::Orders(err) => of_orders(err),
            Self::Accounts(err) => of_accounts(err),
            Self::Audit(err) => of_audit(err),
            Self::Refund(err) => of_refund(err),
            Self::Prices(err) => of_prices(err),
            Self::Import(err) => of_import(err),
            Self::NoAccount(_)
            | Self::NothingToExplain(_)
            | Self::Violations { .. }
            | Self::Output(_)
            | Self::Threads(_) => EXIT_FAILURE,
        }
    }
}

fn of_store(err: &StoreError) -> u8 {
    if err.is_outage() { EXIT_UNAVAILABLE } else { EXIT_FAILURE }
}

fn of_readiness(err: &NotReady) -> u8 {
    match err {
        NotReady::Store(err) => of_store(err),
        NotReady::Pending { .. } | NotReady::Broken { .. } => EXIT_UNAVAILABLE,
    }
}

fn of_serve(err: &ServeError) -> u8 {
    match err {
        ServeError::Config(_)
        | ServeError::Assembly(_)
        | ServeError::CallbackKey(_)
        | ServeError::Events(_) => super::EXIT_USAGE,
        ServeError::Store(err) => of_store(err),
        ServeError::NotReady(err) => of_readiness(err),
        ServeError::Listen(_)
        | ServeError::ReadyFile { .. }
        | ServeError::Signals(_)
        | ServeError::Metrics(_) => EXIT_FAILURE,
    }
}

fn of_credit(err: &CreditError) -> u8 {
    match err {
        CreditError::Zero | CreditError::Length(_) => super::EXIT_USAGE,
        CreditError::Store(err) => of_store(err),
        CreditError::Conflict { .. }
        | CreditError::Insufficient { .. }
        | CreditError::OutOfRange { .. } => EXIT_FAILURE,
    }
}

fn of_orders(err: &OrdersError) -> u8 {
    match err {
        OrdersError::Limit { .. } | OrdersError::Cursor => super::EXIT_USAGE,
        OrdersError::Unknown { .. } => EXIT_FAILURE,
        OrdersError::RedisAway { .. } => EXIT_UNAVAILABLE,
        OrdersError::Store(err) => of_store(err),
    }
}

fn of_accounts(err: &AccountsError) -> u8 {
    match err {
        AccountsError::Limit { .. } | AccountsError::Cursor => super::EXIT_USAGE,
        AccountsError::Store(err) => of_store(err),
    }
}

fn of_audit(err: &AuditError) -> u8 {
    match err {
        AuditError::Limit { .. } | AuditError::Cursor | AuditError::Since { .. } => {
            super::EXIT_USAGE
        }
        AuditError::Store(err) => of_store(err),
    }
}

fn of_refund(err: &RefundError) -> u8 {
    match err {
        RefundError::Length(_) | RefundError::Amount(_) => super::EXIT_USAGE,
        RefundError::Store(err) => of_store(err),
        RefundError::NotConfigured
        | RefundError::UnknownOrder { .. }
        | RefundError::NoPayment { .. }
        | RefundError::Refusal(_)
        | RefundError::Conflict { .. } => EXIT_FAILURE,
    }
}

fn of_prices(err: &PricesError) -> u8 {
    match err {
        PricesError::Store(err) => of_store(err),
        PricesError::Empty
        | PricesError::Unknown { .. }
        | PricesError::Negative { .. }
        | PricesError::Past { .. }
        | PricesError::Length(_) => super::EXIT_USAGE,
    }
}

fn of_import(err: &ImportError) -> u8 {
    match err {
        ImportError::NoRedis => super::EXIT_USAGE,
        ImportError::Redis(_) => EXIT_UNAVAILABLE,
        ImportError::Store(err) => of_store(err),
    }
}
