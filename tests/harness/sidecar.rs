//! The `farebox` binary: the service and its command line.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use farebox_core::assertion::{self, AUDIENCE, Claims, Key, LIFETIME_S};
use rustix::process::Signal;

use crate::child::{Child, Recipe, inherited};
use crate::client::Client;
use crate::database::output;
use crate::payment::CALLBACK_SECRET;
use crate::tls::TlsFiles;
use crate::{StackError, binaries};

/// What gateways of this stack show to the sidecar.
pub const TOKEN: &str = "harness-gateway-token";

/// What operators of this stack show to the sidecar.
pub const ADMIN_TOKEN: &str = "harness-admin-token";

/// The header that a gateway of this stack says by that this user calls, for callers of the sidecar itself.
pub fn identity(user: &str) -> (&'static str, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let claims = Claims {
        iss: "harness".to_owned(),
        aud: AUDIENCE.to_owned(),
        sub: user.parse().unwrap_or_else(|err| panic!("{user:?}: {err}")),
        iat: now,
        exp: now + LIFETIME_S,
    };
    (assertion::HEADER, assertion::sign(&Key::derive(TOKEN), &claims))
}

/// Addresses of the three listeners.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Users and payment callbacks.
    pub http: SocketAddr,
    /// Gateways.
    pub internal: SocketAddr,
    /// Operators.
    pub admin: SocketAddr,
}

/// A running sidecar and the configuration it was started with.
#[derive(Debug)]
pub struct Sidecar {
    child: Child,
    program: PathBuf,
    config: PathBuf,
    ready_file: PathBuf,
    addresses: Addresses,
    callback_secrets: String,
}

/// What the sidecar is told about its neighbours and its prices.
#[derive(Debug)]
pub struct Settings<'a> {
    /// Where it listens.
    pub addresses: Addresses,
    /// The database, as the predecessor wrote it.
    pub database: String,
    /// Where Redis is.
    pub redis: SocketAddr,
    /// Money per unit, by service.
    pub prices: &'a [(&'a str, &'a str)],
    /// Free units per month, by service.
    pub free_quotas: &'a [(&'a str, u64)],
    /// How long a lease stands without a renewal.
    pub lease_ttl: &'a str,
    /// Who bears what a killed gateway had not reported: `reported` or `granted`.
    pub on_lost: &'a str,
    /// Of all balances.
    pub currency: &'a str,
    /// The payment service, if there is one.
    pub payment: Option<Payment<'a>>,
    /// What callbacks are signed with, separated by commas.
    pub callback_secrets: &'a str,
    /// What its own clock says; none: the time.
    pub clock: Option<Clock<'a>>,
    /// Further variables of its environment.
    pub variables: &'a [(&'a str, &'a str)],
}

/// What the sidecar is told about the payment service.
#[derive(Debug)]
pub struct Payment<'a> {
    /// Where it answers gRPC.
    pub grpc: SocketAddr,
    /// Where it is to call back; none: at the sidecar itself.
    pub notify: Option<SocketAddr>,
    /// How long one call may take.
    pub timeout: &'a str,
    /// What protects the calls.
    pub tls: Option<&'a TlsFiles>,
}

/// A clock on the wall that is wrong. The one that measures durations is right.
#[derive(Debug, Clone, Copy)]
pub enum Clock<'a> {
    /// What it says when the process starts: `@2037-05-31 15:59:29`, in UTC.
    Starts(&'a str),
    /// How far it is off, as this file says whenever it is looked at: `+3600`, in seconds.
    Follows(&'a Path),
}

impl Settings<'_> {
    /// Writes `farebox.yaml`.
    pub fn write(&self, path: &Path) -> Result<(), StackError> {
        fs::write(path, self.to_yaml()).map_err(StackError::system(format!("write {path:?}")))
    }

    /// The text of `farebox.yaml`.
    fn to_yaml(&self) -> String {
        let Self { addresses, database, redis, prices, free_quotas, currency, .. } = self;
        let Self { lease_ttl, on_lost, .. } = self;
        let prices: Vec<String> =
            prices.iter().map(|(service, price)| format!("{service}: {price}")).collect();
        let quotas: Vec<String> =
            free_quotas.iter().map(|(service, units)| format!("{service}: {units}")).collect();
        format!(
            "server:
  http: {{ addr: \"{}\" }}
  internal: {{ addr: \"{}\" }}
  admin: {{ addr: \"{}\" }}
data:
  database: {{ driver: mysql, source: \"{database}\" }}
  redis: {{ addr: \"{redis}\" }}
billing:
  currency: {currency}
  time_zone: Asia/Shanghai
  prices: {{ {} }}
  free_quotas: {{ {} }}
leases: {{ ttl: {lease_ttl}, on_lost: {on_lost} }}
{}",
            addresses.http,
            addresses.internal,
            addresses.admin,
            prices.join(", "),
            quotas.join(", "),
            self.payment_block(),
        )
    }

    /// The payment service; callbacks come to this sidecar itself.
    fn payment_block(&self) -> String {
        let Some(Payment { grpc, notify, timeout, tls }) = &self.payment else {
            return String::new();
        };
        let tls = tls.map(TlsFiles::client_yaml).unwrap_or_default();
        format!(
            "payment_service:
  grpc_addr: \"{grpc}\"
  timeout: {timeout}
  notify_url: \"http://{}/internal/v1/billing/callback\"
{tls}",
            notify.unwrap_or(self.addresses.http)
        )
    }
}

impl Sidecar {
    /// Applies the migrations, then starts the service.
    pub async fn start(
        folder: &Path,
        name: &str,
        settings: &Settings<'_>,
    ) -> Result<Self, StackError> {
        let program = binaries::farebox()?;
        let config = folder.join(format!("{name}.yaml"));
        let ready_file = folder.join(format!("{name}.ready"));
        settings.write(&config)?;
        let callback_secrets = settings.callback_secrets.to_owned();
        farebox(&program, &config, &callback_secrets, &["migrate"])?;

        let recipe = Recipe::new(name, &program, folder)
            .args(["--config".as_ref(), config.as_os_str(), "serve".as_ref()])
            .args(["--ready-file".as_ref(), ready_file.as_os_str()])
            .env("FAREBOX_GATEWAY_TOKEN", TOKEN)
            .env("FAREBOX_ADMIN_TOKEN", ADMIN_TOKEN)
            .env("FAREBOX_CALLBACK_SECRET", &callback_secrets);
        let variables = settings.variables.iter();
        let recipe = variables.fold(recipe, |recipe, (name, value)| recipe.env(name, value));
        let recipe = match settings.clock {
            Some(clock) => wrong_clock(recipe, clock)?,
            None => recipe,
        };
        let (child, addresses) = (Child::start(recipe)?, settings.addresses);
        let sidecar = Self { child, program, config, ready_file, addresses, callback_secrets };
        sidecar.ready().await?;
        Ok(sidecar)
    }

    /// Writes another configuration, for the next start; addresses, environment and clock stay.
    pub fn configure(&self, settings: &Settings<'_>) -> Result<(), StackError> {
        settings.write(&self.config)
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The process.
    pub fn process(&self) -> &Child {
        &self.child
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Runs the command line with this stack's configuration and gives what it printed.
    pub fn cli(&self, arguments: &[&str]) -> Result<String, StackError> {
        farebox(&self.program, &self.config, &self.callback_secrets, arguments)
    }

    /// A caller of the listener for users and payment callbacks.
    pub fn client(&self) -> Client {
        Client::http1(self.addresses.http)
    }

    /// A caller of the listener for gateways and for services that ask about calls.
    pub fn internal(&self) -> Client {
        Client::http1(self.addresses.internal)
    }

    /// A caller of the listener for operators.
    pub fn admin(&self) -> Client {
        Client::http1(self.addresses.admin)
    }

    /// What `GET /metrics` says about this series, such as `billing_refund_total{status="done"}`; 0 when it has none yet.
    pub async fn metric(&self, series: &str) -> u64 {
        let page = self.admin().get("/metrics").send().await.body;
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = value.unwrap_or("0");
        value.parse().unwrap_or_else(|_| panic!("{series} is {value}, no whole number"))
    }

    /// Stops the service in order.
    pub fn stop(&self) {
        self.child.stop();
        self.forget_ready();
    }

    /// Ends the service at once, as a crash would.
    pub fn kill(&self) {
        self.child.kill();
        self.forget_ready();
    }

    /// Stops the process without ending it, until the result is dropped.
    pub fn stand_still(&self) -> StandsStill<'_> {
        self.child.signal(Signal::STOP);
        StandsStill(&self.child)
    }

    /// Starts the service again on the same addresses.
    pub async fn start_again(&self) -> Result<(), StackError> {
        self.child.start_again()?;
        self.ready().await
    }

    /// The whole log.
    pub fn log(&self) -> String {
        self.child.log()
    }

    async fn ready(&self) -> Result<(), StackError> {
        self.child.ready(async || self.ready_file.exists()).await
    }

    fn forget_ready(&self) {
        // The service may have removed the file itself.
        fs::remove_file(&self.ready_file).ok();
    }
}

/// While it lives, the sidecar stands still.
#[derive(Debug)]
pub struct StandsStill<'a>(&'a Child);

impl Drop for StandsStill<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

fn wrong_clock(recipe: Recipe, clock: Clock<'_>) -> Result<Recipe, StackError> {
    let recipe = recipe.env("LD_PRELOAD", binaries::clock_library()?);
    let recipe = match clock {
        Clock::Starts(time) => recipe.env("FAKETIME", time),
        Clock::Follows(file) => {
            recipe.env("FAKETIME_TIMESTAMP_FILE", file).env("FAKETIME_NO_CACHE", "1")
        }
    };
    Ok(recipe.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("TZ", "UTC"))
}

/// Runs the command line with this configuration and gives what it printed.
pub fn command_line(config: &Path, arguments: &[&str]) -> Result<String, StackError> {
    farebox(&binaries::farebox()?, config, CALLBACK_SECRET, arguments)
}

fn farebox(
    program: &Path,
    config: &Path,
    callback_secrets: &str,
    arguments: &[&str],
) -> Result<String, StackError> {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(inherited())
        .env("FAREBOX_GATEWAY_TOKEN", TOKEN)
        .env("FAREBOX_ADMIN_TOKEN", ADMIN_TOKEN)
        .env("FAREBOX_CALLBACK_SECRET", callback_secrets)
        .arg("--config")
        .arg(config)
        .args(arguments);
    output(command)
}
