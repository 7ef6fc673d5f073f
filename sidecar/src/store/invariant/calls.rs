//! M2, charged once: reservations that were charged, and charges that went back.

use super::Rule;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "M2",
        name: "m2_reservation_record",
        sentence: "a committed reservation stands on one billing record, which charged no more than was reserved, and no other does",
        count: "SELECT COUNT(*) FROM reservation WHERE [user_id]",
        violations: "SELECT CONCAT('reservation ', reservation.reservation_id, ' (', reservation.state, '): ', reservation.free_units, ' free, ', reservation.paid_units, ' paid, amount ', reservation.amount, '; record ', COALESCE(reservation.billing_record_id, 'none'), ' says ', COALESCE(record.free_units, 0), ' free, ', COALESCE(record.paid_units, 0), ' paid, amount ', COALESCE(record.amount, 0)), reservation.user_id
            FROM reservation
            LEFT JOIN billing_record AS record ON record.billing_record_id = reservation.billing_record_id
            WHERE [reservation.user_id] AND ((reservation.state <> 'committed' AND reservation.billing_record_id IS NOT NULL)
               OR (reservation.billing_record_id IS NOT NULL AND
                   (record.billing_record_id IS NULL OR record.source <> 'reserve' OR record.user_id <> reservation.user_id
                    OR reservation.amount < record.amount
                    OR (reservation.basis = 'units' AND (reservation.free_units < record.free_units OR reservation.paid_units < record.paid_units)))))
            LIMIT 100",
    },
    Rule {
        id: "M2",
        name: "m2_refunded_units",
        sentence: "what went back of a charge is the sum of its refunds, and no more than was charged",
        count: "SELECT COUNT(*) FROM billing_record WHERE source <> 'legacy' AND [user_id]",
        violations: "SELECT CONCAT('billing_record ', record.billing_record_id, ': ', record.free_units, ' free, ', record.paid_units, ' paid, refunded ', record.free_refunded, ' and ', record.paid_refunded, '; refunds say ', COALESCE(refunds.free_units, 0), ' and ', COALESCE(refunds.paid_units, 0), ', amount ', COALESCE(refunds.amount, 0)), record.user_id
            FROM billing_record AS record
            LEFT JOIN (
              SELECT billing_record_id, user_id, SUM(free_units) AS free_units, SUM(paid_units) AS paid_units, SUM(amount) AS amount
              FROM charge_refund WHERE [user_id] GROUP BY billing_record_id, user_id
            ) AS refunds ON refunds.billing_record_id = record.billing_record_id AND refunds.user_id = record.user_id
            WHERE [record.user_id] AND (record.free_refunded <> COALESCE(refunds.free_units, 0)
               OR record.paid_refunded <> COALESCE(refunds.paid_units, 0)
               OR record.free_units < record.free_refunded OR record.paid_units < record.paid_refunded
               OR COALESCE(refunds.amount, 0) <> record.paid_refunded * COALESCE(record.unit_price, 0))
            LIMIT 100",
    },
    Rule {
        id: "M2",
        name: "m2_refund_in_ledger",
        sentence: "a refund of a charge stands in the ledger with its amount, for the charge's user",
        count: "SELECT COUNT(*) FROM charge_refund WHERE [user_id]",
        violations: "SELECT CONCAT('charge_refund ', refund.charge_refund_id, ' of ', refund.user_id, ': amount ', refund.amount, '; ledger says ', COALESCE(leg.amount, 0)), refund.user_id
            FROM charge_refund AS refund
            LEFT JOIN billing_record AS record ON record.billing_record_id = refund.billing_record_id
            LEFT JOIN ledger_entry AS leg
              ON leg.ref_type = 'charge_refund' AND leg.ref_id = refund.charge_refund_id AND leg.kind = 'charge_refund' AND leg.book = 'user'
             AND leg.user_id = refund.user_id
            WHERE [refund.user_id] AND (refund.amount <> COALESCE(leg.amount, 0) OR record.user_id IS NULL OR record.user_id <> refund.user_id)
            LIMIT 100",
    },
    Rule {
        id: "M2",
        name: "m2_ledger_refunds",
        sentence: "only refunds of charges stand in the ledger as such",
        count: "SELECT COUNT(*) FROM ledger_entry WHERE kind = 'charge_refund' AND [user_id]",
        violations: "SELECT CONCAT('ledger_entry ', leg.ledger_entry_id, ' of ', leg.user_id, ': ', leg.amount, ' for charge_refund ', leg.ref_id, ', which does not exist'), leg.user_id
            FROM ledger_entry AS leg
            LEFT JOIN charge_refund AS refund ON leg.ref_type = 'charge_refund' AND refund.charge_refund_id = leg.ref_id
            WHERE [leg.user_id] AND leg.kind = 'charge_refund' AND refund.charge_refund_id IS NULL LIMIT 100",
    },
];
