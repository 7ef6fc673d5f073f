//! An account whose rows are broken stops nobody else.

use farebox_tests::run;
use serde_json::{Value, json};

use super::{DEDUCT_PATH, deduct, met, trio};

#[test]
fn a_broken_account_among_many_fails_alone() {
    run(async {
        let trio = trio().await;
        let user = "poison-13";
        let [first, ..] = trio.clients();
        met(&first.ask(DEDUCT_PATH, &deduct(user, "gift", 1, user)).send().await);
        let set = |used: i64| {
            trio.stack.sql(&format!(
                "SET SESSION check_constraint_checks = 0;
                 UPDATE free_quota SET used_quota = {used} WHERE user_id = '{user}'"
            ));
        };
        set(-7);

        // Each sidecar has the broken account in the middle of its batch.
        let item = |sidecar: usize, number: usize| {
            let user = format!("poison-{number}");
            deduct(&user, "gift", 1, &format!("poison-{sidecar}-{number}"))
        };
        let batch = |sidecar: usize| {
            let items: Vec<Value> = (0..30).map(|number| item(sidecar, number)).collect();
            json!({ "items": items })
        };
        for answer in trio.crowd(3, DEDUCT_PATH, batch).await {
            let results = met(&answer);
            for (number, result) in results["results"].as_array().unwrap().iter().enumerate() {
                let (status, code) = (&result["status"], &result["problem"]["code"]);
                if number == 13 {
                    assert_eq!((status, code), (&json!(500), &json!(100_202)), "{result}");
                } else {
                    assert_eq!(status, &json!(200), "{number}: {result}");
                }
            }
        }
        for number in (0..30).filter(|number| *number != 13) {
            assert_eq!(trio.stack.account(&format!("poison-{number}")).free_used, 3, "{number}");
        }
        assert_eq!(trio.stack.account(user).recorded_units, 1, "it was charged before it broke");
        set(1);
        trio.stack.invariants();
    });
}
