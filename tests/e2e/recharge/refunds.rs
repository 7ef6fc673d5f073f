//! Money goes back: never more than came in, never more than is there unless the operator says so, and never twice.

use farebox_tests::{Answer, Stack, eventually, run};
use serde_json::{Value, json};

use super::{Order, callback, order, ordered, paid, pay, recharge, says, state, unruly};

/// Asks for a refund as an operator does.
async fn refund(stack: &Stack, order: &Order, key: &str, body: Value) -> Answer {
    let path = format!("/admin/v1/orders/{}/refund", order.id);
    let call = stack.sidecar.admin().post(&path).operator().header("idempotency-key", key);
    call.json(&body).send().await
}

/// The refunds of an order at the payment service: amount in minor units and status.
async fn refunds_of(stack: &Stack, order: &Order) -> Vec<(i64, String)> {
    let payment = stack.payment.payment_of(&order.id).await.unwrap();
    let refunds = payment["refunds"].as_array().unwrap().iter();
    let text = |refund: &Value| refund["outcome"].as_str().unwrap_or_default().to_owned();
    refunds.map(|one| (one["amount_minor"].as_i64().unwrap(), text(one))).collect()
}

/// Balance and debt of an account.
fn money(stack: &Stack, user: &str) -> (String, String) {
    let account = stack.account(user);
    (account.balance, account.receivable)
}

fn is(balance: &str, receivable: &str) -> (String, String) {
    (balance.to_owned(), receivable.to_owned())
}

/// Has the payment service asked for pending refunds of an order now.
/// Asks for a refund, again under its key while its end is not known: on a busy machine the payment service may answer too
/// late for the first request.
async fn ended_refund(stack: &Stack, order: &Order, key: &str, body: Value) -> Answer {
    let mut answer = refund(stack, order, key, body.clone()).await;
    eventually!(
        {
            if answer.status == 202 {
                ask_now(stack, order);
                answer = refund(stack, order, key, body.clone()).await;
            }
            answer.status != 202
        },
        "the refund ends"
    );
    answer
}

fn ask_now(stack: &Stack, order: &Order) {
    stack.sql(&format!(
        "UPDATE recharge_refund SET ask_at = UTC_TIMESTAMP(3) WHERE order_id = '{}' AND state = 'pending'",
        order.id
    ));
}

#[test]
fn a_part_goes_back_and_then_the_rest_and_no_more() {
    run(async {
        let stack = unruly().await;
        let order = paid(&stack, "part", "10").await;
        let part = json!({ "amount": "4", "reason": "half happy" });
        let first = ended_refund(&stack, &order, "r1", part.clone()).await;
        assert_eq!(first.status, 200, "{}", first.body);
        assert_eq!(
            (&first.json()["state"], &first.json()["amount"]),
            (&json!("done"), &json!("4"))
        );
        assert_eq!(state(&stack, &order.id), "partly_refunded");
        // The same key again is the same refund, also at the payment service; for another one it is no good.
        let again = refund(&stack, &order, "r1", part).await;
        assert_eq!((again.status, again.json()), (first.status, first.json()));
        assert_eq!(refunds_of(&stack, &order).await.len(), 1);
        let other = json!({ "amount": "3", "reason": "half happy" });
        let other = refund(&stack, &order, "r1", other).await;
        assert_eq!((other.status.as_u16(), other.code()), (409, 100_302), "{}", other.body);

        let much = refund(&stack, &order, "r2", json!({ "amount": 6.01, "reason": "x" })).await;
        assert_eq!(
            (much.status.as_u16(), &much.json()["field"]),
            (409, &json!("amount")),
            "{}",
            much.body
        );
        let cli = ["orders", "refund", &order.id, "--reason", "all of it", "--key", "r3", "--json"];
        let rest: Value = serde_json::from_str(&stack.sidecar.cli(&cli).unwrap()).unwrap();
        assert_eq!((&rest["state"], &rest["amount"]), (&json!("done"), &json!("6")));
        stack.sidecar.cli(&cli).unwrap();
        assert_eq!(state(&stack, &order.id), "refunded");
        let more = refund(&stack, &order, "r4", json!({ "reason": "x" })).await;
        assert_eq!(more.status, 409, "{}", more.body);
        let done = ["success", "success"].map(str::to_owned);
        assert_eq!(
            refunds_of(&stack, &order).await,
            [400, 600].into_iter().zip(done).collect::<Vec<_>>()
        );
        assert_eq!(money(&stack, "part"), is("0", "0"));
        // What the payment service tells about it is no news.
        for status in ["PARTIALLY_REFUNDED", "REFUNDED", "SUCCESS"] {
            assert_eq!(says(&stack, &order, status).await.status, Some(200), "{status}");
        }
        assert_eq!(money(&stack, "part"), is("0", "0"));
        let actions = "SELECT COUNT(*) FROM audit_log WHERE action = 'order.refund' AND subject";
        assert_eq!(stack.sql_one(&format!("{actions} = '{}'", order.id)), "2");
        stack.invariants();
    });
}

#[test]
fn the_same_refund_many_times_at_once_is_one() {
    run(async {
        let stack = unruly().await;
        let order = paid(&stack, "eager", "10").await;
        let same = (0..10)
            .map(|_| refund(&stack, &order, "same", json!({ "amount": "2", "reason": "x" })));
        for answer in futures_util::future::join_all(same).await {
            assert!([200, 202].contains(&answer.status.as_u16()), "{}", answer.body);
        }
        // Different ones may take together what is there, and no more.
        let each = (0..10).map(async |number| {
            refund(&stack, &order, &format!("k{number}"), json!({ "amount": "3", "reason": "x" }))
                .await
        });
        let answers = futures_util::future::join_all(each).await;
        let taken = answers.iter().filter(|answer| answer.status.is_success()).count();
        assert_eq!(taken, 2, "{answers:?}");
        assert!(answers.iter().all(|answer| answer.status != 500), "{answers:?}");
        assert_eq!(money(&stack, "eager"), is("2", "0"));
        let at_the_payment_service: i64 =
            refunds_of(&stack, &order).await.iter().map(|(amount, _)| amount).sum();
        assert_eq!(at_the_payment_service, 800);
        stack.invariants();
    });
}

#[test]
fn money_that_was_spent_is_owed_if_the_operator_says_so() {
    run(async {
        let stack = unruly().await;
        let order = paid(&stack, "spender", "10").await;
        stack.sidecar.cli(&["account", "credit", "spender", "-7", "--reason", "spent"]).unwrap();
        let spent = refund(&stack, &order, "r1", json!({ "reason": "x" })).await;
        assert_eq!(
            (spent.status.as_u16(), &spent.json()["field"]),
            (409, &json!("amount")),
            "{}",
            spent.body
        );
        let detail = spent.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains("3 available") && detail.contains("allow_receivable"), "{detail}");
        assert_eq!(money(&stack, "spender"), is("3", "0"));
        let owed = json!({ "reason": "x", "allow_receivable": true });
        let owed = ended_refund(&stack, &order, "r2", owed).await;
        assert_eq!(
            (owed.status.as_u16(), &owed.json()["owed"]),
            (200, &json!("7")),
            "{}",
            owed.body
        );
        assert_eq!(money(&stack, "spender"), is("0", "7"));
        stack.invariants();
        // The next money pays the debt first.
        paid(&stack, "spender", "20").await;
        assert_eq!(money(&stack, "spender"), is("13", "0"));
        stack.invariants();
    });
}

#[test]
fn a_refund_on_its_way_is_asked_for_until_it_has_ended() {
    run(async {
        let stack = unruly().await;
        for (outcome, state_of_refund, state_of_order, balance) in
            [("success", "done", "partly_refunded", "6"), ("failed", "failed", "paid", "10")]
        {
            let user = format!("slow-{outcome}");
            let order = paid(&stack, &user, "10").await;
            stack.payment.behave(json!({ "refund_outcome": "pending" })).await;
            let part = json!({ "amount": "4", "reason": "x" });
            let begun = refund(&stack, &order, "r", part.clone()).await;
            assert_eq!((begun.status.as_u16(), &begun.json()["state"]), (202, &json!("pending")));
            // It cannot be spent while it is on its way, and cannot go back twice.
            assert_eq!(money(&stack, &user), is("6", "0"));
            let twice = refund(&stack, &order, "r2", json!({ "amount": "7", "reason": "x" })).await;
            assert_eq!(twice.status, 409, "{}", twice.body);
            stack.invariants();
            stack.payment.behave(json!({ "refund_outcome": outcome })).await;
            ask_now(&stack, &order);
            let refund_state = || {
                let refund = "SELECT state FROM recharge_refund WHERE order_id";
                stack.sql_one(&format!("{refund} = '{}'", order.id))
            };
            eventually!(refund_state() == state_of_refund, "{}", stack.sidecar.log());
            assert_eq!(state(&stack, &order.id), state_of_order);
            assert_eq!(money(&stack, &user), is(balance, "0"));
            let ended = refund(&stack, &order, "r", part).await;
            assert_eq!(
                (ended.status.as_u16(), &ended.json()["state"]),
                (200, &json!(state_of_refund))
            );
            assert_eq!(refunds_of(&stack, &order).await.len(), 1);
            stack.payment.behave_well().await;
            stack.invariants();
        }
    });
}

#[test]
fn a_refund_that_is_refused_puts_the_money_back() {
    run(async {
        let stack = unruly().await;
        let order = paid(&stack, "denied", "10").await;
        for (key, told) in [
            ("r1", json!({ "refund_error": "FAILED_PRECONDITION" })),
            ("r2", json!({ "refund_outcome": "failed" })),
        ] {
            stack.payment.behave_well().await;
            stack.payment.behave(told).await;
            let answer = refund(&stack, &order, key, json!({ "amount": "4", "reason": "x" })).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.json()["state"]),
                (200, &json!("failed")),
                "{}",
                answer.body
            );
            assert!(answer.json()["failure"].is_string(), "{}", answer.body);
            assert_eq!(state(&stack, &order.id), "paid");
            assert_eq!(money(&stack, "denied"), is("10", "0"));
            stack.invariants();
        }
    });
}

#[test]
fn a_refund_whose_outcome_is_unknown_is_asked_for_again_under_its_id() {
    run(async {
        let stack = unruly().await;
        for (user, told) in [
            ("r-away", None),
            ("r-lost-call", Some(json!({ "refund_error": "UNAVAILABLE" }))),
            ("r-lost-answer", Some(json!({ "refund_error": "UNAVAILABLE", "error_after": true }))),
            ("r-late", Some(json!({ "refund_delay_ms": 900 }))),
            ("r-nonsense", Some(json!({ "garbage": "unknown_status" }))),
            ("r-other-id", Some(json!({ "garbage": "empty_id" }))),
        ] {
            let order = paid(&stack, user, "10").await;
            match told {
                Some(told) => stack.payment.behave(told).await,
                None => stack.payment.kill(),
            }
            let begun = refund(&stack, &order, "r", json!({ "reason": "x" })).await;
            assert_eq!(
                (begun.status.as_u16(), &begun.json()["state"]),
                (202, &json!("pending")),
                "{user}: {}",
                begun.body
            );
            assert_eq!(money(&stack, user), is("0", "0"));
            stack.payment.start_again().await.unwrap_or_else(|err| panic!("{err}"));
            stack.payment.behave_well().await;
            ask_now(&stack, &order);
            eventually!(state(&stack, &order.id) == "refunded", "{user}: {}", stack.sidecar.log());
            assert_eq!(refunds_of(&stack, &order).await, [(1_000, "success".to_owned())], "{user}");
            assert_eq!(money(&stack, user), is("0", "0"));
            stack.invariants();
        }
    });
}

#[test]
fn what_went_back_at_the_payment_service_is_booked_once() {
    run(async {
        let stack = unruly().await;
        let order = paid(&stack, "chargeback", "10").await;
        stack.payment.refund(&order.payment, Some(300)).await;
        eventually!(state(&stack, &order.id) == "partly_refunded", "{}", stack.sidecar.log());
        assert_eq!(money(&stack, "chargeback"), is("7", "0"));
        for _ in 0..2 {
            assert_eq!(callback(&stack, &order, json!({})).await.status, Some(200));
        }
        assert_eq!(money(&stack, "chargeback"), is("7", "0"));
        // What is left and gone back after it was spent is owed: the money is not there any more.
        stack.sidecar.cli(&["account", "credit", "chargeback", "-5", "--reason", "spent"]).unwrap();
        stack.payment.behave(json!({ "callback": { "copies": 5 } })).await;
        stack.payment.refund(&order.payment, None).await;
        eventually!(state(&stack, &order.id) == "refunded", "{}", stack.sidecar.log());
        assert_eq!(money(&stack, "chargeback"), is("0", "5"));
        let shown = stack.sidecar.cli(&["orders", "show", &order.id, "--json"]).unwrap();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(
            (&shown["refunded_amount"], &shown["state"]),
            (&json!("10"), &json!("refunded"))
        );
        // A callback that says so although it is not so books nothing.
        let honest = paid(&stack, "chargeback", "6").await;
        let said = says(&stack, &honest, "REFUNDED").await;
        assert_eq!((said.status, said.code()), (Some(422), 190_304), "{}", said.body);
        assert_eq!(money(&stack, "chargeback"), is("1", "0"));
        stack.invariants();
    });
}

/// Nobody has heard of the payment but that it was paid and went back: it is credited and taken again.
#[test]
fn an_order_that_was_paid_and_refunded_before_anybody_told() {
    run(async {
        let stack = unruly().await;
        let order = ordered(&stack, "both", "10").await;
        stack.payment.behave(json!({ "callback": { "send": false } })).await;
        pay(&stack, &order).await;
        stack.payment.refund(&order.payment, Some(250)).await;
        assert_eq!(callback(&stack, &order, json!({})).await.status, Some(200));
        assert_eq!(state(&stack, &order.id), "partly_refunded");
        assert_eq!(money(&stack, "both"), is("7.5", "0"));
        stack.invariants();
    });
}

#[test]
fn only_operators_refund_and_only_what_was_paid() {
    run(async {
        let stack = unruly().await;
        let open = order(&recharge(&stack.sidecar, "thief", "k", &super::body("10")).await);
        let body = json!({ "reason": "x" });
        let path = format!("/admin/v1/orders/{}/refund", open.id);
        let call = || stack.sidecar.admin().post(&path).header("idempotency-key", "r").json(&body);
        assert_eq!(call().send().await.status, 401);
        assert_eq!(call().header("authorization", "Bearer wrong").send().await.status, 401);
        // The operators' addresses are not on the users' listener.
        let public = stack.sidecar.client().post(&path).operator().header("idempotency-key", "r");
        assert_eq!(public.json(&body).send().await.status, 404);

        let pending = refund(&stack, &open, "r", body.clone()).await;
        assert_eq!((pending.status.as_u16(), pending.code()), (409, 100_302), "{}", pending.body);
        let nobody = Order { id: "recharge_nobody".to_owned(), payment: String::new() };
        let nobody = refund(&stack, &nobody, "r", body.clone()).await;
        assert_eq!((nobody.status.as_u16(), nobody.code()), (404, 190_301), "{}", nobody.body);
        let order = paid(&stack, "thief", "10").await;
        for (body, field) in [
            (json!({}), "reason"),
            (json!({ "reason": "" }), "reason"),
            (json!({ "reason": "x", "amount": "0" }), "amount"),
            (json!({ "reason": "x", "amount": "-1" }), "amount"),
            (json!({ "reason": "x", "amount": "0.001" }), "amount"),
            (json!({ "reason": "x", "amuont": "1" }), "amuont"),
        ] {
            let answer = refund(&stack, &order, "r", body.clone()).await;
            assert_eq!(
                (answer.status.as_u16(), answer.code()),
                (400, 100_001),
                "{body}: {}",
                answer.body
            );
            assert!(answer.body.contains(field), "{body}: {}", answer.body);
        }
        assert_eq!(money(&stack, "thief"), is("10", "0"));
        assert!(refunds_of(&stack, &order).await.is_empty());
        stack.invariants();
    });
}

/// While a refund of ours has no end, one that the payment service made itself looks like it: it is booked in the end.
#[test]
fn what_a_pending_refund_hid_is_booked_when_it_ends() {
    run(async {
        let stack = unruly().await;
        // (user, what ours asks for, what goes back by itself meanwhile, how ours ends, what has gone back in all)
        for (user, ours, foreign, ends, in_all) in
            [("hidden-failed", "6", 600, "failed", "6"), ("hidden-done", "6", 400, "done", "10")]
        {
            let order = paid(&stack, user, "10").await;
            stack.payment.behave(json!({ "refund_error": "UNAVAILABLE" })).await;
            let body = json!({ "amount": ours, "reason": "x" });
            let pending = refund(&stack, &order, "r", body).await;
            assert_eq!(pending.status, 202, "{}", pending.body);
            stack.payment.behave_well().await;
            stack.payment.refund(&order.payment, Some(foreign)).await;
            let told = says(&stack, &order, "PARTIALLY_REFUNDED").await;
            assert_eq!(told.status, Some(200), "{}", told.body);
            assert_eq!(state(&stack, &order.id), "paid", "it may be ours");

            ask_now(&stack, &order);
            let sql = format!(
                "SELECT refunded_amount + 0.0 FROM recharge_order WHERE order_id = '{}'",
                order.id
            );
            let refunded =
                || stack.sql_one(&sql).trim_end_matches('0').trim_end_matches('.').to_owned();
            eventually!(refunded() == in_all, "{user}: {}", stack.sidecar.log());
            let left = 10 - in_all.parse::<u32>().unwrap();
            assert_eq!(money(&stack, user), is(&left.to_string(), "0"), "{user}");
            let shown = stack.sidecar.admin().get(&format!("/admin/v1/orders/{}", order.id));
            let refunds = shown.operator().send().await.json()["refunds"].clone();
            let mut states: Vec<&str> = refunds
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|refund| refund["state"].as_str())
                .collect();
            states.sort_unstable();
            assert_eq!(states, ["done", ends], "{user}");
            stack.invariants();
        }
    });
}

/// The answer that a refund failed is on its way while the payment service gives the money back by itself and says so.
#[test]
fn a_refund_that_fails_does_not_overtake_news_of_another() {
    run(async {
        let stack = unruly().await;
        let order = paid(&stack, "overtaken", "10").await;
        // What GetPayment found is answered late, but within the deadline.
        let failing = json!({ "refund_outcome": "failed", "get_delay_ms": 250 });
        stack.payment.behave(failing).await;
        let body = json!({ "amount": "4", "reason": "x" });
        let ours = refund(&stack, &order, "r", body);
        let theirs = async {
            let asked = async || refunds_of(&stack, &order).await.len();
            eventually!(asked().await == 1, "the refund is asked for");
            stack.payment.behave(json!({ "refund_outcome": "success", "get_delay_ms": 0 })).await;
            stack.payment.refund(&order.payment, Some(400)).await;
            says(&stack, &order, "PARTIALLY_REFUNDED").await
        };
        let (answer, told) = tokio::join!(ours, theirs);
        assert!(answer.status.is_success(), "{}", answer.body);
        assert!(matches!(told.status, Some(200 | 503)), "{}", told.body);
        stack.payment.behave_well().await;
        let is_booked = || money(&stack, "overtaken") == is("6", "0");
        eventually!(
            {
                ask_now(&stack, &order);
                is_booked() && state(&stack, &order.id) == "partly_refunded"
            },
            "{:?} {}",
            money(&stack, "overtaken"),
            stack.sidecar.log()
        );
        stack.invariants();
    });
}
