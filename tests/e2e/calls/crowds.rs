//! Many requests at once through three sidecars: exact, and nobody is told of locks.

use std::collections::BTreeSet;

use farebox_core::call::CHECK_PATH;
use farebox_tests::{Answer, eventually, run};
use serde_json::{Value, json};

use super::{
    COMMIT_PATH, DEDUCT_PATH, REFUND_PATH, RELEASE_PATH, RESERVE_PATH, count, deduct, met, reserve,
    text, trio,
};

/// The bodies that differ.
fn bodies(answers: &[Answer]) -> BTreeSet<&str> {
    answers.iter().map(|answer| answer.body.as_str()).collect()
}

/// The answers that were met.
fn all_met(answers: &[Answer]) -> Vec<Value> {
    answers.iter().filter(|answer| answer.status == 200).map(Answer::json).collect()
}

#[test]
fn two_hundred_deducts_of_one_user_at_once_are_exact() {
    run(async {
        let (trio, user) = (trio().await, "two-hundred");
        trio.stack.credit(user, "12");
        let request = |number| deduct(user, "mixed", 1, &format!("{user}-{number}"));
        let answers = trio.crowd(200, DEDUCT_PATH, request).await;

        // 50 units are free and 12 pays for 120.
        assert_eq!(
            (count(&answers, 200), count(&answers, 402)),
            (170, 30),
            "{:?}",
            bodies(&answers)
        );
        let charged = all_met(&answers);
        let sum = |member: &str| charged.iter().filter_map(|one| one[member].as_u64()).sum::<u64>();
        assert_eq!((sum("free_units"), sum("paid_units")), (50, 120));
        let records: BTreeSet<&str> = charged.iter().map(|one| text(one, "record_id")).collect();
        assert_eq!(records.len(), 170);
        for refused in answers.iter().filter(|answer| answer.status == 402) {
            let refused = refused.json();
            assert_eq!((&refused["available"], &refused["cost"]), (&json!("0"), &json!("0.1")));
        }

        let account = trio.stack.account(user);
        assert_eq!((account.balance.as_str(), account.held.as_str()), ("0", "0"));
        assert_eq!((account.free_used, account.free_held), (50, 0));
        assert_eq!((account.recorded_units, account.recorded_paid_units), (170, 120));
        assert_eq!(
            (account.recorded_amount.as_str(), account.ledger_charges.as_str()),
            ("12", "12")
        );
        trio.stack.invariants();
    });
}

#[test]
fn new_users_are_created_once_by_their_first_deducts() {
    run(async {
        let trio = trio().await;
        let request = |number| {
            let user = format!("newcomer-{}", number % 10);
            deduct(&user, "gift", 1, &format!("newcomer-{number}"))
        };
        let answers = trio.crowd(120, DEDUCT_PATH, request).await;
        assert_eq!(count(&answers, 200), 120, "{:?}", bodies(&answers));
        for user in 0..10 {
            assert_eq!(trio.stack.account(&format!("newcomer-{user}")).free_used, 12);
        }
        trio.stack.invariants();
    });
}

#[test]
fn the_same_key_a_hundred_times_at_once_is_one_charge_and_one_answer() {
    run(async {
        let (trio, user) = (trio().await, "one-key");
        trio.stack.credit(user, "1");
        let request = deduct(user, "coin", 3, "one-key");
        let answers = trio.crowd(100, DEDUCT_PATH, |_| request.clone()).await;
        assert_eq!(count(&answers, 200), 100, "{:?}", bodies(&answers));
        assert_eq!(bodies(&answers).len(), 1, "{:?}", bodies(&answers));
        let account = trio.stack.account(user);
        assert_eq!((account.balance.as_str(), account.recorded_units), ("0.7", 3));

        let other = deduct(user, "coin", 4, "one-key");
        for answer in trio.crowd(9, DEDUCT_PATH, |_| other.clone()).await {
            assert_eq!((answer.status.as_u16(), answer.code()), (409, 100_302), "{}", answer.body);
        }
        trio.stack.invariants();
    });
}

#[test]
fn a_refused_key_stays_refused_and_a_new_one_works_after_a_recharge() {
    run(async {
        let (trio, user) = (trio().await, "refused-key");
        let request = deduct(user, "coin", 3, "refused-key");
        let answers = trio.crowd(100, DEDUCT_PATH, |_| request.clone()).await;
        assert_eq!(count(&answers, 402), 100, "{:?}", bodies(&answers));
        assert_eq!(bodies(&answers).len(), 1, "{:?}", bodies(&answers));
        trio.stack.credit(user, "1");
        let [first, second, _] = trio.clients();
        let again = first.ask(DEDUCT_PATH, &request).send().await;
        assert_eq!(Some(again.body.as_str()), bodies(&answers).first().copied());
        met(&second.ask(DEDUCT_PATH, &deduct(user, "coin", 3, "refused-key-2")).send().await);
        assert_eq!(trio.stack.account(user).balance, "0.7");
        trio.stack.invariants();
    });
}

#[test]
fn the_last_unit_is_reserved_by_one_of_a_hundred() {
    run(async {
        let (trio, user) = (trio().await, "last-unit");
        let [first, second, _] = trio.clients();
        for round in 0..2 {
            let request = |number| reserve(user, "last", 1, &format!("{user}-{round}-{number}"));
            let answers = trio.crowd(100, RESERVE_PATH, request).await;
            assert_eq!(
                (count(&answers, 200), count(&answers, 429)),
                (1, 99),
                "{:?}",
                bodies(&answers)
            );
            let won = all_met(&answers);
            let reservation = json!({ "reservation_id": text(&won[0], "reservation_id") });
            let account = trio.stack.account(user);
            assert_eq!((account.free_held, account.free_used), (1, 0));
            if round == 0 {
                let answers = trio.crowd(30, RELEASE_PATH, |_| reservation.clone()).await;
                assert_eq!((count(&answers, 200), bodies(&answers).len()), (30, 1));
                let late = first.ask(COMMIT_PATH, &reservation).send().await;
                assert_eq!((late.status.as_u16(), late.code()), (409, 100_302), "{}", late.body);
            } else {
                let answers = trio.crowd(30, COMMIT_PATH, |_| reservation.clone()).await;
                assert_eq!((count(&answers, 200), bodies(&answers).len()), (30, 1));
                let late = second.ask(RELEASE_PATH, &reservation).send().await;
                assert_eq!((late.status.as_u16(), late.code()), (409, 100_302), "{}", late.body);
            }
        }
        let account = trio.stack.account(user);
        assert_eq!((account.free_held, account.free_used, account.recorded_units), (0, 1, 1));
        trio.stack.invariants();
    });
}

#[test]
fn refunds_at_once_return_what_was_charged_and_no_more() {
    run(async {
        let (trio, user) = (trio().await, "refunds");
        trio.stack.credit(user, "1");
        let [first, ..] = trio.clients();
        let charged =
            met(&first.ask(DEDUCT_PATH, &deduct(user, "mixed", 54, "refunds")).send().await);
        assert_eq!(trio.stack.account(user).balance, "0.6");
        let record = text(&charged, "record_id");
        // Each asks for one unit under a key of its own: paid ones come back first.
        let request = |number| json!({ "idempotency_key": format!("refund-{number}"), "record_id": record, "units": 1 });
        let answers = trio.crowd(80, REFUND_PATH, request).await;
        assert_eq!(
            (count(&answers, 200), count(&answers, 409)),
            (54, 26),
            "{:?}",
            bodies(&answers)
        );
        let account = trio.stack.account(user);
        assert_eq!((account.balance.as_str(), account.free_used), ("1", 0));
        trio.stack.invariants();
    });
}

#[test]
fn what_a_check_says_a_deduct_does() {
    run(async {
        let (trio, user) = (trio().await, "check");
        trio.stack.credit(user, "0.2");
        let [first, second, third] = trio.clients();
        met(&first.ask(DEDUCT_PATH, &deduct(user, "mixed", 48, "check-0")).send().await);
        for (units, reason, status) in
            [(5, "insufficient balance", 402), (4, "mixed", 200), (1, "insufficient balance", 402)]
        {
            let question = json!({ "user_id": user, "service": "mixed", "count": units });
            // A check may remember a yes, for a second at most.
            let says = async || {
                let said = met(&second.ask(CHECK_PATH, &question).send().await);
                (said["reason"] == reason, said["allowed"] == (status == 200))
            };
            eventually!(says().await == (true, true), "{units}: {reason}");
            let key = format!("check-{units}");
            let answer = third.ask(DEDUCT_PATH, &deduct(user, "mixed", units, &key)).send().await;
            assert_eq!(answer.status, status, "{units}: {}", answer.body);
        }
        trio.stack.invariants();
    });
}

#[test]
fn batches_through_three_sidecars_charge_each_item_once() {
    run(async {
        let trio = trio().await;
        // Each sidecar gets the same 1,000 requests, of 100 users, in an order of its own.
        let item = |number: usize| {
            let user = format!("batch-{}", number % 100);
            deduct(&user, "gift", 1, &format!("batch-{number}"))
        };
        let batch = |sidecar: usize| {
            let items: Vec<Value> =
                (0..1_000).map(|number| item((number + 333 * sidecar) % 1_000)).collect();
            json!({ "items": items })
        };
        // Three thousand requests at once may be more than a busy machine decides in time: those are sent again.
        let mut records: BTreeSet<String> = BTreeSet::new();
        let mut busy = usize::MAX;
        while 0 < busy {
            busy = 0;
            for answer in &trio.crowd(3, DEDUCT_PATH, batch).await {
                for result in met(answer)["results"].as_array().unwrap() {
                    if result["status"] == 200 {
                        records.insert(text(&result["result"], "record_id").to_owned());
                    } else {
                        assert_eq!(result["problem"]["code"], 190_402, "{result}");
                        busy += 1;
                    }
                }
            }
        }
        assert_eq!(records.len(), 1_000);
        let units = "SELECT SUM(used_quota) FROM free_quota WHERE user_id LIKE 'batch-%'";
        assert_eq!(trio.stack.sql_one(units), "1000");
        trio.stack.invariants();
    });
}
