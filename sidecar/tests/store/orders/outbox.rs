//! Events that other systems hear.

use farebox_core::order::PaymentStatus;
use serde_json::{Value, json};

use super::{fixture, news, order, success};

#[tokio::test(flavor = "multi_thread")]
async fn a_credit_is_told_once_and_nothing_else_is() {
    let farebox = fixture().await;
    farebox.credit("u", "1").await;
    let id = order(&farebox.app, "u", "10").await;
    farebox.app.callback(&success(&id, "p1", "10.01")).await.unwrap_err();
    farebox.app.callback(&news(&id, "p1", "10", PaymentStatus::Pending)).await.unwrap();
    assert_eq!(farebox.count("outbox").await, "0");
    for _ in 0..3 {
        farebox.app.callback(&success(&id, "p1", "10")).await.unwrap();
    }
    farebox.app.callback(&success(&id, "p2", "10")).await.unwrap_err();
    let failed = order(&farebox.app, "u", "10").await;
    farebox.app.callback(&news(&failed, "p3", "10", PaymentStatus::Failed)).await.unwrap();

    let rows = "SELECT event_type, user_id, attempts, send_at <= UTC_TIMESTAMP(3), COALESCE(delivered_at, 'no'),
            CHAR_LENGTH(event_id) FROM outbox";
    assert_eq!(farebox.database.rows(rows).await, ["recharge.paid u 0 1 no 36"]);
    let payload = farebox.database.rows("SELECT payload_json FROM outbox").await;
    let mut payload: Value = serde_json::from_str(&payload[0]).unwrap();
    let credited_at = farebox.app.order(&id, None).await.unwrap().credited_at;
    assert_eq!(payload["timestamp"].take().as_str(), credited_at.as_deref());
    let data = json!({
        "order_id": id,
        "user_id": "u",
        "payment_id": "p1",
        "state": "paid",
        "amount": "10",
        "changed_by": "10",
        "currency": "CNY",
        "balance": "11",
    });
    assert_eq!(payload, json!({"type": "recharge.paid", "timestamp": null, "data": data}));
}
