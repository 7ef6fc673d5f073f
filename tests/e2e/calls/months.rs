//! The last millisecond of a month and the first one of the next: the database's clock decides, the sidecars' do not.

use farebox_tests::sidecar::Sidecar;
use farebox_tests::{Plan, Stack, run};
use serde_json::{Value, json};

use super::{
    COMMIT_PATH, DEDUCT_PATH, REFUND_PATH, RESERVE_PATH, deduct, met, reserve, started, text,
};

/// The first moment of June 2037 in Asia/Shanghai. Far ahead, so that nothing of today is newer.
const JUNE: &str = "2127398400.000";

/// The millisecond before.
const MAY: &str = "2127398399.999";

const USER: &str = "midnight";

/// Stops the database's clock at this time, for connections that are made from now on.
fn set_clock(stack: &Stack, seconds: &str) {
    stack.sql(&format!("SET GLOBAL init_connect = 'SET timestamp = {seconds}'"));
}

async fn ask(sidecar: &Sidecar, path: &str, request: &Value) -> Value {
    met(&sidecar.internal().ask(path, request).send().await)
}

/// Used and held units by month, and units on record by the month whose quota they used.
fn books(stack: &Stack) -> [Vec<String>; 2] {
    let rows = |statement: &str| stack.sql(statement).iter().map(|row| row.join(" ")).collect();
    [
        rows("SELECT reset_month, used_quota, held_quota FROM free_quota ORDER BY 1"),
        rows(
            "SELECT reset_month, SUM(free_units), SUM(free_refunded) FROM billing_record GROUP BY 1 ORDER BY 1",
        ),
    ]
}

#[test]
fn a_charge_falls_into_the_month_of_the_databases_clock() {
    run(async {
        let plan = Plan::reference().without_gateway().free_quotas(&[("gift", 10)]);
        let stack = started(Stack::start(plan).await);
        // Its connections know the right time.
        stack.sidecar.stop();

        // For one of the sidecars June has begun, for the other one it is still May when June has begun.
        set_clock(&stack, MAY);
        let hasty = started(stack.another_sidecar_at("hasty", "@2037-05-31 16:00:29").await);
        let tardy = started(stack.another_sidecar_at("tardy", "@2037-05-31 15:59:29").await);
        let first = ask(&hasty, DEDUCT_PATH, &deduct(USER, "gift", 3, "may-1")).await;
        let second = ask(&tardy, DEDUCT_PATH, &deduct(USER, "gift", 4, "may-2")).await;
        assert_eq!(first["free_quota"], json!({ "total": 10, "remaining": 7, "resets_in_s": 0 }));
        assert_eq!(second["free_quota"], json!({ "total": 10, "remaining": 3, "resets_in_s": 0 }));
        let reserved = ask(&hasty, RESERVE_PATH, &reserve(USER, "gift", 2, "may-3")).await;
        assert_eq!(books(&stack), [vec!["2037-05 7 2".to_owned()], vec!["2037-05 7 0".to_owned()]]);

        hasty.stop();
        tardy.stop();
        set_clock(&stack, JUNE);
        started(hasty.start_again().await);
        started(tardy.start_again().await);
        let month = 30 * 86_400;
        let third = ask(&tardy, DEDUCT_PATH, &deduct(USER, "gift", 5, "june-1")).await;
        let fourth = ask(&hasty, DEDUCT_PATH, &deduct(USER, "gift", 1, "june-2")).await;
        assert_eq!(
            third["free_quota"],
            json!({ "total": 10, "remaining": 5, "resets_in_s": month })
        );
        assert_eq!(
            fourth["free_quota"],
            json!({ "total": 10, "remaining": 4, "resets_in_s": month })
        );

        // What began in May ends in May.
        assert_eq!(ask(&tardy, DEDUCT_PATH, &deduct(USER, "gift", 3, "may-1")).await, first);
        let reservation = json!({ "reservation_id": text(&reserved, "reservation_id") });
        assert_eq!(ask(&tardy, COMMIT_PATH, &reservation).await["free_units"], 2);
        let refund = json!({ "idempotency_key": "undo", "record_id": text(&second, "record_id") });
        assert_eq!(ask(&hasty, REFUND_PATH, &refund).await["free_units"], 4);
        assert_eq!(
            books(&stack),
            [
                vec!["2037-05 5 0".to_owned(), "2037-06 6 0".to_owned()],
                vec!["2037-05 9 4".to_owned(), "2037-06 6 0".to_owned()],
            ]
        );
        stack.invariants();
    });
}
