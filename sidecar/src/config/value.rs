//! The values a configuration is made of, each read from its text as written.
//!
//! A complaint says the rule, then the remedy; the key and the text are added where the tree is known.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use axum::http::Uri;
use farebox_core::lease::OnLost;
use farebox_core::limits::LEASE_TOTAL_MAX;
use farebox_core::money::{Nanos, ParseNanosError};
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, de};

use crate::currency;

/// A type with one way to be written.
pub(crate) trait FromText: Sized {
    /// Reads the text, or says rule and remedy.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// A leaf of the tree.
#[derive(Debug)]
pub(crate) struct Text<T>(pub(crate) T);

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::from_text(&text).map(Text).map_err(de::Error::custom)
    }
}

/// Services by name, not yet checked to be names.
pub(crate) type ByService<T> = BTreeMap<String, Text<T>>;

impl FromText for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl FromText for PathBuf {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("empty; write a path".to_owned()) } else { Ok(text.into()) }
    }
}

impl FromText for SocketAddr {
    /// `:8107` means all interfaces, as in Go.
    fn from_text(text: &str) -> Result<Self, String> {
        let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
        full.parse()
            .map_err(|_| "not an address; write IP and port, such as 127.0.0.1:8108".to_owned())
    }
}

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The name or address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromText for HostPort {
    fn from_text(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':').and_then(|(host, port)| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Some(Self { host: host.to_owned(), port: port.parse().ok()? })
        });
        parts
            .filter(|parsed| !parsed.host.is_empty())
            .ok_or_else(|| "not a host and port; write for instance redis:6379".to_owned())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

const NANOS_PER_UNIT: [(&str, u64); 4] =
    [("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];

impl FromText for Duration {
    fn from_text(text: &str) -> Result<Self, String> {
        let malformed = || "not a duration; write for instance 200ms, 0.2s, 1s or 5m".to_owned();
        let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
        let unit = text.get(digits.len()..).unwrap_or_default();
        let (_, nanos) =
            NANOS_PER_UNIT.into_iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
        let starts_with_digit = digits.starts_with(|character: char| character.is_ascii_digit());
        let number = Decimal::from_str(digits).ok().filter(|_| starts_with_digit);
        let total = number.and_then(|number| number.checked_mul(nanos.into()));
        total
            .and_then(|total| u64::try_from(total).ok())
            .map(Self::from_nanos)
            .ok_or_else(malformed)
    }
}

/// A duration within bounds given in milliseconds; outside them the program could not do its work.
fn bounded(text: &str, bounds: RangeInclusive<u64>) -> Result<Duration, String> {
    let duration = Duration::from_text(text)?;
    let (low, high) = bounds.into_inner();
    if (Duration::from_millis(low)..=Duration::from_millis(high)).contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("out of bounds; write {low}ms to {high}ms"))
    }
}

/// How long a request or a connection may take.
#[derive(Debug)]
pub(crate) struct Timeout(pub(crate) Duration);

impl FromText for Timeout {
    fn from_text(text: &str) -> Result<Self, String> {
        bounded(text, 1..=600_000).map(Self)
    }
}

/// How long the delivery of an event may take: a receiver that does its work before it answers is told again and again.
#[derive(Debug)]
pub(crate) struct DeliveryTimeout(pub(crate) Duration);

impl FromText for DeliveryTimeout {
    fn from_text(text: &str) -> Result<Self, String> {
        bounded(text, 1..=60_000).map(Self)
    }
}

/// How long a lease stands. Shorter, and no round trip renews it in time; longer, and a dead gateway locks money away.
#[derive(Debug)]
pub(crate) struct LeaseTtl(pub(crate) Duration);

impl FromText for LeaseTtl {
    fn from_text(text: &str) -> Result<Self, String> {
        bounded(text, 100..=3_600_000).map(Self)
    }
}

impl FromText for OnLost {
    fn from_text(text: &str) -> Result<Self, String> {
        let known = [Self::Reported, Self::Granted];
        known.into_iter().find(|policy| policy.as_str() == text).ok_or_else(|| {
            "not a known policy; write reported (the operator bears what was not reported) or granted (the account does)".to_owned()
        })
    }
}

/// How long the leases of an earlier process stand; zero takes them back at once.
#[derive(Debug)]
pub(crate) struct BootGrace(pub(crate) Duration);

impl FromText for BootGrace {
    fn from_text(text: &str) -> Result<Self, String> {
        bounded(text, 0..=3_600_000).map(Self)
    }
}

/// An amount of money that is not negative.
#[derive(Debug)]
pub(crate) struct Money(pub(crate) Nanos);

impl FromText for Money {
    fn from_text(text: &str) -> Result<Self, String> {
        match amount(text)? {
            amount if amount.is_negative() => Err("negative; write 0 or more".to_owned()),
            amount => Ok(Self(amount)),
        }
    }
}

/// An amount of money that is something.
#[derive(Debug)]
pub(crate) struct MoneyAboveZero(pub(crate) Nanos);

impl FromText for MoneyAboveZero {
    fn from_text(text: &str) -> Result<Self, String> {
        match amount(text)? {
            amount if amount <= Nanos::ZERO => {
                Err("not above 0; write more, such as 5000".to_owned())
            }
            amount => Ok(Self(amount)),
        }
    }
}

fn amount(text: &str) -> Result<Nanos, String> {
    text.parse().map_err(|err| match err {
        ParseNanosError::Malformed(_) => {
            "not a decimal number; write digits, such as 0.002".to_owned()
        }
        ParseNanosError::TooPrecise(_) => {
            "more than 9 decimals; write at most 9, such as 0.000000001".to_owned()
        }
        ParseNanosError::OutOfRange(_) => format!("out of range; write at most {}", Nanos::MAX),
    })
}

/// The address of a page: absolute, `http` or `https`, at most [`WEB_URL_BYTES_MAX`].
#[derive(Debug)]
pub(crate) struct WebUrl(pub(crate) String);

/// The longest address that browsers and payment services agree on.
const WEB_URL_BYTES_MAX: usize = 2_048;

impl FromText for WebUrl {
    fn from_text(text: &str) -> Result<Self, String> {
        web_url(text).map(|()| Self(text.to_owned()))
    }
}

/// Whether the text is the address of a page: absolute, `http` or `https`, at most 2048 bytes, without a login. If it is
/// not, says rule and remedy.
pub fn web_url(text: &str) -> Result<(), String> {
    if WEB_URL_BYTES_MAX < text.len() {
        return Err(format!("too long; write at most {WEB_URL_BYTES_MAX} bytes"));
    }
    // Browsers read a backslash as a slash, and so see another host than this check would.
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte));
    let malformed = || {
        "no web address; write http:// or https://, a host and a path, such as https://shop.example/paid, and percent-encode special characters".to_owned()
    };
    let uri = text.parse::<Uri>().ok().filter(|_| plain).ok_or_else(malformed)?;
    let authority = uri.authority().ok_or_else(malformed)?;
    if authority.as_str().contains('@') {
        return Err("an address with a login; remove what stands before the @".to_owned());
    }
    let host = authority.host();
    let port = authority.as_str() == host || authority.port_u16().is_some();
    if host.is_empty() || !port || !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(malformed());
    }
    Ok(())
}

/// Such an address, or nothing, as the predecessor writes it.
#[derive(Debug)]
pub(crate) struct OptionalWebUrl(pub(crate) Option<String>);

impl FromText for OptionalWebUrl {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        WebUrl::from_text(text).map(|url| Self(Some(url.0)))
    }
}

/// The name that a server's certificate must have.
#[derive(Debug)]
pub(crate) struct ServerName(pub(crate) String);

impl FromText for ServerName {
    fn from_text(text: &str) -> Result<Self, String> {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(letter);
        let name = text.len() <= 253 && text.split('.').all(label);
        if name || text.parse::<IpAddr>().is_ok() {
            Ok(Self(text.to_owned()))
        } else {
            Err("no host name; write it without scheme and port, such as payment.example"
                .to_owned())
        }
    }
}

/// Units of a free quota.
#[derive(Debug)]
pub(crate) struct Units(pub(crate) u64);

impl FromText for Units {
    fn from_text(text: &str) -> Result<Self, String> {
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(units) if units <= LEASE_TOTAL_MAX => Ok(Self(units)),
            _ if text.starts_with('-') => Err("negative; write 0 or more".to_owned()),
            _ if text.is_empty() || !all_digits(text) => {
                Err("not a whole number; write units per month, such as 10000".to_owned())
            }
            Ok(_) | Err(_) => Err(format!("out of range; write at most {LEASE_TOTAL_MAX}")),
        }
    }
}

/// A share of a hundred.
#[derive(Debug)]
pub(crate) struct Percent(pub(crate) Decimal);

impl FromText for Percent {
    fn from_text(text: &str) -> Result<Self, String> {
        let range = Decimal::ZERO..=Decimal::ONE_HUNDRED;
        let number = Decimal::from_str(text).ok().filter(|number| range.contains(number));
        number.map(Self).ok_or_else(|| "not a percentage; write 0 to 100".to_owned())
    }
}

/// A part of all traces.
#[derive(Debug)]
pub(crate) struct SampleRatio(pub(crate) f64);

impl FromText for SampleRatio {
    fn from_text(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
        number.map(Self).ok_or_else(|| "no part of a whole; write 0 to 1, such as 0.01".to_owned())
    }
}

/// What a service is called in traces.
#[derive(Debug)]
pub(crate) struct ServiceLabel(pub(crate) String);

impl FromText for ServiceLabel {
    fn from_text(text: &str) -> Result<Self, String> {
        let is_name = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err("no name; write 1 to 64 visible characters, such as farebox".to_owned())
        }
    }
}

impl FromText for chrono_tz::Tz {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            "no time zone; write an IANA name, such as Asia/Shanghai or UTC".to_owned()
        })
    }
}

/// A currency, ISO 4217.
#[derive(Debug)]
pub(crate) struct Currency(pub(crate) String);

impl FromText for Currency {
    fn from_text(text: &str) -> Result<Self, String> {
        if currency::decimals(text).is_some() {
            Ok(Self(text.to_owned()))
        } else {
            Err("no currency of ISO 4217; write its three capital letters, such as CNY".to_owned())
        }
    }
}

/// Connections of a pool.
#[derive(Debug)]
pub(crate) struct Connections(pub(crate) u32);

impl FromText for Connections {
    /// One connection cannot do: a job must not keep every request waiting.
    fn from_text(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number| (2..=1_000).contains(number));
        number.map(Self).ok_or_else(|| "not a number of connections; write 2 to 1000".to_owned())
    }
}

/// The kind of database; one is known.
#[derive(Debug)]
pub(crate) struct Driver;

impl FromText for Driver {
    fn from_text(text: &str) -> Result<Self, String> {
        if text == "mysql" {
            Ok(Self)
        } else {
            Err("no known driver; write mysql (MariaDB included)".to_owned())
        }
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// What someone must act on.
    Error,
    /// And what someone should look at.
    Warn,
    /// And what happens.
    Info,
    /// And why.
    Debug,
    /// And every step.
    Trace,
}

impl LogLevel {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl FromText for LogLevel {
    fn from_text(text: &str) -> Result<Self, String> {
        [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace]
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| "no level; write error, warn, info, debug or trace".to_owned())
    }
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl FromText for LogFormat {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("no log format; write text or json".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        let read = |text| Duration::from_text(text).ok().map(|duration| duration.as_nanos());
        for (text, expected) in [
            ("200ms", Some(200_000_000)),
            ("0.2s", Some(200_000_000)),
            ("1s", Some(1_000_000_000)),
            ("5m", Some(300_000_000_000)),
            ("1h", Some(3_600_000_000_000)),
            ("0s", Some(0)),
            ("1", None),
            ("s", None),
            ("-1s", None),
            ("1 s", None),
            ("1m30s", None),
            ("99999999999999h", None),
            ("1d", None),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_host_may_be_a_name_or_an_address() {
        let read = |text| HostPort::from_text(text).ok().map(|parsed| (parsed.host, parsed.port));
        assert_eq!(read("redis:6379"), Some(("redis".to_owned(), 6379)));
        assert_eq!(read("[::1]:6379"), Some(("::1".to_owned(), 6379)));
        for bad in ["redis", ":6379", "redis:", "redis:66666"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_web_address_is_absolute_and_names_a_host() {
        let longest = format!("https://h/{}", "x".repeat(WEB_URL_BYTES_MAX - 10));
        for good in [
            "http://localhost:8107/internal/v1/billing/callback",
            "https://shop.example",
            "https://[::1]:8443/a?b=c&d=%20#e",
            &longest,
        ] {
            assert_eq!(WebUrl::from_text(good).map(|url| url.0).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "/paid",
            "shop.example/paid",
            "//shop.example",
            "ftp://shop.example",
            "javascript://shop.example/%0Aalert(1)",
            "https:shop.example",
            "https://",
            "https:///paid",
            "https://:443/paid",
            "https://shop.example:port",
            "https://shop.example/a b",
            "https://shop.example\\@other.example",
            "https://shop.example/\n",
            "https://shöp.example",
            "https://user:s3cret@shop.example",
            "https://user@shop.example:443",
            "https://@shop.example",
            &format!("{longest}x"),
        ] {
            assert!(WebUrl::from_text(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_server_name_is_a_host_without_anything_around_it() {
        for good in ["payment", "pay_1.shop.example", "10.0.0.1", "::1"] {
            assert!(ServerName::from_text(good).is_ok(), "{good:?}");
        }
        for bad in ["", "https://payment", "payment:9101", ".example", "a..b", &"a".repeat(64)] {
            assert!(ServerName::from_text(bad).is_err(), "{bad:?}");
        }
    }
}
