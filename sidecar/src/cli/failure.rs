//! Why a command failed, in one line, and with which exit code.

use std::io;

use super::threads::ThreadsError;
use crate::app::{
    AccountsError, AnomaliesError, AuditError, CreditError, CreditLimitError, FreezeError,
    HoldersError, ImportError, NotReady, OrdersError, PricesError, QuotasError, RecallError,
    RefundError, ResolveError, TakeoverError, TokensError,
};
use crate::assembly::AssemblyError;
use crate::config::ConfigError;
use crate::envoy::InputError;
use crate::envoy::explain::ExplainError;
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
    #[error("the rows of account {0} cannot be read; a line above says which: repair them")]
    Unreadable(String),
    #[error(
        "there is no billing record, lease, reservation, order or refund \"{0}\"; `farebox account show` and `farebox orders list` tell ids"
    )]
    NothingToExplain(String),
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    #[error(transparent)]
    CreditLimit(#[from] CreditLimitError),
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
    Tokens(#[from] TokensError),
    #[error(transparent)]
    Anomalies(#[from] AnomaliesError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Holders(#[from] HoldersError),
    #[error(transparent)]
    Recall(#[from] RecallError),
    #[error(transparent)]
    Prices(#[from] PricesError),
    #[error(transparent)]
    Quotas(#[from] QuotasError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    #[error("violations: {count}; the first is {first}")]
    Violations { count: usize, first: String },
    #[error(transparent)]
    Envoy(#[from] InputError),
    #[error(transparent)]
    ExplainRoute(#[from] ExplainError),
    #[error("{file} has {errors}; each finding says where and what to do")]
    Findings { file: String, errors: String },
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
            Self::Config(_)
            | Self::Telemetry(_)
            | Self::Assembly(_)
            | Self::Envoy(_)
            | Self::ExplainRoute(_) => super::EXIT_USAGE,
            Self::Connect { .. } => EXIT_UNAVAILABLE,
            Self::Store(err) => of_store(err),
            Self::NotReady(err) => of_readiness(err),
            Self::Serve(err) => of_serve(err),
            Self::Credit(problem) => of_credit(problem),
            Self::Freeze(err) => of_freeze(err),
            Self::CreditLimit(err) => of_credit_limit(err),
            Self::Unknown { problem, .. } => of_store(problem),
            Self::Orders(err) => of_orders(err),
            Self::Accounts(err) => of_accounts(err),
            Self::Audit(err) => of_audit(err),
            Self::Refund(err) => of_refund(err),
            Self::Prices(err) => of_prices(err),
            Self::Import(err) => of_import(err),
            Self::Quotas(err) => of_quotas(err),
            Self::Tokens(err) => of_tokens(err),
            Self::Anomalies(err) => of_anomalies(err),
            Self::Resolve(err) => of_resolve(err),
            Self::Holders(HoldersError::Page(_)) => super::EXIT_USAGE,
            Self::Holders(HoldersError::Store(err)) => of_store(err),
            Self::Recall(err) => of_recall(err),
            Self::Takeover(TakeoverError::Store(err)) => of_store(err),
            Self::NoAccount(_)
            | Self::Takeover(_)
            | Self::Unreadable(_)
            | Self::NothingToExplain(_)
            | Self::Violations { .. }
            | Self::Findings { .. }
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
        NotReady::Pending { .. } | NotReady::Broken { .. } | NotReady::Unfinished { .. } => {
            EXIT_UNAVAILABLE
        }
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

fn of_freeze(err: &FreezeError) -> u8 {
    match err {
        FreezeError::Length(_) => super::EXIT_USAGE,
        FreezeError::NoAccount { .. } => EXIT_FAILURE,
        FreezeError::Store(err) => of_store(err),
    }
}

fn of_credit_limit(err: &CreditLimitError) -> u8 {
    match err {
        CreditLimitError::Length(_) | CreditLimitError::Negative { .. } => super::EXIT_USAGE,
        CreditLimitError::InUse { .. } => EXIT_FAILURE,
        CreditLimitError::Store(err) => of_store(err),
    }
}

fn of_orders(err: &OrdersError) -> u8 {
    match err {
        OrdersError::Page(_) => super::EXIT_USAGE,
        OrdersError::Unknown { .. } => EXIT_FAILURE,
        OrdersError::RedisAway { .. } => EXIT_UNAVAILABLE,
        OrdersError::Store(err) => of_store(err),
    }
}

fn of_accounts(err: &AccountsError) -> u8 {
    match err {
        AccountsError::Page(_) => super::EXIT_USAGE,
        AccountsError::Store(err) => of_store(err),
    }
}

fn of_audit(err: &AuditError) -> u8 {
    match err {
        AuditError::Page(_) | AuditError::Since { .. } => super::EXIT_USAGE,
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

fn of_quotas(err: &QuotasError) -> u8 {
    match err {
        QuotasError::Store(err) => of_store(err),
        QuotasError::NoAccount { .. } => EXIT_FAILURE,
        QuotasError::Unknown { .. } | QuotasError::Length(_) => super::EXIT_USAGE,
    }
}

fn of_tokens(err: &TokensError) -> u8 {
    match err {
        TokensError::Name { .. }
        | TokensError::Expires { .. }
        | TokensError::Length(_)
        | TokensError::Page(_) => super::EXIT_USAGE,
        TokensError::Taken { .. } | TokensError::Full | TokensError::Unknown { .. } => EXIT_FAILURE,
        TokensError::Store(err) => of_store(err),
    }
}

fn of_anomalies(err: &AnomaliesError) -> u8 {
    match err {
        AnomaliesError::Page(_) => super::EXIT_USAGE,
        AnomaliesError::Unknown { .. } => EXIT_FAILURE,
        AnomaliesError::Store(err) => of_store(err),
    }
}

fn of_resolve(err: &ResolveError) -> u8 {
    match err {
        ResolveError::Length(_) | ResolveError::Account { .. } => super::EXIT_USAGE,
        ResolveError::Unknown { .. }
        | ResolveError::Resolved { .. }
        | ResolveError::Action { .. }
        | ResolveError::Currency { .. }
        | ResolveError::Counted { .. } => EXIT_FAILURE,
        ResolveError::Credit(err) => of_credit(err),
        ResolveError::Store(err) => of_store(err),
    }
}

fn of_recall(err: &RecallError) -> u8 {
    match err {
        RecallError::Length(_) => super::EXIT_USAGE,
        RecallError::Unknown { .. } | RecallError::Ended { .. } => EXIT_FAILURE,
        RecallError::Store(err) => of_store(err),
    }
}

fn of_import(err: &ImportError) -> u8 {
    match err {
        ImportError::NoRedis => super::EXIT_USAGE,
        ImportError::Redis(_) => EXIT_UNAVAILABLE,
        ImportError::Store(err) => of_store(err),
    }
}
