//! What can be ordered: every method, every amount to the last minor unit, the currency's decimals.

use farebox_tests::{Plan, eventually, run};
use serde_json::{Value, json};

use super::{body, order, pay, recharge, shared, start, state};

#[test]
fn every_method_is_taken_and_no_other() {
    run(async {
        let stack = shared().await;
        for (said, taken) in [
            ("alipay", "alipay"),
            ("wechatpay", "wechatpay"),
            ("wechat", "wechatpay"),
            ("stripe", "stripe"),
            ("paypal", "paypal"),
            ("applepay", "applepay"),
            ("googlepay", "googlepay"),
        ] {
            let body = json!({ "amount": "1", "currency": "CNY", "payment_method": said });
            let answer = recharge(&stack.sidecar, "methods", said, &body).await;
            let payment = stack.payment.payment_of(&order(&answer).id).await.unwrap();
            assert_eq!(
                (&answer.json()["payment_method"], &payment["method"]),
                (&json!(taken), &json!(taken))
            );
        }
        for (field, value, code) in [
            ("payment_method", json!("bitcoin"), 100_001),
            ("payment_method", json!("Alipay"), 100_001),
            ("payment_method", json!(""), 100_001),
            ("payment_method", Value::Null, 100_001),
            ("amount", json!("0"), 100_001),
            ("amount", json!("0.001"), 100_001),
            ("amount", json!("1.001"), 100_001),
            ("amount", json!("-1"), 100_001),
            ("amount", json!("1000000"), 100_001),
            ("amount", json!("1e2"), 100_001),
            ("amount", json!("ten"), 100_001),
            ("amount", json!(true), 100_001),
            ("amount", Value::Null, 100_001),
            ("currency", json!("USD"), 190_503),
            ("currency", json!(""), 190_503),
            ("return_url", json!("javascript:alert(1)"), 100_001),
        ] {
            let mut body = body("1");
            body[field] = value.clone();
            let answer = recharge(&stack.sidecar, "methods", "refused", &body).await;
            assert_eq!(
                (answer.status.as_u16(), answer.code()),
                (400, code),
                "{field} {value}: {}",
                answer.body
            );
            assert_eq!(answer.json()["field"], field, "{value}: {}", answer.body);
        }
        let without = json!({ "amount": "1", "payment_method": "alipay" });
        let answer = recharge(&stack.sidecar, "methods", "refused", &without).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, 190_503), "{}", answer.body);
        let unknown =
            json!({ "amount": "1", "currency": "CNY", "payment_method": "alipay", "coupon": 1 });
        assert_eq!(recharge(&stack.sidecar, "methods", "refused", &unknown).await.status, 400);
        let made = "SELECT COUNT(*) FROM recharge_order WHERE user_id = 'methods'";
        assert_eq!(stack.sql_one(made), "7", "what was refused has left nothing");
    });
}

#[test]
fn an_order_has_a_key_that_can_be_read() {
    run(async {
        let stack = shared().await;
        let call =
            || stack.sidecar.client().post(super::RECHARGE).asserted("keys").json(&body("1"));
        for call in [
            call(),
            call().header("idempotency-key", ""),
            call().header("idempotency-key", "a b"),
            call().header("idempotency-key", &"k".repeat(256)),
            call().header("idempotency-key", "a").header("idempotency-key", "b"),
        ] {
            let answer = call.send().await;
            assert_eq!((answer.status.as_u16(), answer.code()), (400, 100_001), "{}", answer.body);
            assert_eq!(answer.json()["field"], "Idempotency-Key", "{}", answer.body);
        }
        let huge =
            call().header("idempotency-key", "huge").body("x".repeat(17 * 1_024)).send().await;
        assert_eq!(huge.status, 400, "{}", huge.body);
    });
}

#[test]
fn amounts_arrive_to_the_last_minor_unit_quoted_or_not() {
    run(async {
        let stack = shared().await;
        for (amount, minor) in [
            ("0.01", 1),
            ("0.07", 7),
            ("0.29", 29),
            ("1.15", 115),
            ("4.35", 435),
            ("19.99", 1_999),
            ("8.2", 820),
            ("1001.1", 100_110),
            ("64.10", 6_410),
            ("999999.99", 99_999_999),
        ] {
            let number: Value = serde_json::from_str(amount).unwrap();
            for (kind, value) in [("text", json!(amount)), ("number", number)] {
                let mut body = body(amount);
                body["amount"] = value;
                let answer =
                    recharge(&stack.sidecar, "minor", &format!("{amount}-{kind}"), &body).await;
                let payment = stack.payment.payment_of(&order(&answer).id).await.unwrap();
                assert_eq!(payment["amount_minor"], minor, "{amount} as {kind}");
            }
        }
        let sum = "SELECT SUM(amount) FROM recharge_order WHERE user_id = 'minor'";
        assert_eq!(stack.sql_one(sum), "2002198.500000000");
    });
}

#[test]
fn a_currency_without_decimals_is_paid_in_whole_coins() {
    run(async {
        let stack = start(Plan::reference().without_gateway().currency("JPY")).await;
        let body = |amount: &str| json!({ "amount": amount, "currency": "jpy", "payment_method": "stripe" });
        let made = order(&recharge(&stack.sidecar, "yen", "k", &body("100")).await);
        let payment = stack.payment.payment_of(&made.id).await.unwrap();
        assert_eq!((&payment["amount_minor"], &payment["currency"]), (&json!(100), &json!("JPY")));
        for amount in ["100.5", "0.01", "0.5"] {
            let answer = recharge(&stack.sidecar, "yen", "k2", &body(amount)).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (400, 100_001), "{}", answer.body);
        }
        pay(&stack, &made).await;
        eventually!(state(&stack, &made.id) == "paid", "{}", stack.sidecar.log());
        assert_eq!(stack.account("yen").balance, "100");
        stack.invariants();
    });
}
