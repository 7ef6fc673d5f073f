//! From an order through Envoy to calls that the money pays for; and the script of the page for payment teams.

use std::process::Command;

use farebox_tests::payment::CALLBACK_SECRET;
use farebox_tests::sidecar::identity;
use farebox_tests::{Answer, Client, Stack, eventually, run};
use serde_json::{Value, json};

use super::{
    RECHARGE, anomalies, body, callback, credited_once, not_credited, order, ordered, paid, pay,
    recharge, says, shared, state,
};
use crate::payment_service::example_script;

/// Asks for an order through the gateway.
async fn through_gateway(stack: &Stack, user: &str, key: &str, body: &Value) -> Answer {
    let call = stack.client().post(RECHARGE).user(user).header("idempotency-key", key);
    call.json(body).send().await
}

#[test]
fn a_user_who_was_refused_orders_pays_and_is_served() {
    run(async {
        let stack = shared().await;
        let call = async || stack.client().get("/v1/asset/items").user("way").send().await;
        assert_eq!(call().await.status, 402, "no money yet");

        let answer = through_gateway(stack, "way", "k1", &body("12.50")).await;
        let order = order(&answer);
        let shown = answer.json();
        assert_eq!(shown["state"], "pending");
        assert_eq!(
            (&shown["amount"], &shown["currency"], &shown["payment_method"], &shown["user_id"]),
            (&json!("12.5"), &json!("CNY"), &json!("alipay"), &json!("way"))
        );
        assert!(order.id.starts_with("recharge_"), "{order:?}");

        // The page is where a browser goes.
        let url = shown["payment_url"].as_str().unwrap();
        let page = url.strip_prefix(&format!("http://{}", stack.payment.http_addr())).unwrap();
        let page = Client::http1(stack.payment.http_addr()).get(page).send().await;
        assert_eq!(page.status, 200);
        assert!(page.body.contains("12.50") && page.body.contains(&order.id), "{}", page.body);

        pay(stack, &order).await;
        eventually!(state(stack, &order.id) == "paid", "{}", stack.sidecar.log());
        credited_once(stack, &order.id, "12.5");
        eventually!(call().await.status == 200, "the money pays for calls");

        // The same request again is answered with the same order, as it stands now.
        let again = through_gateway(stack, "way", "k1", &body("12.5")).await;
        assert_eq!(super::order(&again).id, order.id);
        assert_eq!(again.json()["state"], "paid");
        let other = through_gateway(stack, "way", "k1", &body("12.51")).await;
        assert_eq!((other.status.as_u16(), other.code()), (409, 190_305), "{}", other.body);
        let payments = stack.payment.payments().await;
        assert_eq!(payments.iter().filter(|payment| payment["user_id"] == "way").count(), 1);
        // The payer's address is the one that the gateway saw; for callers on its own machine Envoy writes that machine's.
        let payment = stack.payment.payment_of(&order.id).await.unwrap();
        let address: Result<std::net::IpAddr, _> = payment["client_ip"].as_str().unwrap().parse();
        assert!(address.is_ok(), "{payment}");
        stack.invariants();
    });
}

#[test]
fn the_same_key_many_times_at_once_makes_one_order_and_one_payment() {
    run(async {
        let stack = shared().await;
        let body = body("3");
        let calls = (0..20).map(|_| through_gateway(stack, "twins", "same", &body));
        let answers = futures_util::future::join_all(calls).await;
        let ids: std::collections::BTreeSet<String> =
            answers.iter().map(|answer| order(answer).id).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        let payments = stack.payment.payments().await;
        assert_eq!(payments.iter().filter(|payment| payment["user_id"] == "twins").count(), 1);
    });
}

#[test]
fn only_the_gateway_says_who_calls() {
    run(async {
        let stack = shared().await;
        let order = ordered(stack, "mine", "5").await;
        let path = format!("/api/v1/billing/orders/{}", order.id);

        let nobody = stack.client().post(RECHARGE).header("idempotency-key", "k");
        assert_eq!(nobody.json(&body("1")).send().await.status, 401);
        // Whoever brings a token of his own is known by the gateway's word all the same.
        let (name, token) = identity("mine");
        let forged = stack.client().get(&path).header(name, &token);
        assert_eq!(forged.send().await.status, 401);
        let forged = stack.client().get(&path).header(name, &token).user("other");
        assert_eq!(forged.send().await.status, 404);

        let mine = stack.client().get(&path).user("mine").send().await;
        assert_eq!((mine.status.as_u16(), &mine.json()["order_id"]), (200, &json!(order.id)));
        let other = stack.client().get(&path).user("other").send().await;
        assert_eq!((other.status.as_u16(), other.code()), (404, 190_301), "{}", other.body);
        let list = stack.client().get("/api/v1/billing/orders").user("other").send().await;
        assert_eq!(list.json()["orders"], json!([]));

        // Without the gateway, the sidecar believes its signature alone.
        let direct = stack.sidecar.client().get(&path).header(name, "x.y.z").send().await;
        assert_eq!((direct.status.as_u16(), direct.code()), (401, 100_104), "{}", direct.body);
        let direct = stack.sidecar.client().get(&path).user("mine").send().await;
        assert_eq!((direct.status.as_u16(), direct.code()), (401, 100_101), "{}", direct.body);
        let twice = stack.sidecar.client().get(&path).asserted("mine").asserted("mine");
        assert_eq!(twice.send().await.status, 401);
        let mut strange = body("1");
        strange["user_id"] = json!("other");
        let stranger = recharge(&stack.sidecar, "mine", "k2", &strange).await;
        assert_eq!((stranger.status.as_u16(), stranger.code()), (403, 100_102));
        stack.invariants();
    });
}

#[test]
fn pages_of_orders_go_on_where_the_last_ended_whatever_is_made_meanwhile() {
    run(async {
        let stack = shared().await;
        let mut made = Vec::new();
        for _ in 0..5 {
            made.push(ordered(stack, "pages", "1").await.id);
        }
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/billing/orders?limit=2{cursor}");
            let page = stack.client().get(&path).user("pages").send().await.json();
            let ids = page["orders"].as_array().unwrap().iter();
            seen.extend(ids.map(|order| order["order_id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
            ordered(stack, "pages", "2").await;
        }
        made.sort();
        seen.sort();
        assert_eq!(seen, made);
        let list = stack.sidecar.cli(&["orders", "list", "--user", "pages"]).unwrap();
        assert!(made.iter().all(|id| list.contains(id)), "{list}");
    });
}

/// The fields as the predecessor's payment service wrote them, and its other spellings of a status.
#[test]
fn callbacks_may_use_the_predecessors_names() {
    run(async {
        let stack = shared().await;
        for (names, status) in [
            (["paymentId", "rechargeOrderId", "userId"], "success"),
            (["payment_id", "order_id", "user_id"], "PAYMENT_STATUS_SUCCESS"),
            (["payment_order_id", "orderId", "uid"], "Success"),
        ] {
            let order = ordered(stack, "names", "7.25").await;
            let mut fields =
                json!({ "payment_order_id": null, "order_id": null, "status": status });
            for (name, value) in names.iter().zip([order.payment.as_str(), &order.id, "names"]) {
                fields[*name] = json!(value);
            }
            let answer = callback(stack, &order, json!({ "fields": fields })).await;
            assert_eq!(answer.status, Some(200), "{names:?}: {}", answer.body);
            let expected = json!({ "success": true, "order_id": order.id, "state": "paid" });
            assert_eq!(answer.json(), expected);
            credited_once(stack, &order.id, "7.25");
        }
        let old = format!("http://{}/billing/v1/internal/callback", stack.sidecar.addresses().http);
        let order = ordered(stack, "names", "1").await;
        let change = json!({ "url": old, "fields": { "status": "SUCCESS", "amount": 1.00 } });
        assert_eq!(callback(stack, &order, change).await.status, Some(200));
        credited_once(stack, &order.id, "1");
    });
}

/// Two orders, and the payment of one of them named in callbacks for both.
#[test]
fn one_payment_pays_one_order() {
    run(async {
        let stack = shared().await;
        let (first, second) = (ordered(stack, "t16", "9").await, ordered(stack, "t16", "9").await);
        assert_eq!(says(stack, &first, "SUCCESS").await.status, Some(200));
        let change = json!({ "fields": { "status": "SUCCESS", "order_id": second.id } });
        let crossed = callback(stack, &first, change).await;
        assert_eq!((crossed.status, crossed.code()), (Some(422), 190_304), "{}", crossed.body);
        credited_once(stack, &first.id, "9");
        not_credited(stack, &second.id);
        assert_eq!(anomalies(stack, &second.id), [["payment", "1"]]);

        // An order that does not know its payment yet does not take another one's either.
        let forget = "UPDATE recharge_order SET payment_order_id = NULL, payment_url = NULL";
        stack.sql(&format!("{forget} WHERE order_id = '{}'", second.id));
        let change = json!({ "fields": { "status": "SUCCESS", "order_id": second.id } });
        let crossed = callback(stack, &first, change).await;
        assert_eq!((crossed.status, crossed.code()), (Some(422), 190_304), "{}", crossed.body);
        assert_eq!(anomalies(stack, &second.id), [["order", "1"], ["payment", "1"]]);
        not_credited(stack, &second.id);
        // Its own payment still pays it.
        assert_eq!(says(stack, &second, "SUCCESS").await.status, Some(200));
        credited_once(stack, &second.id, "9");
    });
}

#[test]
fn a_first_time_user_with_two_orders_paid_at_once_has_both() {
    run(async {
        let stack = shared().await;
        for round in 0..5 {
            let user = format!("first-{round}");
            let (one, two) = (ordered(stack, &user, "1").await, ordered(stack, &user, "2").await);
            let answers = tokio::join!(says(stack, &one, "SUCCESS"), says(stack, &two, "SUCCESS"));
            assert_eq!((answers.0.status, answers.1.status), (Some(200), Some(200)), "{answers:?}");
            assert_eq!(stack.account(&user).balance, "3");
        }
        stack.invariants();
    });
}

#[test]
fn the_example_for_payment_teams_credits_an_order() {
    run(async {
        let stack = shared().await;
        let order = ordered(stack, "script", "12.50").await;
        let sidecar = stack.sidecar.addresses().http;
        let mut shell = Command::new("sh");
        shell.args(["-c", &example_script()]);
        shell.env("NOTIFY_URL", format!("http://{sidecar}/internal/v1/billing/callback"));
        shell.env("CALLBACK_SECRET", CALLBACK_SECRET).env("AMOUNT", "12.50");
        shell.env("PAYMENT_ID", &order.payment).env("ORDER_ID", &order.id);
        let output = tokio::task::spawn_blocking(move || shell.output()).await.unwrap().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(printed.ends_with("\n200\n") && printed.contains(&order.id), "{output:?}");
        credited_once(stack, &order.id, "12.5");
    });
}

/// Outgoing events and amounts of an order that is shown later.
#[test]
fn operators_see_what_became_of_an_order() {
    run(async {
        let stack = shared().await;
        let order = paid(stack, "shown", "8").await;
        let shown = stack.sidecar.cli(&["orders", "show", &order.id, "--json"]).unwrap();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["state"], "paid");
        assert_eq!(shown["payment_id"], json!(order.payment));
        assert!(shown["credited_at"].is_string() && shown["paid_at"].is_string(), "{shown}");
        let path = format!("/admin/v1/orders/{}", order.id);
        assert_eq!(stack.sidecar.admin().get(&path).send().await.status, 401);
        let same = stack.sidecar.admin().get(&path).operator().send().await;
        assert_eq!(same.json(), shown);
        let list = stack.sidecar.admin().get("/admin/v1/orders?user=shown&state=paid").operator();
        let mut listed = shown.clone();
        let refunds = listed.as_object_mut().and_then(|order| order.remove("refunds"));
        assert_eq!(refunds, Some(json!([])), "{shown}");
        assert_eq!(list.send().await.json()["orders"], json!([listed]));
    });
}
