//! `farebox check-config`: everything that `serve` would refuse, and what holds when it refuses nothing.

use std::path::Path;

use farebox_core::lease::OnLost;

use super::failure::Failure;
use super::table::{Column, facts, table};
use crate::config::{Config, Events, Leases, PaymentService, Tracing};

/// What the configuration means, defaults and overrides included.
pub(super) fn report(path: &Path, config: &Config) -> Result<String, Failure> {
    let tokens = config.require_gateway_tokens()?.len();
    let callback_keys = config.require_callback_secrets()?.len();
    let events = events(config.require_signed_events()?);
    let mut text: String =
        config.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    let server = &config.server;
    let redis =
        config.redis.as_ref().map_or_else(|| "none".to_owned(), |redis| redis.addr.to_string());
    text.push_str(&facts(&[
        ("configuration", format!("{} is valid", path.display())),
        ("public", format!("{} within {:?}", server.public.addr, server.public.timeout)),
        ("internal", format!("{} within {:?}", server.internal.addr, server.internal.timeout)),
        ("admin", server.admin.to_string()),
        ("gateway tokens", tokens.to_string()),
        ("admin tokens", config.admin_tokens.len().to_string()),
        ("database", config.database.source.to_string()),
        ("connections", config.database.max_connections.to_string()),
        ("redis", redis),
        ("currency", config.billing.currency.clone()),
        ("time zone", config.billing.time_zone.to_string()),
        ("payment service", payment_service(config)),
        ("callback keys", callback_keys.to_string()),
        ("recharge", format!("up to {}", config.recharge_max)),
        ("events", events),
        ("leases", leases(&config.leases)),
        ("tracing", tracing(config.tracing.as_ref())),
    ]));
    text.push('\n');
    text.push_str(&services(config));
    Ok(text)
}

fn payment_service(config: &Config) -> String {
    let within = |payment: &PaymentService| {
        format!("{} within {:?} ({})", payment.grpc_addr, payment.timeout, payment.protection())
    };
    config.payment.as_ref().map_or_else(|| "none".to_owned(), within)
}

fn events(events: Option<&Events>) -> String {
    let told = |Events { url, timeout, secrets }: &Events| {
        let keys =
            if secrets.len() == 1 { "1 key".to_owned() } else { format!("{} keys", secrets.len()) };
        format!("to {url} within {timeout:?}, signed with {keys}")
    };
    events.map_or_else(|| "none".to_owned(), told)
}

fn leases(&Leases { ttl, boot_grace, on_lost }: &Leases) -> String {
    let charged = match on_lost {
        OnLost::Reported => "what was reported",
        OnLost::Granted => "all that was granted",
    };
    format!("{ttl:?}, {boot_grace:?} after a restart; of a lost one {charged} is charged")
}

fn tracing(tracing: Option<&Tracing>) -> String {
    let told = |Tracing { endpoint, sample_ratio, .. }: &Tracing| {
        format!("to {endpoint}, a part of {sample_ratio}")
    };
    tracing.map_or_else(|| "none".to_owned(), told)
}

fn services(config: &Config) -> String {
    let columns =
        [Column::Text("service"), Column::Number("price"), Column::Number("free units per month")];
    let (prices, quotas) = (&config.billing.prices, &config.billing.free_quotas);
    let mut names: Vec<_> = prices.keys().chain(quotas.keys()).collect();
    names.sort();
    names.dedup();
    let rows = names.into_iter().map(|name| {
        let price = prices.get(name).map_or_else(|| "-".to_owned(), ToString::to_string);
        let units = quotas.get(name).map_or_else(|| "-".to_owned(), ToString::to_string);
        vec![name.to_string(), price, units]
    });
    table(&columns, rows)
}
