//! M3, nothing lost: usage, its records, and the ledger.

use super::Rule;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "M3",
        name: "m3_lease_usage",
        sentence: "what a lease used is what its billing records charged",
        count: "SELECT COUNT(*) FROM lease WHERE [user_id]",
        violations: "SELECT CONCAT('lease ', lease.lease_id, ': used ', lease.free_used, ' free, ', lease.paid_used, ' paid, ', lease.late_used, ' late; records say ',
                COALESCE(records.free_units, 0), ' free, ', COALESCE(records.paid_units, 0), ' paid, ', COALESCE(records.late_units, 0), ' late, amount ', COALESCE(records.amount, 0)), lease.user_id
            FROM lease
            LEFT JOIN (
              SELECT lease_id, user_id,
                     SUM(IF(source = 'lease', free_units, 0)) AS free_units,
                     SUM(IF(source = 'lease', paid_units, 0)) AS paid_units,
                     SUM(IF(source = 'late', count, 0)) AS late_units,
                     SUM(IF(source = 'lease', amount, 0)) AS amount
              FROM billing_record WHERE [user_id] AND lease_id IS NOT NULL GROUP BY lease_id, user_id
            ) AS records ON records.lease_id = lease.lease_id AND records.user_id = lease.user_id
            WHERE [lease.user_id] AND (lease.free_used <> COALESCE(records.free_units, 0)
               OR lease.paid_used <> COALESCE(records.paid_units, 0)
               OR lease.late_used <> COALESCE(records.late_units, 0)
               OR lease.paid_used * lease.price <> COALESCE(records.amount, 0))
            LIMIT 100",
    },
    Rule {
        id: "M3",
        name: "m3_lease_loss",
        sentence: "what a lease says was charged as lost is what its billing record charged, and was not given back",
        count: "SELECT COUNT(*) FROM lease WHERE (free_lost <> 0 OR paid_lost <> 0 OR lost_record_id IS NOT NULL) AND [user_id]",
        violations: "SELECT CONCAT('lease ', lease.lease_id, ': lost ', lease.free_lost, ' free, ', lease.paid_lost, ' paid; record ', COALESCE(lease.lost_record_id, 'none'), ' says ',
                COALESCE(record.free_units, 0), ' free, ', COALESCE(record.paid_units, 0), ' paid, back ', COALESCE(record.free_refunded, 0), ' and ', COALESCE(record.paid_refunded, 0)), lease.user_id
            FROM lease
            LEFT JOIN billing_record AS record
              ON record.billing_record_id = lease.lost_record_id AND record.lease_id = lease.lease_id AND record.source = 'lost'
            WHERE [lease.user_id] AND (lease.free_lost <> 0 OR lease.paid_lost <> 0 OR lease.lost_record_id IS NOT NULL)
              AND (record.billing_record_id IS NULL
                   OR record.free_units < lease.free_lost OR lease.free_lost < record.free_units - record.free_refunded
                   OR record.paid_units < lease.paid_lost OR lease.paid_lost < record.paid_units - record.paid_refunded)
            LIMIT 100",
    },
    Rule {
        id: "M3",
        name: "m3_journal_usage",
        sentence: "what a journal line used is what its billing records charged",
        count: "SELECT COUNT(*) FROM journal_line WHERE [user_id]",
        violations: "SELECT CONCAT('journal_line ', journal_line.gateway_id, ' ', journal_line.instance, ' ', journal_line.line, ': used ', journal_line.used, '; records say ', COALESCE(records.units, 0)), journal_line.user_id
            FROM journal_line
            LEFT JOIN (
              SELECT gateway.gateway_id, gateway.instance, billing_record.journal_line, billing_record.user_id, SUM(billing_record.count) AS units
              FROM billing_record
              STRAIGHT_JOIN gateway ON gateway.gateway_id = billing_record.gateway_id AND gateway.epoch = billing_record.epoch
              WHERE [billing_record.user_id] AND billing_record.source = 'journal'
              GROUP BY gateway.gateway_id, gateway.instance, billing_record.journal_line, billing_record.user_id
            ) AS records
              ON records.gateway_id = journal_line.gateway_id AND records.instance = journal_line.instance
             AND records.journal_line = journal_line.line AND records.user_id = journal_line.user_id
            WHERE [journal_line.user_id] AND journal_line.used <> COALESCE(records.units, 0) LIMIT 100",
    },
    Rule {
        id: "M3",
        name: "m3_record_origin",
        sentence: "a billing record belongs to a lease, a journal line or a reservation, or to a call of its own",
        count: "SELECT COUNT(*) FROM billing_record WHERE source <> 'legacy' AND [user_id]",
        violations: "SELECT CONCAT('billing_record ', record.billing_record_id, ': no ', CASE record.source WHEN 'journal' THEN 'journal line' WHEN 'reserve' THEN 'reservation' ELSE 'lease' END), record.user_id
            FROM billing_record AS record
            LEFT JOIN reservation ON reservation.user_id = record.user_id AND reservation.billing_record_id = record.billing_record_id
            LEFT JOIN lease ON lease.lease_id = record.lease_id
            LEFT JOIN gateway ON gateway.gateway_id = record.gateway_id AND gateway.epoch = record.epoch
            LEFT JOIN journal_line
              ON journal_line.gateway_id = record.gateway_id AND journal_line.instance = gateway.instance AND journal_line.line = record.journal_line
            WHERE [record.user_id] AND ((record.source IN ('lease', 'late', 'lost') AND lease.lease_id IS NULL)
               OR (record.source = 'journal' AND journal_line.line IS NULL)
               OR (record.source = 'reserve' AND reservation.reservation_id IS NULL))
            LIMIT 100",
    },
    Rule {
        id: "M3",
        name: "m3_record_amount",
        sentence: "a billing record's amount is its paid units at its price",
        count: "SELECT COUNT(*) FROM billing_record WHERE source <> 'legacy' AND [user_id]",
        violations: "SELECT CONCAT('billing_record ', billing_record_id, ': ', count, ' units, ', free_units, ' free, ', paid_units, ' paid at ', COALESCE(unit_price, 0), ', amount ', amount, ', owed ', owed), user_id
            FROM billing_record
            WHERE [user_id] AND source <> 'legacy'
              AND (count <> free_units + paid_units OR amount <> paid_units * COALESCE(unit_price, 0) OR owed < 0 OR amount < owed)
            LIMIT 100",
    },
    Rule {
        id: "M3",
        name: "m3_record_in_ledger",
        sentence: "a billing record's amount stands in the ledger",
        count: "SELECT COUNT(*) FROM billing_record WHERE source <> 'legacy' AND [user_id]",
        violations: "SELECT CONCAT('billing_record ', record.billing_record_id, ': amount ', record.amount, ', owed ', record.owed, '; ledger says ', COALESCE(earned.amount, 0), ', owed ', -COALESCE(owed.amount, 0)), record.user_id
            FROM billing_record AS record
            LEFT JOIN ledger_entry AS earned
              ON earned.ref_type = 'billing_record' AND earned.ref_id = record.billing_record_id AND earned.kind = 'charge'
             AND earned.book = CONCAT('earnings:', record.service_name)
            LEFT JOIN ledger_entry AS owed
              ON owed.ref_type = 'billing_record' AND owed.ref_id = record.billing_record_id AND owed.kind = 'charge'
             AND owed.book = 'receivable'
            WHERE [record.user_id] AND record.source <> 'legacy'
              AND (record.amount <> COALESCE(earned.amount, 0) OR record.owed <> -COALESCE(owed.amount, 0))
            LIMIT 100",
    },
];
