//! The keys of `farebox.yaml`, as a tree of optional blocks. Nothing is decided here: defaults stand in `config.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use farebox_core::lease::OnLost;
use serde::{Deserialize, Deserializer};

use super::tariff::Price;
use super::value::{
    BootGrace, ByService, Connections, Currency, DeliveryTimeout, Driver, HostPort, LeaseTtl,
    LogFormat, LogLevel, Money, MoneyAboveZero, OptionalWebUrl, Percent, SampleRatio, ServerName,
    ServiceLabel, Text, Timeout, Units, WebUrl,
};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) server: Option<Server>,
    #[serde(rename = "data")]
    pub(crate) stores: Option<Stores>,
    pub(crate) billing: Option<Billing>,
    pub(crate) payment_service: Option<PaymentService>,
    pub(crate) recharge: Option<Recharge>,
    #[serde(default, deserialize_with = "not_empty")]
    pub(crate) events: Option<Events>,
    pub(crate) leases: Option<Leases>,
    pub(crate) log: Option<Log>,
    #[serde(default, deserialize_with = "not_empty")]
    pub(crate) tracing: Option<Tracing>,
}

/// `server`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) http: Option<Http>,
    pub(crate) internal: Option<Internal>,
    pub(crate) admin: Option<Admin>,
}

/// `server.http`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    pub(crate) addr: Option<Text<SocketAddr>>,
    pub(crate) timeout: Option<Text<Timeout>>,
}

/// `server.internal`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Internal {
    pub(crate) addr: Option<Text<SocketAddr>>,
    pub(crate) timeout: Option<Text<Timeout>>,
    pub(crate) token_file: Option<Text<PathBuf>>,
}

/// `server.admin`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    pub(crate) addr: Option<Text<SocketAddr>>,
    pub(crate) token_file: Option<Text<PathBuf>>,
}

/// `data`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stores {
    pub(crate) database: Option<Database>,
    pub(crate) redis: Option<Redis>,
}

/// `data.database`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Database {
    #[expect(dead_code, reason = "read for its check: one driver is known")]
    pub(crate) driver: Option<Text<Driver>>,
    pub(crate) source: Option<Text<String>>,
    pub(crate) source_file: Option<Text<PathBuf>>,
    pub(crate) max_connections: Option<Text<Connections>>,
}

/// `data.redis`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redis {
    pub(crate) addr: Option<Text<HostPort>>,
    pub(crate) read_timeout: Option<Text<Timeout>>,
    pub(crate) write_timeout: Option<Text<Timeout>>,
    pub(crate) password_file: Option<Text<PathBuf>>,
}

/// `billing`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Billing {
    pub(crate) currency: Option<Text<Currency>>,
    pub(crate) time_zone: Option<Text<chrono_tz::Tz>>,
    pub(crate) prices: Option<BTreeMap<String, Price>>,
    pub(crate) free_quotas: Option<ByService<Units>>,
    pub(crate) balance_low_threshold: Option<Text<Money>>,
    pub(crate) quota_low_percent_threshold: Option<Text<Percent>>,
}

/// `payment_service`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PaymentService {
    pub(crate) grpc_addr: Option<Text<HostPort>>,
    pub(crate) timeout: Option<Text<Timeout>>,
    pub(crate) return_url: Option<Text<OptionalWebUrl>>,
    pub(crate) notify_url: Option<Text<WebUrl>>,
    pub(crate) callback_secret_file: Option<Text<PathBuf>>,
    #[serde(default, deserialize_with = "not_empty")]
    pub(crate) tls: Option<Tls>,
}

/// `payment_service.tls`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) ca_file: Option<Text<PathBuf>>,
    pub(crate) cert_file: Option<Text<PathBuf>>,
    pub(crate) key_file: Option<Text<PathBuf>>,
    pub(crate) server_name: Option<Text<ServerName>>,
}

/// A block whose presence means something must not vanish when the last line in it does: `tls:` alone is an error.
fn not_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// `recharge`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recharge {
    pub(crate) max_amount: Option<Text<MoneyAboveZero>>,
}

/// `events`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Events {
    pub(crate) url: Option<Text<WebUrl>>,
    pub(crate) secret_file: Option<Text<PathBuf>>,
    pub(crate) timeout: Option<Text<DeliveryTimeout>>,
}

/// `leases`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Leases {
    pub(crate) ttl: Option<Text<LeaseTtl>>,
    pub(crate) boot_grace: Option<Text<BootGrace>>,
    pub(crate) on_lost: Option<Text<OnLost>>,
}

/// `log`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) level: Option<Text<LogLevel>>,
    pub(crate) format: Option<Text<LogFormat>>,
}

/// `tracing`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tracing {
    pub(crate) otlp_endpoint: Option<Text<WebUrl>>,
    pub(crate) sample_ratio: Option<Text<SampleRatio>>,
    pub(crate) service_name: Option<Text<ServiceLabel>>,
}
