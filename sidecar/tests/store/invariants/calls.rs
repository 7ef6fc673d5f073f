//! The rules of reservations and of charges that went back.

use super::Rule;
use crate::calls::{commit, deduct, refund, release, reserve_units};
use crate::fixture::Fixture;

/// A deduct of which a part went back, and reservations of every end.
async fn called() -> Fixture {
    let farebox = Fixture::new(&[("asset", 4)], &[("asset", "0.5")]).await;
    farebox.credit("alice", "10").await;
    let charged = farebox.record(deduct("d", "alice", "asset", 5)).await;
    farebox.told(refund("f", &charged, Some(3))).await;
    let open = farebox.reservation(reserve_units("r1", "alice", "asset", 3)).await;
    let done = farebox.reservation(reserve_units("r2", "alice", "asset", 4)).await;
    let reserved = farebox.record(commit(&done, Some(3))).await;
    let gone = farebox.reservation(reserve_units("r3", "alice", "asset", 1)).await;
    farebox.told(release(&gone)).await;
    // Names that the rules can be tested by.
    for (column, id, name) in [
        ("reservation_id", &open, "open"),
        ("reservation_id", &done, "done"),
        ("reservation_id", &gone, "gone"),
        ("billing_record_id", &charged, "charged"),
        ("billing_record_id", &reserved, "reserved"),
    ] {
        for table in ["reservation", "billing_record", "charge_refund"] {
            if column == "billing_record_id" || table == "reservation" {
                let sql = format!("UPDATE {table} SET {column} = '{name}' WHERE {column} = '{id}'");
                farebox.database.run(sql).await;
            }
        }
        let sql = format!("UPDATE ledger_entry SET ref_id = '{name}' WHERE ref_id = '{id}'");
        farebox.database.run(sql).await;
    }
    farebox.database.run("UPDATE charge_refund SET charge_refund_id = 'back'").await;
    let sql = "UPDATE ledger_entry SET ref_id = 'back' WHERE ref_type = 'charge_refund'";
    farebox.database.run(sql).await;
    farebox.assert_sound().await;
    farebox
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_call_is_found_by_the_rule_that_it_breaks() {
    let farebox = called().await;
    // The schema guards one of the rules as well.
    let guard = "ALTER TABLE billing_record DROP CONSTRAINT ck_billing_record_refunded";
    farebox.database.run(guard).await;
    let tables = ["reservation", "charge_refund", "billing_record", "ledger_entry", "free_quota"];
    farebox.require_found(&tables, RULES).await;
    let rules = farebox.app.invariants().await.unwrap();
    let named = |rule: &str| RULES.iter().any(|(tested, _)| *tested == rule);
    let untested = rules.iter().filter(|rule| {
        let of_calls = rule.id == "M2" || rule.rule.contains("reservation");
        of_calls && !named(rule.rule)
    });
    assert_eq!(untested.map(|rule| rule.rule).collect::<Vec<_>>(), Vec::<&str>::new());
}

/// Each rule with what breaks it and what names the row. Charged: 4 free units and 1 paid at 0.5, of which 2 and 1 went
/// back. Open: 2 free and 1 paid. Done: 4 paid, of which 3 were charged.
const RULES: &[Rule] = &[
    (
        "held money is the outstanding paid units of open leases at their prices, and what open reservations hold",
        &[
            (
                "UPDATE reservation SET amount = 1 WHERE reservation_id = 'open'",
                "open reservations 1.0",
            ),
            (
                "UPDATE reservation SET state = 'expired' WHERE reservation_id = 'open'",
                "open reservations 0",
            ),
        ],
    ),
    (
        "held units of a free quota are the outstanding free units of open leases, and those of open reservations",
        &[
            (
                "UPDATE reservation SET free_units = 1 WHERE reservation_id = 'open'",
                "open reservations 1",
            ),
            (
                "UPDATE reservation SET reset_month = '2000-01' WHERE reservation_id = 'open'",
                "free_quota alice asset",
            ),
            (
                "UPDATE reservation SET service_name = 'other' WHERE reservation_id = 'open'",
                "open reservations 0",
            ),
        ],
    ),
    (
        "an open reservation has an account and a free quota",
        &[
            ("DELETE FROM free_quota", "reservation open of alice: no row in free_quota"),
            (
                "UPDATE reservation SET reset_month = '2000-01' WHERE reservation_id = 'open'",
                "no row in free_quota",
            ),
            (
                "UPDATE reservation SET service_name = 'other' WHERE reservation_id = 'open'",
                "no row in free_quota",
            ),
            (
                "UPDATE reservation SET user_id = 'bob' WHERE reservation_id = 'open'",
                "reservation open of bob: no row in user_balance",
            ),
        ],
    ),
    (
        "a billing record belongs to a lease, a journal line or a reservation, or to a call of its own",
        &[
            (
                "DELETE FROM reservation WHERE reservation_id = 'done'",
                "billing_record reserved: no reservation",
            ),
            (
                "UPDATE reservation SET user_id = 'bob' WHERE reservation_id = 'done'",
                "billing_record reserved: no reservation",
            ),
            (
                "UPDATE billing_record SET source = 'lease' WHERE billing_record_id = 'charged'",
                "billing_record charged: no lease",
            ),
        ],
    ),
    (
        "a committed reservation stands on one billing record, which charged no more than was reserved, and no other does",
        &[
            (
                "UPDATE reservation SET state = 'released' WHERE reservation_id = 'done'",
                "reservation done (released): 0 free, 4 paid, amount 2.000000000; record reserved says 0 free, 3 paid, amount 1.5",
            ),
            (
                "UPDATE reservation SET billing_record_id = 'none' WHERE reservation_id = 'done'",
                "record none says 0 free, 0 paid",
            ),
            (
                "UPDATE billing_record SET source = 'deduct' WHERE billing_record_id = 'reserved'",
                "reservation done",
            ),
            (
                "UPDATE billing_record SET user_id = 'bob' WHERE billing_record_id = 'reserved'",
                "reservation done",
            ),
            (
                "UPDATE reservation SET amount = 1.499999999 WHERE reservation_id = 'done'",
                "amount 1.499999999; record reserved",
            ),
            (
                "UPDATE reservation SET paid_units = 2 WHERE reservation_id = 'done'",
                "0 free, 2 paid, amount 2",
            ),
            (
                "UPDATE billing_record SET free_units = 1 WHERE billing_record_id = 'reserved'",
                "record reserved says 1 free, 3 paid",
            ),
        ],
    ),
    (
        "what went back of a charge is the sum of its refunds, and no more than was charged",
        &[
            (
                "UPDATE billing_record SET free_refunded = 1 WHERE billing_record_id = 'charged'",
                "billing_record charged: 4 free, 1 paid, refunded 1 and 1; refunds say 2 and 1, amount 0.5",
            ),
            (
                "UPDATE billing_record SET paid_refunded = 0 WHERE billing_record_id = 'charged'",
                "refunded 2 and 0",
            ),
            ("UPDATE charge_refund SET amount = amount + 0.000000001", "amount 0.500000001"),
            ("DELETE FROM charge_refund", "refunds say 0 and 0"),
            (
                "UPDATE charge_refund SET billing_record_id = 'reserved'",
                "billing_record reserved: 0 free, 3 paid, refunded 0 and 0; refunds say 2 and 1",
            ),
            (
                "UPDATE billing_record SET free_units = 1 WHERE billing_record_id = 'charged'",
                "billing_record charged: 1 free, 1 paid, refunded 2 and 1",
            ),
            (
                "UPDATE billing_record SET paid_units = 0 WHERE billing_record_id = 'charged'",
                "billing_record charged: 4 free, 0 paid, refunded 2 and 1",
            ),
        ],
    ),
    (
        "a refund of a charge stands in the ledger with its amount, for the charge's user",
        &[
            (
                "DELETE FROM ledger_entry WHERE ref_id = 'back'",
                "charge_refund back of alice: amount 0.500000000; ledger says 0",
            ),
            (
                "UPDATE ledger_entry SET amount = 0.4 WHERE ref_id = 'back' AND book = 'user'",
                "ledger says 0.4",
            ),
            ("UPDATE ledger_entry SET kind = 'adjustment' WHERE ref_id = 'back'", "ledger says 0"),
            ("UPDATE charge_refund SET user_id = 'bob'", "charge_refund back of bob"),
            (
                "UPDATE billing_record SET user_id = 'bob' WHERE billing_record_id = 'charged'",
                "charge_refund back of alice",
            ),
            ("UPDATE charge_refund SET billing_record_id = 'none'", "charge_refund back"),
        ],
    ),
    (
        "only refunds of charges stand in the ledger as such",
        &[
            (
                "DELETE FROM charge_refund",
                "of alice: 0.500000000 for charge_refund back, which does not exist",
            ),
            (
                "UPDATE ledger_entry SET ref_type = 'credit' WHERE ref_id = 'back'",
                "back, which does not exist",
            ),
        ],
    ),
];
