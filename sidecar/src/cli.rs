//! The command line: one verb per thing an operator does.
//!
//! Exit codes follow sysexits: 0 done, 64 the command line or the configuration is wrong, 69 the database is away or not
//! migrated, 1 anything else, a violated invariant included.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use self::failure::Failure;
use crate::app::App;
use crate::assembly::assemble;
use crate::config::{Config, Environment, Log, LogLevel};
use crate::store::Store;
use crate::{server, telemetry};

mod account;
mod anomalies;
mod audit;
mod check_config;
mod errors;
mod explain;
mod explain_route;
mod failure;
mod gateways;
mod invariants;
mod lint;
mod migrate;
mod orders;
mod prices;
mod quotas;
mod table;
mod threads;
mod token;
mod warm;

const EXIT_USAGE: u8 = 64;

/// Prepaid metering for Envoy: the sidecar and its operator's tool.
#[derive(Debug, Parser)]
#[command(name = "farebox", version, arg_required_else_help = true)]
struct CommandLine {
    /// The configuration.
    #[arg(
        long,
        global = true,
        env = "FAREBOX_CONFIG",
        value_name = "PATH",
        default_value = "farebox.yaml"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar until SIGTERM or SIGINT.
    Serve {
        /// Write the bound addresses into this file, as JSON, once everything is ready.
        #[arg(long, value_name = "PATH")]
        ready_file: Option<PathBuf>,
    },
    /// Bring the database's schema up to this program's, or take over the tables of billing-service.
    Migrate(migrate::MigrateArgs),
    /// Check the configuration and say what holds, without touching the database.
    CheckConfig,
    /// Look at accounts and change their balance.
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Tell what operators did, newest first: who, what, to what, why, before and after.
    Audit(audit::AuditArgs),
    /// Look at recharge orders and give money back.
    #[command(subcommand)]
    Orders(orders::OrdersCommand),
    /// Look at prices and change them.
    #[command(subcommand)]
    Prices(prices::PricesCommand),
    /// Have this month's free quotas follow the configuration.
    #[command(subcommand)]
    Quotas(quotas::QuotasCommand),
    /// Have the database read what first calls will ask for, after it was started or switched over; changes nothing.
    Warm(warm::WarmArgs),
    /// Look at payments that did not fit their orders, and decide about them.
    #[command(subcommand)]
    Anomalies(anomalies::AnomaliesCommand),
    /// Tell which gateways are alive and what each holds, a page at a time.
    Gateways(gateways::GatewaysArgs),
    /// Tell who holds what: open leases, the newest first, a page at a time.
    Leases(gateways::LeasesArgs),
    /// Make, list and revoke operators' tokens.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Tell why something stands in the books: its lease or request, message, price, ledger entries, refunds.
    Explain {
        /// The id of a billing record, a lease, a reservation, an order or a refund; `account show` lists those of a user.
        id: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Tell which rule, service, price and identity a call gets, from the configuration of an Envoy.
    ExplainRoute(explain_route::ExplainRouteArgs),
    /// Find what is wrong in the configuration of an Envoy; exit code 1 with an error.
    Lint(lint::LintArgs),
    /// Tell what an error number means and how to go on.
    Errors(errors::ErrorsCommand),
    /// Check all of the books; exit code 1 when a rule is broken.
    Invariants(OutputArgs),
}

/// How results are written.
#[derive(Debug, Clone, Copy, Args)]
struct OutputArgs {
    /// Write JSON instead of tables.
    #[arg(long)]
    json: bool,
}

/// Runs the program: the whole of `main`.
pub fn run() -> ExitCode {
    let command_line = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(err) => return refuse(&err),
    };
    match execute(command_line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("farebox: {}", failure.line());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Help and version are answers and end well; everything else is a mistake on the command line.
fn refuse(err: &clap::Error) -> ExitCode {
    // Nobody is left to be told when the terminal is gone.
    let _ = err.print();
    match err.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_USAGE),
    }
}

fn execute(CommandLine { config: path, command }: CommandLine) -> Result<(), Failure> {
    let command = match command {
        // Whoever asks these may have no configuration.
        Command::Errors(command) => return errors::execute(&command),
        Command::Lint(args) => return lint::execute(&args, &path),
        Command::ExplainRoute(args) => return explain_route::execute(&args, &path),
        command => command,
    };
    let config = Config::load(&path, &Environment::of_process())?;
    let Log { level, format } = config.log;
    // What a person asked for is the output; only trouble is logged beside it. That statements over whole tables take long
    // is none.
    let level = match command {
        Command::Serve { .. } => level,
        Command::Migrate(_) => LogLevel::Error,
        _ => LogLevel::Warn,
    };
    let tracing = config.tracing.as_ref().filter(|_| matches!(command, Command::Serve { .. }));
    let runtime = threads::start()?;
    let telemetry = {
        let _on_it = runtime.enter();
        telemetry::start(&Log { level, format }, tracing)?
    };
    let output = runtime.block_on(execute_command(&path, &config, command));
    telemetry.finish();
    // What a request left behind is bounded by the shutdown before; nothing else may keep the process.
    runtime.shutdown_background();
    output
}

async fn execute_command(
    path: &std::path::Path,
    config: &Config,
    command: Command,
) -> Result<(), Failure> {
    match command {
        Command::Serve { ready_file } => {
            for warning in &config.warnings {
                tracing::warn!(config.key = warning.key, "{warning}");
            }
            // Before the database is asked for anything: a mistake in the configuration shows at once.
            config.require_gateway_tokens()?;
            config.require_callback_secrets()?;
            config.require_signed_events()?;
            serve(config, ready_file).await
        }
        Command::Migrate(args) => {
            with_store(config, async |store| migrate::execute(&args, config, store).await).await
        }
        Command::CheckConfig => print(&check_config::report(path, config)?),
        Command::Account(command) => {
            with_app(config, async |app| account::execute(command, app).await).await
        }
        Command::Audit(args) => with_app(config, async |app| audit::execute(args, app).await).await,
        Command::Orders(command) => {
            with_app(config, async |app| orders::execute(command, app).await).await
        }
        Command::Prices(command) => {
            with_app(config, async |app| prices::execute(command, app).await).await
        }
        Command::Quotas(command) => {
            with_app(config, async |app| quotas::execute(command, app).await).await
        }
        Command::Warm(args) => with_app(config, async |app| warm::execute(args, app).await).await,
        Command::Anomalies(command) => {
            with_app(config, async |app| anomalies::execute(command, app).await).await
        }
        Command::Gateways(args) => {
            with_app(config, async |app| gateways::gateways(args, app).await).await
        }
        Command::Leases(args) => {
            with_app(config, async |app| gateways::leases(args, app).await).await
        }
        Command::Token(command) => {
            with_app(config, async |app| token::execute(command, app).await).await
        }
        Command::Errors(command) => errors::execute(&command),
        Command::Lint(args) => lint::execute(&args, path),
        Command::ExplainRoute(args) => explain_route::execute(&args, path),
        Command::Explain { id, output } => {
            with_app(config, async |app| explain::execute(&id, output, app).await).await
        }
        Command::Invariants(output) => {
            with_app(config, async |app| invariants::execute(output, app).await).await
        }
    }
}

async fn connect(config: &Config) -> Result<Store, Failure> {
    let database = &config.database;
    Store::connect(database.source.options(), database.max_connections)
        .await
        .map_err(|problem| Failure::Connect { database: database.source.to_string(), problem })
}

/// The server closes the store when it ends; when it does not begin, the store is closed here.
async fn serve(config: &Config, ready_file: Option<PathBuf>) -> Result<(), Failure> {
    let store = connect(config).await?;
    let outcome = server::serve(config, store.clone(), ready_file).await;
    if outcome.is_err() {
        store.close().await;
    }
    Ok(outcome?)
}

/// Works on the database and takes leave of it: servers log connections that end without a word.
async fn with_store(
    config: &Config,
    work: impl AsyncFnOnce(&Store) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let store = connect(config).await?;
    let outcome = work(&store).await;
    store.close().await;
    outcome
}

/// Works with the use cases, on a database that has this program's schema.
async fn with_app(
    config: &Config,
    work: impl AsyncFnOnce(&App) -> Result<(), Failure>,
) -> Result<(), Failure> {
    with_store(config, async |store| {
        let (app, _) = assemble(config, store.clone())?;
        app.ready().await?;
        work(&app).await
    })
    .await
}

/// Writes a result. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(err)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|err| Failure::Output(err.into()))?;
    print(&format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_negative_amount_is_an_amount_and_no_option() {
        let words = ["farebox", "account", "credit", "u1", "-0.5", "--reason", "refund"];
        let parsed = CommandLine::try_parse_from(words).unwrap();
        assert!(format!("{parsed:?}").contains("Nanos(-500000000)"), "{parsed:?}");
    }
}
