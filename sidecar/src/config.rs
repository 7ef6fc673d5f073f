//! The configuration: `farebox.yaml`, overridden by the environment, checked before anything starts.
//!
//! Every mistake is one line with field, value and remedy. Nothing is free by mistake: a file without a `billing` block,
//! or with neither prices nor free quotas in it, is refused.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use farebox_core::id::ServiceName;
use farebox_core::lease::OnLost;
use farebox_core::money::Nanos;
use farebox_core::tariff::Tariff;
use figment::error::{Actual, Kind};
use figment::providers::Serialized;
use figment::value::{Dict, Value};
use figment::{Figment, Profile};
use rust_decimal::Decimal;

pub use self::dsn::{DatabaseSource, DsnError};
pub use self::environment::Environment;
pub use self::error::{ConfigError, Field};
pub use self::events::Events;
pub(crate) use self::outline::Outline;
pub use self::payment::{PaymentService, Tls, TlsIdentity};
pub use self::retired::Warning;
pub use self::secret::Secret;
use self::secrets::SecretSource;
pub use self::tracing::Tracing;
use self::value::Text;
pub use self::value::{HostPort, LogFormat, LogLevel, web_url};
use crate::app::{LowThresholds, Settings};

mod dsn;
mod environment;
mod error;
mod events;
mod outline;
mod payment;
pub(crate) mod price_file;
mod retired;
mod secret;
mod secrets;
mod shape;
pub(crate) mod tariff;
mod tracing;
mod value;
mod yaml;

/// The largest recharge, when nobody says otherwise.
const RECHARGE_MAX: Nanos = Nanos::new(999_999_990_000_000);

/// Everything an operator decides.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where each listener stands.
    pub server: Server,
    /// What gateways prove themselves with; several while a token is being changed. Only `serve` needs one.
    pub gateway_tokens: Vec<Secret>,
    /// What operators prove themselves with; with none, nobody gets into `/admin/v1/`.
    pub admin_tokens: Vec<Secret>,
    /// The database.
    pub database: Database,
    /// The cache, if there is one.
    pub redis: Option<Redis>,
    /// What costs what.
    pub billing: Billing,
    /// Who takes payments; without it nobody recharges.
    pub payment: Option<PaymentService>,
    /// The largest amount of one recharge.
    pub recharge_max: Nanos,
    /// Who is told about recharges, if anybody is.
    pub events: Option<Events>,
    /// How long gateways may spend alone.
    pub leases: Leases,
    /// What is logged how.
    pub log: Log,
    /// Who is sent spans, if anybody is.
    pub tracing: Option<Tracing>,
    /// Keys that were read over.
    pub warnings: Vec<Warning>,
}

/// `server`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// For users and payment callbacks.
    pub public: Listener,
    /// For gateways.
    pub internal: Listener,
    /// For operators.
    pub admin: SocketAddr,
}

/// One address and the longest time that a request may take there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where to listen; port 0 takes any free one.
    pub addr: SocketAddr,
    /// From the request's head to the reply.
    pub timeout: Duration,
}

/// `data.database`
#[derive(Debug, Clone)]
pub struct Database {
    /// Where it is, and the login.
    pub source: DatabaseSource,
    /// The pool's size.
    pub max_connections: u32,
}

/// `data.redis`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// Where it is.
    pub addr: HostPort,
    /// The password, when it wants one.
    pub password: Option<Secret>,
    /// How long an answer may take.
    pub read_timeout: Duration,
    /// How long sending may take.
    pub write_timeout: Duration,
}

/// `billing`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Billing {
    /// ISO 4217.
    pub currency: String,
    /// Where months begin and end.
    pub time_zone: chrono_tz::Tz,
    /// What units cost.
    pub prices: BTreeMap<ServiceName, Tariff>,
    /// Units per month.
    pub free_quotas: BTreeMap<ServiceName, u64>,
    /// A balance below this is low.
    pub balance_low_threshold: Nanos,
    /// A free quota with less than this share left is low.
    pub quota_low_percent_threshold: Decimal,
}

/// `leases`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leases {
    /// How long a gateway may spend without hearing from the sidecar.
    pub ttl: Duration,
    /// How long leases of a gateway's earlier process stand.
    pub boot_grace: Duration,
    /// Who bears what a silent gateway had drawn and not reported.
    pub on_lost: OnLost,
}

/// `log`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How much.
    pub level: LogLevel,
    /// In which form.
    pub format: LogFormat,
}

impl Config {
    /// Reads the file and the environment.
    pub fn load(path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|err| ConfigError::Unreadable {
            path: path.display().to_string(),
            problem: err.to_string(),
        })?;
        Self::parse(&text, environment).map_err(|err| match err {
            ConfigError::Syntax { .. } => {
                ConfigError::InFile { path: path.display().to_string(), problem: Box::new(err) }
            }
            ConfigError::Unreadable { .. }
            | ConfigError::UnreadablePrices { .. }
            | ConfigError::InFile { .. }
            | ConfigError::UnknownKey { .. }
            | ConfigError::Value { .. }
            | ConfigError::Hidden { .. }
            | ConfigError::Shape { .. }
            | ConfigError::Service { .. }
            | ConfigError::Account { .. }
            | ConfigError::Missing { .. }
            | ConfigError::Both { .. } => err,
        })
    }

    /// Reads a configuration from its text.
    pub fn parse(text: &str, environment: &Environment) -> Result<Self, ConfigError> {
        let (file, mut warnings) = read_tree(text, environment)?;
        let server = file.server.unwrap_or_default();
        let stores = file.stores.unwrap_or_default();
        let internal = server.internal.unwrap_or_default();
        let admin = server.admin.unwrap_or_default();
        let tokens = |variable, file_key, file: Option<Text<PathBuf>>| {
            let file = file.as_ref().map(|path| path.0.as_path());
            secrets::tokens(&SecretSource { environment, variable, file_key, file })
        };
        let database = database(stores.database.unwrap_or_default(), environment)?;
        warnings.extend(source_warning(&database.source));
        Ok(Self {
            server: Server {
                public: public_listener(server.http.unwrap_or_default()),
                internal: Listener {
                    addr: internal.addr.map_or(local(8108), |addr| addr.0),
                    timeout: internal.timeout.map_or(Duration::from_secs(5), |text| text.0.0),
                },
                admin: admin.addr.map_or(local(8109), |addr| addr.0),
            },
            gateway_tokens: tokens(
                "FAREBOX_GATEWAY_TOKEN",
                "server.internal.token_file",
                internal.token_file,
            )?,
            admin_tokens: tokens(
                "FAREBOX_ADMIN_TOKEN",
                "server.admin.token_file",
                admin.token_file,
            )?,
            database,
            redis: stores.redis.map(|block| redis(block, environment)).transpose()?,
            billing: billing(file.billing)?,
            payment: file
                .payment_service
                .map(|block| PaymentService::read(block, environment))
                .transpose()?,
            recharge_max: recharge_max(file.recharge.unwrap_or_default()),
            events: file.events.map(|block| Events::read(block, environment)).transpose()?,
            leases: leases(file.leases.unwrap_or_default()),
            log: log(file.log.unwrap_or_default()),
            tracing: file.tracing.map(|block| Tracing::read(block, environment)).transpose()?,
            warnings,
        })
    }

    /// What the use cases need of it.
    pub fn settings(&self) -> Settings {
        let Billing { currency, time_zone, prices, free_quotas, .. } = self.billing.clone();
        let low = LowThresholds {
            balance: self.billing.balance_low_threshold,
            quota_percent: self.billing.quota_low_percent_threshold,
        };
        let Leases { ttl, boot_grace, on_lost } = self.leases;
        Settings {
            currency,
            currency_decimals: crate::currency::decimals(&self.billing.currency)
                .unwrap_or_default(),
            time_zone,
            free_quotas,
            prices,
            recharge_max: self.recharge_max,
            lease_ttl: ttl,
            boot_grace,
            on_lost,
            low,
        }
    }

    /// The tokens that gateways may show; a sidecar without any would serve nobody.
    pub fn require_gateway_tokens(&self) -> Result<&[Secret], ConfigError> {
        if self.gateway_tokens.is_empty() {
            return Err(ConfigError::Missing {
                field: "the gateway token",
                remedy: "set FAREBOX_GATEWAY_TOKEN, or server.internal.token_file to a file that holds it",
            });
        }
        Ok(&self.gateway_tokens)
    }

    /// The secrets of callbacks; with a payment service and without any, whoever pays would not be credited.
    pub fn require_callback_secrets(&self) -> Result<&[Secret], ConfigError> {
        let Some(payment) = &self.payment else { return Ok(&[]) };
        if payment.callback_secrets.is_empty() {
            return Err(ConfigError::Missing {
                field: "the callback secret of payment_service",
                remedy: "set FAREBOX_CALLBACK_SECRET, or payment_service.callback_secret_file to a file that holds it (make one with: echo whsec_$(openssl rand -base64 32)), or remove payment_service",
            });
        }
        Ok(&payment.callback_secrets)
    }

    /// The receiver of events, with a secret to sign them; unsigned ones could not be told from forged ones.
    pub fn require_signed_events(&self) -> Result<Option<&Events>, ConfigError> {
        match &self.events {
            Some(events) if events.secrets.is_empty() => Err(ConfigError::Missing {
                field: "the secret of events",
                remedy: "set FAREBOX_EVENTS_SECRET, or events.secret_file to a file that holds it (make one with: echo whsec_$(openssl rand -base64 32)), or remove events",
            }),
            events => Ok(events.as_ref()),
        }
    }
}

/// The file with the overrides in it, without the retired keys.
fn read_tree(
    text: &str,
    environment: &Environment,
) -> Result<(shape::File, Vec<Warning>), ConfigError> {
    let figment = Figment::new()
        .merge(Serialized::from(yaml::parse(text)?, Profile::Default))
        .merge(Serialized::from(environment.overrides(), Profile::Default));
    let mut tree: Dict =
        figment.extract().map_err(|err| explain(&err, &Dict::new(), environment))?;
    let warnings = retired::strip(&mut tree)?;
    let file = Value::from(tree.clone()).deserialize::<shape::File>();
    Ok((file.map_err(|err| explain(&err, &tree, environment))?, warnings))
}

/// Turns what serde says about a tree into one line for an operator.
fn explain(err: &figment::Error, tree: &Dict, environment: &Environment) -> ConfigError {
    let field = Field { path: err.path.join("."), variable: environment.variable_of(&err.path) };
    let shape = |complaint: &str| ConfigError::Shape {
        field: field.clone(),
        complaint: complaint.to_owned(),
    };
    let text = text_at(tree, &err.path);
    match (&err.kind, text) {
        (Kind::UnknownField(_, known), _) => {
            ConfigError::UnknownKey { field, known: known.join(", ") }
        }
        (Kind::InvalidType(Actual::Unit | Actual::Option, _), _) => {
            shape("has no value; write one or remove the key")
        }
        (Kind::InvalidType(Actual::Map | Actual::Seq, _), _) => {
            shape("holds several values; write one")
        }
        (Kind::InvalidType(..), Some(value)) => ConfigError::Value {
            field,
            value: value.to_owned(),
            complaint: "a value where a block of keys belongs; write its keys below it".to_owned(),
        },
        (Kind::Message(complaint), Some(value)) => {
            ConfigError::Value { field, value: value.to_owned(), complaint: complaint.clone() }
        }
        (Kind::Message(complaint), None) => shape(&format!("cannot be: {complaint}")),
        (other, _) => shape(&format!("cannot be read: {other}")),
    }
}

fn text_at<'t>(tree: &'t Dict, path: &[String]) -> Option<&'t str> {
    let (key, rest) = path.split_first()?;
    match tree.get(key)? {
        Value::Dict(_, inner) => text_at(inner, rest),
        Value::Array(_, items) => {
            let (place, rest) = rest.split_first()?;
            match items.get(place.parse::<usize>().ok()?)? {
                Value::Dict(_, inner) => text_at(inner, rest),
                leaf => leaf.as_str(),
            }
        }
        leaf => leaf.as_str(),
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn public_listener(http: shape::Http) -> Listener {
    Listener {
        addr: http.addr.map_or((Ipv4Addr::UNSPECIFIED, 8107).into(), |addr| addr.0),
        timeout: http.timeout.map_or(Duration::from_secs(1), |text| text.0.0),
    }
}

fn database(block: shape::Database, environment: &Environment) -> Result<Database, ConfigError> {
    let source = secrets::database_source(&block, environment)?;
    Ok(Database { source, max_connections: block.max_connections.map_or(16, |text| text.0.0) })
}

fn source_warning(source: &DatabaseSource) -> Option<Warning> {
    let ignored = source.ignored();
    let note = format!(
        "is read without {}: times are UTC in the database, months are those of billing.time_zone, and the pool has limits of its own",
        ignored.join(", ")
    );
    (!ignored.is_empty()).then_some(Warning { key: "data.database.source", note })
}

fn redis(block: shape::Redis, environment: &Environment) -> Result<Redis, ConfigError> {
    let addr = block.addr.ok_or(ConfigError::Missing {
        field: "data.redis.addr",
        remedy: "write host and port, such as 127.0.0.1:6379, or remove data.redis",
    })?;
    let password_file = block.password_file.map(|path| path.0);
    let password = SecretSource {
        environment,
        variable: "FAREBOX_REDIS_PASSWORD",
        file_key: "data.redis.password_file",
        file: password_file.as_deref(),
    };
    let timeout = |text: Option<Text<value::Timeout>>| {
        text.map_or(Duration::from_millis(200), |text| text.0.0)
    };
    Ok(Redis {
        addr: addr.0,
        password: password.read()?.map(|found| found.secret),
        read_timeout: timeout(block.read_timeout),
        write_timeout: timeout(block.write_timeout),
    })
}

fn billing(block: Option<shape::Billing>) -> Result<Billing, ConfigError> {
    const REMEDY: &str = "nothing is free by omission: write prices, free_quotas or both";
    let block = block.ok_or(ConfigError::Missing { field: "billing", remedy: REMEDY })?;
    let prices = by_service("billing.prices", block.prices, |price| price.0)?;
    let free_quotas = by_service("billing.free_quotas", block.free_quotas, |units| units.0.0)?;
    if prices.is_empty() && free_quotas.is_empty() {
        let field = "a service in billing.prices or billing.free_quotas";
        return Err(ConfigError::Missing { field, remedy: REMEDY });
    }
    let low = LowThresholds::default();
    Ok(Billing {
        currency: block.currency.map_or_else(|| "CNY".to_owned(), |text| text.0.0),
        time_zone: block.time_zone.map_or(chrono_tz::Asia::Shanghai, |text| text.0),
        prices,
        free_quotas,
        balance_low_threshold: block.balance_low_threshold.map_or(low.balance, |text| text.0.0),
        quota_low_percent_threshold: block
            .quota_low_percent_threshold
            .map_or(low.quota_percent, |text| text.0.0),
    })
}

fn by_service<T, U>(
    table: &str,
    entries: Option<BTreeMap<String, T>>,
    value: impl Fn(T) -> U,
) -> Result<BTreeMap<ServiceName, U>, ConfigError> {
    entries
        .unwrap_or_default()
        .into_iter()
        .map(|(name, entry)| match name.parse() {
            Ok(service) => Ok((service, value(entry))),
            Err(problem) => Err(ConfigError::Service { table: table.to_owned(), name, problem }),
        })
        .collect()
}

fn recharge_max(block: shape::Recharge) -> Nanos {
    block.max_amount.map_or(RECHARGE_MAX, |text| text.0.0)
}

fn leases(block: shape::Leases) -> Leases {
    Leases {
        ttl: block.ttl.map_or(Duration::from_secs(10), |text| text.0.0),
        boot_grace: block.boot_grace.map_or(Duration::from_secs(1), |text| text.0.0),
        on_lost: block.on_lost.map_or(OnLost::Reported, |text| text.0),
    }
}

fn log(block: shape::Log) -> Log {
    Log {
        level: block.level.map_or(LogLevel::Info, |text| text.0),
        format: block.format.map_or(LogFormat::Text, |text| text.0),
    }
}

#[cfg(test)]
mod tests;
