//! A user looks after the own account through the gateway: what is there, what was charged, what a call costs.

use farebox_tests::{Plan, Stack, eventually, run};
use serde_json::{Value, json};

/// What `user` is told at `/api/v1/billing/{path}`.
async fn told(stack: &Stack, user: &str, path: &str) -> Value {
    let answer = stack.client().get(&format!("/api/v1/billing/{path}")).user(user).send().await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

#[test]
fn a_user_sees_what_calls_cost_and_nobody_elses() {
    run(async {
        let plan = Plan::reference().free_quotas(&[("passport", 2)]);
        let stack = Stack::start(plan).await.unwrap_or_else(|err| panic!("{err}"));
        stack.credit("ada", "1.00");
        let quote = told(&stack, "ada", "quote?service=passport&units=3").await;
        assert_eq!(
            json!([quote["allowed"], quote["reason"], quote["cost"], quote["price"]]),
            json!([true, "mixed", "0.001", "0.001"])
        );
        for path in ["/v1/passport/x", "/v1/passport/x", "/v1/passport/x", "/v1/asset/export/x"] {
            assert_eq!(stack.client().get(path).user("ada").send().await.status, 200, "{path}");
        }
        // Usage is told once its gateway has reported it.
        eventually!(told(&stack, "ada", "stats/today").await["total_count"] == 4);
        for stats in ["stats/today", "stats/month", "stats/summary"] {
            let stats = told(&stack, "ada", stats).await;
            assert_eq!(
                json!([stats["free_count"], stats["paid_count"], stats["total_cost"]]),
                json!([2, 2, "0.002"]),
                "{stats}"
            );
        }
        let passport = told(&stack, "ada", "stats/month?service=passport").await;
        assert_eq!(passport["total_count"], 3);

        let account = told(&stack, "ada", "account").await;
        assert_eq!((&account["user_id"], &account["balance"]), (&json!("ada"), &json!("0.998")));
        let records = told(&stack, "ada", "records?limit=1").await;
        assert_eq!(records["records"].as_array().map(Vec::len), Some(1));
        let cursor = records["next_cursor"].as_str().unwrap_or_default();
        let rest = told(&stack, "ada", &format!("records?cursor={cursor}")).await;
        assert!(rest["records"].as_array().is_some_and(|records| !records.is_empty()));
        let month = account["month"].as_str().unwrap_or_default();
        let statement = told(&stack, "ada", &format!("statement?month={month}")).await;
        assert_eq!((&statement["opening"], &statement["closing"]), (&json!("0"), &json!("0.998")));
        let csv = format!("/api/v1/billing/statement?month={month}&format=csv");
        let csv = stack.client().get(&csv).user("ada").send().await;
        assert!(
            csv.header("content-type").starts_with("text/csv"),
            "{:?}",
            csv.header("content-type")
        );
        assert!(csv.body.contains("opening_balance") && csv.body.contains("0.998"), "{}", csv.body);

        // Another user has nothing, and cannot ask about the first.
        assert_eq!(told(&stack, "bob", "stats/month").await["total_count"], 0);
        assert_eq!(told(&stack, "bob", "records").await["records"], json!([]));
        for path in ["account?user_id=ada", "records?userId=ada"] {
            let path = format!("/api/v1/billing/{path}");
            assert_eq!(stack.client().get(&path).user("bob").send().await.status, 400);
        }
    });
}
