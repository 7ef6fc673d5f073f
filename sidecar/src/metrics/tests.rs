//! Every fact is seen, under its name, from the start.

use std::collections::BTreeSet;

use farebox_core::charge::PaidBy;
use farebox_core::code::Code;
use farebox_core::grant::Split;
use farebox_core::lease::OnLost;
use farebox_core::order::{Mismatch, State};

use super::*;

fn services() -> Services {
    Services::register(&["asset", "payment"].map(|name| name.parse().unwrap()))
}

/// What a process that did this would show.
fn shown(work: impl FnOnce()) -> String {
    let recorder = builder().unwrap().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        register();
        services();
        work();
    });
    Metrics(recorder.handle()).render()
}

fn everything() {
    order(State::PartlyRefunded);
    recharge(RechargeStatus::Success, Nanos::new(10_500_000_000));
    recharge(RechargeStatus::Success, Nanos::new(250_000_000));
    recharge_failed();
    recharge_duration(RechargeOperation::Create, Duration::from_millis(30));
    order_create_duration(Duration::from_secs(60));
    callback(CallbackResult::Credited);
    callback(CallbackResult::Credited);
    anomaly(Mismatch::UnknownOrder);
    credit_delay(CreditSource::Poller, Duration::from_secs(3_600));
    payment_call(PaymentCall::Get, PaymentCallResult::Unreachable, Duration::from_secs(5));
    refund(RefundStatus::Pending);
    outbox_pending(7);
    charging();
    lock_acquire(LockResult::Failed, Duration::from_millis(30));
    hint(HintResult::Hit);
    transaction_gave_way(GaveWay::SnapshotConflict);
    transaction_gave_way(GaveWay::Raced);
    transaction_exhausted();
    shed(Shed::Sync);
    operator_refused(OperatorRefusal::Role);
    accept_failed(ListenerName::Public);
    connections(ListenerName::Public, 3);
    left_out(SyncItem::Report);
    sync_items(3);
    sync_duration(Duration::from_millis(30));
    granted(500);
    accounts();
    quotas_prepared(3);
    quotas_prepared_at(1_800_000_000);
    quotas_unprepared(Duration::from_secs(60));
    standing();
    lease_lost(OnLost::Granted, 7, Nanos::new(3_500_000_000));
    invariant_violations("m1_held_money", 2);
    invariant_checked("m1_held_money", 5);
    invariant_checked_at("touched", 1_800_000_000);
    invariant_unchecked(Duration::from_millis(1_500));
}

fn accounts() {
    account_told();
    balance_updated(BalanceUpdate::Recharge, 1);
    balances_low(2);
    accounts_frozen(1);
    quotas_low(&services().label(&"asset".parse().unwrap()), 3);
}

fn standing() {
    lent(Lent {
        leases: 4,
        free_units: 5,
        paid_units: 6,
        amount: Nanos::new(1_500_000_000),
        lag: Duration::from_millis(2_500),
        silent_gateways: 1,
    });
    outbox_lag(Duration::from_secs(9));
    anomalies(2);
    connections_to_database(3, 1);
    job_held_until("reclaim".to_owned(), 1_800_000_000);
    standing_seen_at(1_800_000_000);
}

fn charging() {
    let services = services();
    let asset = services.label(&"asset".parse().unwrap());
    let stranger = services.label(&"made-up-by-a-caller".parse().unwrap());
    quota_check(&asset, CheckResult::Allowed, Duration::from_millis(2));
    quota_check(&stranger, CheckResult::Error, Duration::from_millis(2));
    for (free, paid, taken) in [(3, 2, 200_000_000), (0, 1, 50_000_000), (3, 0, 0)] {
        let units = Split { free, paid };
        charged(&asset, PaidBy::of(units).as_str(), 1, units, Nanos::new(taken));
    }
    refused(Code::InsufficientBalance.number());
    refused(Code::AccountFrozen.number());
    refused(Code::AccountBusy.number());
    deduct_duration(&asset, Duration::from_millis(30));
    deduct_batch(3);
    deduct_queue(12);
}

/// Names with labels, without values.
fn series(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name).collect()
}

fn has(lines: &[&str]) {
    let text = shown(everything);
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line} is not in\n{text}");
    }
}

#[test]
fn every_fact_is_seen_under_its_agreed_name() {
    has(&[
        r#"billing_recharge_order_total{status="partly_refunded"} 1"#,
        r#"billing_recharge_total{status="success"} 2"#,
        r#"billing_recharge_amount_total{status="success"} 10.75"#,
        "billing_recharge_failed_total 1",
        r#"billing_recharge_duration_seconds_bucket{operation="create",le="0.025"} 0"#,
        r#"billing_recharge_duration_seconds_bucket{operation="create",le="0.05"} 1"#,
        r#"billing_recharge_order_create_duration_seconds_bucket{le="10"} 0"#,
        r#"billing_recharge_order_create_duration_seconds_bucket{le="+Inf"} 1"#,
        "billing_recharge_order_create_duration_seconds_sum 60",
        r#"billing_recharge_callback_total{result="credited"} 2"#,
        r#"billing_payment_anomaly_total{kind="unknown_order"} 1"#,
        r#"billing_recharge_credit_delay_seconds_bucket{source="poller",le="900"} 0"#,
        r#"billing_recharge_credit_delay_seconds_bucket{source="poller",le="3600"} 1"#,
        r#"billing_payment_call_total{method="get",result="unreachable"} 1"#,
        r#"billing_payment_call_duration_seconds_count{method="get"} 1"#,
        r#"billing_refund_total{status="pending"} 1"#,
        "billing_outbox_pending 7",
        r#"billing_lock_acquire_total{result="failed"} 1"#,
        r#"billing_lock_acquire_duration_seconds_bucket{le="0.025"} 0"#,
        r#"billing_lock_acquire_duration_seconds_bucket{le="0.05"} 1"#,
        r#"billing_hint_total{result="hit"} 1"#,
        r#"billing_transaction_retry_total{code="1020"} 1"#,
        r#"billing_transaction_retry_total{code="raced"} 1"#,
        "billing_transaction_exhausted_total 1",
        r#"billing_shed_total{what="sync"} 1"#,
        r#"billing_operator_refused_total{why="role"} 1"#,
        r#"billing_accept_failed_total{listener="public"} 1"#,
        r#"billing_connections{listener="public"} 3"#,
        r#"billing_sync_left_out_total{item="report"} 1"#,
        r#"billing_lease_lost_units_total{on_lost="granted"} 7"#,
        r#"billing_lease_lost_amount_total{on_lost="granted"} 3.5"#,
        r#"billing_invariant_violations{invariant="m1_held_money"} 2"#,
        r#"billing_invariant_checked_total{invariant="m1_held_money"} 5"#,
        r#"billing_invariant_last_check_timestamp_seconds{scope="touched"} 1800000000"#,
        "billing_invariant_unchecked_seconds 1.5",
    ]);
}

#[test]
fn charges_accounts_and_what_stands_are_seen_under_their_agreed_names() {
    has(&[
        r#"billing_quota_check_total{service="asset",result="allowed"} 1"#,
        r#"billing_quota_check_total{service="unknown",result="error"} 1"#,
        r#"billing_quota_check_duration_seconds_count{service="asset"} 1"#,
        r#"billing_deduct_quota_total{service="asset",type="free"} 1"#,
        r#"billing_deduct_quota_amount_total{service="asset",type="free"} 0"#,
        r#"billing_deduct_quota_amount_total{service="asset",type="balance"} 0.05"#,
        r#"billing_deduct_quota_amount_total{service="asset",type="mixed"} 0.2"#,
        r#"billing_charged_units_total{service="asset",paid_by="free"} 6"#,
        r#"billing_charged_units_total{service="asset",paid_by="balance"} 3"#,
        r#"billing_refused_total{code="190102"} 1"#,
        r#"billing_refused_total{code="190104"} 1"#,
        r#"billing_refused_total{code="other"} 1"#,
        r#"billing_balance_update_total{operation="deduct"} 2"#,
        r#"billing_balance_update_total{operation="recharge"} 1"#,
        "billing_balance_query_total 1",
        "billing_quota_query_total 1",
        "billing_accounts_frozen 1",
        "billing_balance_low_alert 2",
        r#"billing_quota_low_alert{service="asset"} 3"#,
        "billing_leases_open 4",
        r#"billing_lease_outstanding_units{paid_by="balance"} 6"#,
        "billing_lease_outstanding_amount 1.5",
        "billing_settle_lag_seconds 2.5",
        "billing_gateways_silent 1",
        "billing_outbox_lag_seconds 9",
        "billing_payment_anomalies 2",
        r#"billing_database_connections{state="busy"} 3"#,
        r#"billing_job_held_until_timestamp_seconds{name="reclaim"} 1800000000"#,
        "billing_standing_timestamp_seconds 1800000000",
        r#"billing_sync_items_bucket{le="5"} 1"#,
        r#"billing_sync_duration_seconds_bucket{le="0.05"} 1"#,
        r#"billing_grant_units_bucket{le="1000"} 1"#,
        r#"billing_deduct_quota_duration_seconds_bucket{service="asset",le="0.05"} 1"#,
        r#"billing_deduct_batch_size_bucket{le="2"} 0"#,
        r#"billing_deduct_batch_size_bucket{le="5"} 1"#,
        "billing_deduct_queue 12",
    ]);
}

#[test]
fn every_series_but_what_the_database_knows_is_there_from_the_start() {
    let (before, after) = (shown(|| ()), shown(everything));
    let (before, after) = (series(&before), series(&after));
    let new: Vec<_> = after.difference(&before).collect();
    let asked = [
        "billing_accounts_frozen",
        "billing_balance_low_alert",
        r#"billing_database_connections{state="busy"}"#,
        r#"billing_database_connections{state="idle"}"#,
        "billing_gateways_silent",
        r#"billing_invariant_last_check_timestamp_seconds{scope="touched"}"#,
        "billing_invariant_unchecked_seconds",
        r#"billing_invariant_violations{invariant="m1_held_money"}"#,
        r#"billing_job_held_until_timestamp_seconds{name="reclaim"}"#,
        "billing_lease_outstanding_amount",
        r#"billing_lease_outstanding_units{paid_by="balance"}"#,
        r#"billing_lease_outstanding_units{paid_by="free"}"#,
        "billing_leases_open",
        "billing_outbox_lag_seconds",
        "billing_outbox_pending",
        "billing_payment_anomalies",
        r#"billing_quota_low_alert{service="asset"}"#,
        "billing_quota_prepared_timestamp_seconds",
        "billing_quota_unprepared_seconds",
        "billing_settle_lag_seconds",
        "billing_standing_timestamp_seconds",
    ];
    assert_eq!(new, asked.each_ref());
}

/// The predecessor's users have graphs of these.
#[test]
fn names_of_billing_service_are_there() {
    let text = shown(everything);
    for name in [
        "billing_quota_check_total",
        "billing_quota_check_duration_seconds",
        "billing_deduct_quota_total",
        "billing_deduct_quota_duration_seconds",
        "billing_deduct_quota_amount_total",
        "billing_balance_query_total",
        "billing_balance_update_total",
        "billing_balance_low_alert",
        "billing_quota_query_total",
        "billing_quota_low_alert",
        "billing_recharge_total",
        "billing_recharge_amount_total",
        "billing_recharge_duration_seconds",
        "billing_recharge_failed_total",
        "billing_recharge_order_total",
        "billing_recharge_order_create_duration_seconds",
        "billing_lock_acquire_total",
        "billing_lock_acquire_duration_seconds",
    ] {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
    }
}

#[test]
fn every_metric_says_what_it_is_and_an_amount_is_a_counter() {
    let text = shown(everything);
    let after = |start: &str| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(start));
        lines.filter_map(|rest| rest.split(' ').next()).map(str::to_owned).collect()
    };
    assert_eq!(after("# HELP "), after("# TYPE "));
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        let is_histogram = |histogram: &Histogram| line.contains(&format!(" {} ", histogram.name));
        let expected = match line {
            line if line.contains("_total ") => "counter",
            _ if all_histograms().any(is_histogram) => "histogram",
            _ => "gauge",
        };
        assert!(line.ends_with(expected), "{line}");
    }
}

#[test]
fn a_second_installation_is_the_first_one() {
    let (first, second) = (install().unwrap(), install().unwrap());
    let before = value(&second.render());
    order(State::Closed);
    // Other tests of this process may count as well.
    assert!(before < value(&first.render()) && before < value(&second.render()));
}

fn value(text: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(r#"billing_recharge_order_total{status="closed"} "#));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn upkeep_ends_with_its_process() {
    let (stop, stopping) = watch::channel(false);
    let upkeep = tokio::spawn(Metrics::detached().unwrap().upkeep(stopping));
    stop.send(true).unwrap();
    upkeep.await.unwrap();
}

/// The lines of the document's table, as the code says them.
fn table() -> Vec<String> {
    let text = shown(everything);
    let kind_of = |name: &str| {
        let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        kinds.into_iter().find(|(found, _)| *found == name).map_or("", |(_, kind)| kind)
    };
    let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    let mut lines: Vec<String> = helps
        .map(|(name, help)| format!("| `{name}` | {} | {} |", kind_of(name), help.trim()))
        .collect();
    lines.sort();
    lines
}

#[test]
fn the_document_lists_every_metric_and_no_other() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let document = std::fs::read_to_string(path).unwrap();
    let written: Vec<&str> =
        document.lines().filter(|line| line.starts_with("| `billing_")).collect();
    let expected = table();
    assert_eq!(written, expected, "docs/metrics.md must have\n{}", expected.join("\n"));
}
