//! What `farebox explain` tells: the whole chain, and nothing of others.

use farebox_sidecar::app::Explanation;

use crate::calls::{deduct, refund};
use crate::fixture::{Fixture, used, want};
use crate::orders;

impl Fixture {
    async fn explain(&self, id: &str) -> Explanation {
        let mut explanations = self.app.explain(id).await.unwrap();
        assert_eq!(explanations.len(), 1, "{id}: {explanations:?}");
        explanations.remove(0)
    }
}

/// The value under a name in each row of a part.
fn values<'e>(explanation: &'e Explanation, title: &str, name: &str) -> Vec<&'e str> {
    let part = explanation.parts.iter().find(|part| part.title.starts_with(title));
    let rows = &part.unwrap_or_else(|| panic!("no {title}: {explanation:?}")).rows;
    let value = |row: &'e farebox_sidecar::app::ExplainedRow| {
        row.0.iter().find(|(column, _)| column == name).map_or("-", |(_, value)| value.as_str())
    };
    rows.iter().map(value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_leads_to_its_lease_message_ledger_and_price() {
    let farebox = Fixture::new(&[("asset", 1)], &[("asset", "0.5")]).await;
    farebox.credit("u", "10").await;
    let mut edge = farebox.gateway("edge-1");
    let lease = edge.want(want("u", "asset", 4, 4)).await.unwrap().lease.to_string();
    edge.report(used(lease.parse().unwrap(), 3)).await;
    let record = farebox.view("u").await.records[0].id.clone();

    let told = farebox.explain(&record).await;
    assert_eq!(told.kind, "record");
    assert_eq!(values(&told, "billing record", "source"), ["lease"]);
    let booked_at = values(&told, "billing record", "booked at")[0];
    assert!(booked_at.ends_with('Z'), "{booked_at}");
    chrono::DateTime::parse_from_rfc3339(booked_at).unwrap();
    assert_eq!(values(&told, "lease", "lease"), [lease.as_str()]);
    assert_eq!(values(&told, "sync message", "gateway"), ["edge-1"]);
    assert_eq!(values(&told, "sync message", "instance"), [edge.request.instance.as_str()]);
    assert_eq!(values(&told, "sync message", "seq"), ["2"]);
    assert_eq!(values(&told, "ledger", "book"), ["user", "earnings:asset"]);
    assert_eq!(values(&told, "ledger", "balance after"), ["9.000000000", "-"]);
    assert_eq!(values(&told, "price", "price"), ["0.500000000"]);

    farebox.expire(lease.parse().unwrap()).await;
    let told = farebox.explain(&lease).await;
    assert_eq!((told.kind, values(&told, "lease", "state")), ("lease", vec!["expired"]));
    let why = values(&told, "lease", "why")[0];
    let since = why.strip_prefix("its gateway was silent until ").unwrap();
    chrono::DateTime::parse_from_rfc3339(since).unwrap();
    assert_eq!(values(&told, "charged in all", "units"), ["3"]);
    assert_eq!(values(&told, "newest records", "record"), [record.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deduct_leads_to_its_key_and_its_refunds() {
    let farebox = Fixture::new(&[], &[("asset", "0.5")]).await;
    farebox.credit("u", "10").await;
    let record = farebox.record(deduct("call-7", "u", "asset", 4)).await;
    let other = farebox.record(deduct("call-8", "u", "asset", 1)).await;
    farebox.told(refund("case-1", &record, Some(1))).await;
    let told = farebox.explain(&record).await;
    assert!(values(&told, "request", "key")[0].contains("call-7"));
    assert_eq!(values(&told, "refunds", "amount"), ["0.500000000"]);
    assert_eq!(values(&told, "refunds", "balance after"), ["8.000000000"]);
    let back = values(&told, "refunds", "refund")[0].to_owned();
    let of_refund = farebox.explain(&back).await;
    assert_eq!(of_refund.kind, "refund");
    assert_eq!(values(&of_refund, "refund of a charge", "record"), [record.as_str()]);
    assert_eq!(values(&of_refund, "ledger", "kind"), ["charge_refund", "charge_refund"]);
    let told = farebox.explain(&other).await;
    assert!(values(&told, "request", "key")[0].contains("call-8"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_leads_to_its_payment_ledger_and_refunds() {
    let farebox = orders::fixture().await;
    let order = orders::paid(&farebox.app, "alice", "2", "p-1").await;
    let back = orders::refund(&farebox.app, &order, "1").await;
    let of_refund = farebox.explain(&back).await;
    assert_eq!(of_refund.kind, "refund");
    assert_eq!(values(&of_refund, "refund of an order", "order"), [order.as_str()]);
    assert_eq!(values(&of_refund, "ledger", "amount"), ["-1.000000000", "1.000000000"]);
    let told = farebox.explain(&order).await;
    assert_eq!((told.kind, values(&told, "payment", "payment")), ("order", vec!["p-1"]));
    assert_eq!(values(&told, "ledger", "amount"), ["-2.000000000", "2.000000000"]);
    assert_eq!(values(&told, "refunds", "amount"), ["1.000000000"]);
    assert_eq!(values(&told, "ledger of refunds", "book"), ["user", "payments"]);
    assert_eq!(values(&told, "events", "type"), ["recharge.paid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_is_not_explained() {
    let farebox = Fixture::new(&[], &[]).await;
    for id in ["", "7", "99999999999999999999", "' OR 1 = 1 -- ", "recharge_x", &"x".repeat(300)] {
        assert_eq!(farebox.app.explain(id).await.unwrap(), [], "{id}");
    }
}
