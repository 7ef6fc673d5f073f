//! Text in, settings or the exact error line out.

use std::io::Write as _;

use super::*;

mod neighbours;
mod predecessor;

/// The smallest file that is accepted, for tests that add to it.
const SMALL: &str = "
data: { database: { source: 'root:s3cret@tcp(127.0.0.1:3306)/billing_service' } }
billing: { prices: { passport: 0.001 } }
";

fn config(text: &str) -> Config {
    Config::parse(text, &Environment::default()).unwrap_or_else(|err| panic!("{err}\n{text}"))
}

fn refusal(text: &str, environment: &Environment) -> String {
    match Config::parse(text, environment) {
        Ok(config) => panic!("accepted as {config:?}\n{text}"),
        Err(err) => err.to_string(),
    }
}

#[test]
fn the_smallest_file_gets_every_default() {
    let Config { server, database, redis, billing, leases, log, recharge_max, .. } = config(SMALL);
    for (found, expected) in [
        (format!("{:?}", server.public), "Listener { addr: 0.0.0.0:8107, timeout: 1s }"),
        (format!("{:?}", server.internal), "Listener { addr: 127.0.0.1:8108, timeout: 5s }"),
        (format!("{:?}", server.admin), "127.0.0.1:8109"),
        (database.source.to_string(), "root@tcp(127.0.0.1:3306)/billing_service"),
        (database.max_connections.to_string(), "16"),
        (format!("{redis:?}"), "None"),
        (format!("{} {}", billing.currency, billing.time_zone), "CNY Asia/Shanghai"),
        (billing.free_quotas.len().to_string(), "0"),
        (billing.balance_low_threshold.to_string(), "10"),
        (billing.quota_low_percent_threshold.to_string(), "20"),
        (recharge_max.to_string(), "999999.99"),
        (format!("{leases:?}"), "Leases { ttl: 10s, boot_grace: 1s, on_lost: Reported }"),
        (format!("{log:?}"), "Log { level: Info, format: Text }"),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn the_shipped_file_holds_the_documented_seeds() {
    let text = include_str!("../../../farebox.yaml");
    let config = config(text);
    let print = |map: Vec<String>| map.join(", ");
    let Settings { prices, free_quotas, lease_ttl, boot_grace, currency, .. } = config.settings();
    assert_eq!(
        print(prices.iter().map(|(service, price)| format!("{service} {price}")).collect()),
        "asset 0.001, passport 0.001, payment 0.002"
    );
    assert_eq!(
        print(free_quotas.iter().map(|(service, units)| format!("{service} {units}")).collect()),
        "asset 1000, passport 10000, payment 1000"
    );
    assert_eq!((lease_ttl.as_secs(), boot_grace.as_secs()), (10, 1));
    assert_eq!((currency.as_str(), config.warnings), ("CNY", vec![]));
}

#[test]
fn who_bears_what_is_lost_reaches_the_use_cases() {
    use farebox_core::lease::OnLost::{Granted, Reported};
    let shipped = include_str!("../../../farebox.yaml");
    let on_lost = |text: &str| config(text).settings().on_lost;
    assert_eq!(on_lost(shipped), Reported);
    assert_eq!(on_lost(&shipped.replace("on_lost: reported", "on_lost: granted")), Granted);
    assert_eq!(on_lost(&shipped.replace("on_lost: reported", "")), Reported);
}

#[test]
fn a_price_is_taken_from_its_text_digit_by_digit() {
    for (text, nanos) in [
        ("0.001", 1_000_000),
        ("0.10", 100_000_000),
        ("'0.1'", 100_000_000),
        ("0.000000001", 1),
        ("12345678.123456789", 12_345_678_123_456_789),
        ("0", 0),
        ("010", 10_000_000_000),
    ] {
        let config = config(&SMALL.replace("0.001", text));
        let price = config.billing.prices.values().next();
        assert_eq!(price, Some(&Tariff::flat(Nanos::new(nanos))), "{text}");
    }
}

#[test]
fn a_price_or_quota_that_breaks_a_rule_is_named_with_its_remedy() {
    let price = |text: &str| refusal(&SMALL.replace("0.001", text), &Environment::default());
    let quota = |text: &str| {
        let block = format!("free_quotas: {{ passport: {text} }}");
        refusal(&SMALL.replace("prices: { passport: 0.001 }", &block), &Environment::default())
    };
    for (found, expected) in [
        (
            price("0.0000000001"),
            r#"billing.prices.passport is "0.0000000001": more than 9 decimals; write at most 9, such as 0.000000001"#,
        ),
        (price("-0.5"), r#"billing.prices.passport is "-0.5": negative; write 0 or more"#),
        (
            price("1e-3"),
            r#"billing.prices.passport is "1e-3": not a decimal number; write digits, such as 0.002"#,
        ),
        (
            price("1_000"),
            r#"billing.prices.passport is "1_000": not a decimal number; write digits, such as 0.002"#,
        ),
        (
            price(".5"),
            r#"billing.prices.passport is ".5": not a decimal number; write digits, such as 0.002"#,
        ),
        (
            price("9999999999999"),
            r#"billing.prices.passport is "9999999999999": out of range; write at most 9223372036.854775807"#,
        ),
        (price(""), "billing.prices.passport has no value; write one or remove the key"),
        (price("[1]"), "billing.prices.passport holds several values; write one"),
        (quota("-1"), r#"billing.free_quotas.passport is "-1": negative; write 0 or more"#),
        (
            quota("10.5"),
            r#"billing.free_quotas.passport is "10.5": not a whole number; write units per month, such as 10000"#,
        ),
        (
            quota("1000000000000000000"),
            r#"billing.free_quotas.passport is "1000000000000000000": out of range; write at most 281474976710656"#,
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn a_value_that_breaks_a_rule_is_named_with_its_remedy() {
    let with = |line: &str| refusal(&format!("{SMALL}{line}"), &Environment::default());
    let billing = |key: &str| {
        refusal(&SMALL.replace("prices:", &format!("{key}, prices:")), &Environment::default())
    };
    for (found, expected) in [
        (
            billing("time_zone: Asia/Peking"),
            r#"billing.time_zone is "Asia/Peking": no time zone; write an IANA name, such as Asia/Shanghai or UTC"#,
        ),
        (
            billing("currency: yuan"),
            r#"billing.currency is "yuan": no currency of ISO 4217; write its three capital letters, such as CNY"#,
        ),
        (
            billing("currency: XAU"),
            r#"billing.currency is "XAU": no currency of ISO 4217; write its three capital letters, such as CNY"#,
        ),
        (
            billing("quota_low_percent_threshold: 120"),
            r#"billing.quota_low_percent_threshold is "120": not a percentage; write 0 to 100"#,
        ),
        (
            billing("dev_mode: true"),
            r#"billing.dev_mode is "true": everything would be free; remove the key"#,
        ),
        (
            with("leases: { ttl: 10 }"),
            r#"leases.ttl is "10": not a duration; write for instance 200ms, 0.2s, 1s or 5m"#,
        ),
        (
            with("leases: { on_lost: granter }"),
            r#"leases.on_lost is "granter": not a known policy; write reported (the operator bears what was not reported) or granted (the account does)"#,
        ),
        (
            with("leases: { ttl: 1ms }"),
            r#"leases.ttl is "1ms": out of bounds; write 100ms to 3600000ms"#,
        ),
        (
            with("server: { internal: { addr: localhost } }"),
            r#"server.internal.addr is "localhost": not an address; write IP and port, such as 127.0.0.1:8108"#,
        ),
        (
            with("server: 8107"),
            r#"server is "8107": a value where a block of keys belongs; write its keys below it"#,
        ),
        (
            with("recharge: { max_amount: 0 }"),
            r#"recharge.max_amount is "0": not above 0; write more, such as 5000"#,
        ),
        (
            with("recharge: { max_amount: -5 }"),
            r#"recharge.max_amount is "-5": not above 0; write more, such as 5000"#,
        ),
        (
            with("log: { level: loud }"),
            r#"log.level is "loud": no level; write error, warn, info, debug or trace"#,
        ),
        (
            with("billing: {}"),
            r#"line 4, column 1: the key "billing" occurs twice; keep one of them"#,
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn an_unknown_key_is_named_by_its_path() {
    for (text, expected) in [
        (
            format!("{SMALL}serv: 1"),
            "serv is not a key of this program; remove it or write one of: server, data, billing, payment_service, recharge, events, leases, log, tracing",
        ),
        (
            format!("{SMALL}leases: {{ tll: 5s }}"),
            "leases.tll is not a key of this program; remove it or write one of: ttl, boot_grace, on_lost",
        ),
        (
            format!("{SMALL}server: {{ internal: {{ token: s3cret }} }}"),
            "server.internal.token is not a key of this program; remove it or write one of: addr, timeout, token_file",
        ),
        (
            SMALL.replace("passport:", "'pass port':"),
            r#"billing.prices has the key "pass port": service holds the character ' '; allowed: letters, digits, '.', '_', '-'; rename the service"#,
        ),
    ] {
        assert_eq!(refusal(&text, &Environment::default()), expected);
    }
}

#[test]
fn nothing_is_free_by_omission() {
    const REMEDY: &str =
        "is missing; nothing is free by omission: write prices, free_quotas or both";
    let (source, _) = SMALL.split_once("billing:").unwrap();
    let empty = format!("a service in billing.prices or billing.free_quotas {REMEDY}");
    for (block, expected) in [
        ("", format!("billing {REMEDY}")),
        ("billing:", format!("billing {REMEDY}")),
        ("billing: { currency: CNY }", empty.clone()),
        ("billing: { prices: {}, free_quotas: }", empty),
    ] {
        assert_eq!(refusal(&format!("{source}{block}"), &Environment::default()), expected);
    }
}

#[test]
fn the_environment_overrides_any_key_and_is_named_in_errors() {
    let environment = Environment::from([
        ("FAREBOX_SERVER__ADMIN__ADDR", "127.0.0.1:0"),
        ("FAREBOX_BILLING__PRICES__PASSPORT", "0.010"),
        ("FAREBOX_BILLING__PRICES__ASSET", "0.05"),
        ("FAREBOX_DATABASE_SOURCE", "farebox@tcp(db:3306)/other"),
    ]);
    let config = Config::parse(SMALL, &environment).unwrap();
    assert_eq!(config.server.admin.port(), 0);
    let prices: Vec<_> = config.billing.prices.values().map(Tariff::to_string).collect();
    assert_eq!(prices, ["0.05", "0.01"]);
    assert_eq!(config.database.source.to_string(), "farebox@tcp(db:3306)/other");

    let refused = |name, value| refusal(SMALL, &Environment::from([(name, value)]));
    assert_eq!(
        refused("FAREBOX_LEASES__TTL", "soon"),
        r#"leases.ttl (FAREBOX_LEASES__TTL) is "soon": not a duration; write for instance 200ms, 0.2s, 1s or 5m"#
    );
    assert_eq!(
        refused("FAREBOX_LEASE__TTL", "5s"),
        "lease is not a key of this program; remove it or write one of: server, data, billing, payment_service, recharge, events, leases, log, tracing"
    );
}

#[test]
fn the_predecessors_payment_service_is_taken_over() {
    let config = config(include_str!("predecessor.yaml"));
    let payment = config.payment.as_ref().unwrap();
    assert_eq!(payment.grpc_addr.to_string(), "127.0.0.1:9101");
    assert_eq!((payment.timeout, payment.return_url.as_deref()), (Duration::from_secs(5), None));
    assert_eq!(payment.notify_url, "http://localhost:8107/internal/v1/billing/callback");
    assert_eq!((payment.protection(), payment.callback_secrets.len()), ("plain", 0));
    let refused = config.require_callback_secrets().unwrap_err().to_string();
    assert!(refused.starts_with("the callback secret of payment_service is missing; set FAREBOX_"));
}

#[test]
fn secrets_come_from_a_variable_or_a_file_and_never_show() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "old-token, new-token").unwrap();
    let path = file.path().to_str().unwrap();
    let text = format!("{SMALL}server: {{ internal: {{ token_file: {path} }} }}");
    let tokens = |config: &Config| -> Vec<String> {
        config.gateway_tokens.iter().map(|token| token.expose().to_owned()).collect()
    };
    assert_eq!(tokens(&config(&text)), ["old-token", "new-token"]);

    let environment = Environment::from([("FAREBOX_GATEWAY_TOKEN", "from-variable")]);
    let config = Config::parse(&text, &environment).unwrap();
    assert_eq!(tokens(&config), ["from-variable"]);
    let print = format!("{config:?}");
    assert!(!print.contains("from-variable") && !print.contains("s3cret"), "{print}");
}

#[test]
fn a_secret_that_cannot_be_used_is_refused_without_showing_it() {
    let none = Environment::default();
    let token_file =
        |path: &str| format!("{SMALL}server: {{ internal: {{ token_file: {path} }} }}");
    assert_eq!(
        refusal(&token_file("/nowhere/token"), &none),
        r#"server.internal.token_file is "/nowhere/token", which cannot be read: No such file or directory (os error 2); name a readable file"#
    );
    assert_eq!(
        refusal(&token_file("/dev/null"), &none),
        r#"server.internal.token_file is "/dev/null", which is empty; write the secret into it"#
    );
    let spaced = Environment::from([("FAREBOX_GATEWAY_TOKEN", "s3cret s3cret")]);
    let refused = refusal(SMALL, &spaced);
    assert!(refused.starts_with("FAREBOX_GATEWAY_TOKEN holds a token that no header can carry"));
    assert!(!refused.contains("s3cret"));

    let bad_source = Environment::from([("FAREBOX_DATABASE_SOURCE", "root:s3cret")]);
    assert!(
        refusal(SMALL, &bad_source).starts_with("FAREBOX_DATABASE_SOURCE has no database name;")
    );
    let both = SMALL.replace("source:", "source_file: /dev/null, source:");
    assert_eq!(
        refusal(&both, &none),
        "data.database.source and data.database.source_file are both set; keep one of them"
    );
    let missing = SMALL.replace("source:", "max_connections: 4 #").replacen(" }", "\n }", 1);
    assert!(refusal(&missing, &none).starts_with("data.database.source is missing; set FAREBOX_"));
}

#[test]
fn a_sidecar_without_a_gateway_token_is_told_where_to_put_it() {
    assert_eq!(
        config(SMALL).require_gateway_tokens().unwrap_err().to_string(),
        "the gateway token is missing; set FAREBOX_GATEWAY_TOKEN, or server.internal.token_file to a file that holds it"
    );
}
