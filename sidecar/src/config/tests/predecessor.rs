//! Files of billing-service, as each generation wrote them.

use super::*;

/// What a file's warnings are, one line each.
fn warnings(text: &str) -> Vec<String> {
    config(text).warnings.iter().map(ToString::to_string).collect()
}

const NEWEST: &str = include_str!("../predecessor.yaml");

/// Before there were apps, a scheduler in the file, and log files.
fn second() -> String {
    let until = |text: &str, key: &str| text.split(key).next().unwrap().to_owned();
    until(NEWEST, "  dev_mode").replace("-service:", ":")
}

/// Before there was a queue.
fn first() -> String {
    let (head, rest) = NEWEST.split_once("  rocketmq:").unwrap();
    let tail = rest.split_once("payment_service:").unwrap().1;
    let text = format!("{head}payment_service:{tail}");
    text.split("  dev_mode").next().unwrap().replace("-service:", ":")
}

const SOURCE: &str = "data.database.source is read without loc: times are UTC in the database, months are those of billing.time_zone, and the pool has limits of its own";

#[test]
fn each_generations_file_is_read_with_one_warning_per_key() {
    let grpc = "server.grpc has no effect: there is no gRPC listener";
    let queue = "data.rocketmq has no effect: no message queue is needed";
    assert_eq!(warnings(&first()), [grpc, SOURCE]);
    assert_eq!(warnings(&second()), [grpc, queue, SOURCE]);
    let log = |key: &str| format!("log.{key} has no effect: logs go to the standard error stream");
    let mut newest = vec![
        grpc.to_owned(),
        queue.to_owned(),
        "scheduler has no effect: free quotas renew themselves when a month begins".to_owned(),
    ];
    newest.extend(
        [
            "output",
            "server_file_path",
            "scheduler_file_path",
            "max_size",
            "max_age",
            "max_backups",
            "compress",
        ]
        .map(log),
    );
    newest.extend([
        "billing.free_app_ids has no effect: no app is free; give its account a balance".to_owned(),
        "billing.dev_mode has no effect: there is no mode in which everything is free".to_owned(),
        SOURCE.to_owned(),
    ]);
    assert_eq!(warnings(NEWEST), newest);
}

#[test]
fn what_each_key_says_arrives() {
    for (text, services) in [
        (first(), "asset, passport, payment"),
        (second(), "asset, passport, payment"),
        (NEWEST.to_owned(), "asset-service, passport-service, payment-service"),
    ] {
        let config = config(&text);
        assert_eq!(config.server.public.addr.to_string(), "0.0.0.0:8107");
        assert_eq!(config.server.public.timeout, Duration::from_secs(1));
        assert_eq!(config.database.source.to_string(), "root@tcp(127.0.0.1:3306)/billing_service");
        let redis = config.redis.unwrap();
        assert_eq!(redis.addr.to_string(), "127.0.0.1:6379");
        assert_eq!(
            (redis.read_timeout, redis.write_timeout),
            (Duration::from_millis(200), Duration::from_millis(200))
        );
        let names: Vec<String> = config.billing.prices.keys().map(ToString::to_string).collect();
        assert_eq!(names.join(", "), services);
        let prices: Vec<String> = config.billing.prices.values().map(ToString::to_string).collect();
        assert_eq!(prices, ["0.05", "0.01", "0.1"]);
        assert_eq!(
            config.billing.free_quotas.values().copied().collect::<Vec<_>>(),
            [1_000, 10_000, 1_000]
        );
        assert_eq!(config.billing.balance_low_threshold.to_string(), "10");
        assert_eq!(config.billing.quota_low_percent_threshold, Decimal::from(20));
        assert_eq!(config.payment.unwrap().grpc_addr.to_string(), "127.0.0.1:9101");
    }
}

#[test]
fn apps_that_were_free_are_counted_with_what_to_do() {
    let ids = "free_app_ids: [00000000-0000-0000-0000-000000000001, 00000000-0000-0000-0000-000000000002]";
    let told = warnings(&NEWEST.replace("free_app_ids: []", ids));
    let expected = "billing.free_app_ids has no effect: the calls of 2 apps were free and are charged here; give their routes a rule with `service: none` (free) or `shadow: true` (charged, never refused), or their accounts a balance";
    assert!(told.iter().any(|line| line == expected), "{told:?}");
}

#[test]
fn everything_free_is_refused() {
    for value in ["true", "yes", "1", ""] {
        let text = NEWEST.replace("dev_mode: false", &format!("dev_mode: {value}"));
        let refused = refusal(&text, &Environment::default());
        assert!(
            refused.ends_with("everything would be free; remove the key"),
            "{value}: {refused}"
        );
    }
}

#[test]
fn thresholds_that_are_not_above_zero_are_what_they_were_or_told() {
    let text = NEWEST
        .replace("balance_low_threshold: 10.0", "balance_low_threshold: -1")
        .replace("threshold: 20.0", "threshold: 0");
    let found = config(&text);
    assert_eq!(found.billing.balance_low_threshold.to_string(), "10");
    assert_eq!(found.billing.quota_low_percent_threshold, Decimal::ZERO);
    let told: Vec<String> = found
        .warnings
        .iter()
        .map(ToString::to_string)
        .filter(|line| line.contains("threshold"))
        .collect();
    assert_eq!(
        told,
        [
            "billing.balance_low_threshold is -1, and taken for 10 as billing-service did",
            "billing.quota_low_percent_threshold is 0: nothing is ever low; billing-service took 0 for 20",
        ]
    );
}

#[test]
fn parameters_of_a_source_are_told_by_name_alone() {
    let text = NEWEST.replace("loc=Local", "loc=Asia%2FShanghai&timeout=5s&readTimeout=3s");
    let told = warnings(&text).pop().unwrap();
    assert!(
        told.starts_with("data.database.source is read without loc, timeout, readTimeout: "),
        "{told}"
    );
    assert!(!told.contains("Shanghai") && !told.contains("root"));
    assert_eq!(warnings(SMALL), [""; 0]);
}
