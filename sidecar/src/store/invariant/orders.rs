//! M6, recharged once: orders, their refunds, and the ledger.

use super::Rule;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "M6",
        name: "m6_order_credit",
        sentence: "a credited order stands in the ledger with its amount, for its user",
        count: "SELECT COUNT(*) FROM recharge_order WHERE credited_at IS NOT NULL AND [user_id]",
        violations: "SELECT CONCAT('recharge_order ', recharge_order.order_id, ' of ', recharge_order.user_id, ': amount ', recharge_order.amount, ' ', recharge_order.currency, '; ledger says ', COALESCE(leg.amount, 'nothing'), ' ', COALESCE(leg.currency, ''), ' for ', COALESCE(leg.user_id, 'nobody')), recharge_order.user_id
            FROM recharge_order
            LEFT JOIN ledger_entry AS leg
              ON leg.ref_type = 'recharge_order' AND leg.ref_id = recharge_order.order_id AND leg.kind = 'recharge' AND leg.book = 'user'
            WHERE [recharge_order.user_id] AND recharge_order.credited_at IS NOT NULL
              AND (leg.amount IS NULL OR leg.amount <> recharge_order.amount OR leg.user_id <> recharge_order.user_id OR leg.currency <> recharge_order.currency)
            LIMIT 100",
    },
    Rule {
        id: "M6",
        name: "m6_ledger_credits",
        sentence: "only credited orders stand in the ledger as paid in",
        count: "SELECT COUNT(*) FROM ledger_entry WHERE kind = 'recharge' AND book = 'user' AND [user_id]",
        violations: "SELECT CONCAT('ledger_entry ', leg.ledger_entry_id, ' of ', leg.user_id, ': ', leg.amount, ' for ', leg.ref_type, ' ', leg.ref_id, IF(recharge_order.order_id IS NULL, ', which does not exist', ', which was not credited')), leg.user_id
            FROM ledger_entry AS leg
            LEFT JOIN recharge_order ON leg.ref_type = 'recharge_order' AND recharge_order.order_id = leg.ref_id
            WHERE [leg.user_id] AND leg.kind = 'recharge' AND leg.book = 'user' AND recharge_order.credited_at IS NULL LIMIT 100",
    },
    Rule {
        id: "M6",
        name: "m6_refund_order",
        sentence: "a refund is of an order of its user, in its currency",
        count: "SELECT COUNT(*) FROM recharge_refund WHERE [user_id]",
        violations: "SELECT CONCAT('recharge_refund ', refund.refund_id, ' of ', refund.user_id, ': ', refund.currency, '; order ', refund.order_id, COALESCE(CONCAT(' of ', recharge_order.user_id, ', ', recharge_order.currency), ' does not exist')), refund.user_id
            FROM recharge_refund AS refund
            LEFT JOIN recharge_order ON recharge_order.order_id = refund.order_id
            WHERE [refund.user_id] AND (recharge_order.order_id IS NULL OR recharge_order.user_id <> refund.user_id OR recharge_order.currency <> refund.currency)
            LIMIT 100",
    },
    Rule {
        id: "M6",
        name: "m6_order_refund_in_ledger",
        sentence: "what a refund took and what is owed for it stand in the ledger",
        count: "SELECT COUNT(*) FROM recharge_refund WHERE [user_id]",
        violations: "SELECT CONCAT('recharge_refund ', refund.refund_id, ': amount ', refund.amount, ', owed ', refund.owed, '; ledger says taken ', -COALESCE(taken.amount, 0), ', owed ', -COALESCE(owed.amount, 0)), refund.user_id
            FROM recharge_refund AS refund
            LEFT JOIN ledger_entry AS taken
              ON taken.ref_type = 'recharge_refund' AND taken.ref_id = refund.refund_id AND taken.kind = 'refund' AND taken.book = 'user'
             AND taken.user_id = refund.user_id AND taken.currency = refund.currency
            LEFT JOIN ledger_entry AS owed
              ON owed.ref_type = 'recharge_refund' AND owed.ref_id = refund.refund_id AND owed.kind = 'refund' AND owed.book = 'receivable'
             AND owed.user_id = refund.user_id AND owed.currency = refund.currency
            WHERE [refund.user_id] AND (refund.amount - refund.owed <> -COALESCE(taken.amount, 0) OR refund.owed <> -COALESCE(owed.amount, 0))
            LIMIT 100",
    },
    Rule {
        id: "M6",
        name: "m6_failed_refund_returned",
        sentence: "a failed refund, and no other, gave its whole amount back to the account",
        count: "SELECT COUNT(*) FROM recharge_refund WHERE [user_id]",
        violations: "SELECT CONCAT('recharge_refund ', refund.refund_id, ' (', refund.state, '): amount ', refund.amount, '; ledger says returned ', COALESCE(leg.amount, 0)), refund.user_id
            FROM recharge_refund AS refund
            LEFT JOIN ledger_entry AS leg
              ON leg.ref_type = 'recharge_refund' AND leg.ref_id = refund.refund_id AND leg.kind = 'refund_reversal' AND leg.book = 'user'
             AND leg.user_id = refund.user_id AND leg.currency = refund.currency
            WHERE [refund.user_id] AND COALESCE(leg.amount, 0) <> IF(refund.state = 'failed', refund.amount, 0) LIMIT 100",
    },
    Rule {
        id: "M6",
        name: "m6_ledger_order_refunds",
        sentence: "only refunds stand in the ledger as given back or returned",
        count: "SELECT COUNT(*) FROM ledger_entry WHERE kind IN ('refund', 'refund_reversal') AND [user_id]",
        violations: "SELECT CONCAT('ledger_entry ', leg.ledger_entry_id, ' of ', leg.user_id, ': ', leg.kind, ' ', leg.amount, ' for ', leg.ref_type, ' ', leg.ref_id, ', which does not exist'), leg.user_id
            FROM ledger_entry AS leg
            LEFT JOIN recharge_refund AS refund ON leg.ref_type = 'recharge_refund' AND refund.refund_id = leg.ref_id
            WHERE [leg.user_id] AND leg.kind IN ('refund', 'refund_reversal') AND refund.refund_id IS NULL LIMIT 100",
    },
    Rule {
        id: "M6",
        name: "m6_order_refunds",
        sentence: "what went back of an order is the sum of its refunds, and no more is on its way than was paid",
        count: "SELECT COUNT(*) FROM recharge_order WHERE [user_id]",
        violations: "SELECT CONCAT('recharge_order ', recharge_order.order_id, ': amount ', recharge_order.amount, ', refunded ', recharge_order.refunded_amount, '; refunds done ', COALESCE(refunds.done, 0), ', done or on their way ', COALESCE(refunds.standing, 0)), recharge_order.user_id
            FROM recharge_order
            LEFT JOIN (
              SELECT order_id, user_id, SUM(IF(state = 'done', amount, 0)) AS done, SUM(IF(state = 'failed', 0, amount)) AS standing
              FROM recharge_refund WHERE [user_id] GROUP BY order_id, user_id
            ) AS refunds ON refunds.order_id = recharge_order.order_id AND refunds.user_id = recharge_order.user_id
            WHERE [recharge_order.user_id] AND (recharge_order.refunded_amount <> COALESCE(refunds.done, 0) OR recharge_order.amount < refunds.standing)
            LIMIT 100",
    },
    Rule {
        id: "M6",
        name: "m6_order_state",
        sentence: "an order's state says whether it was credited and how much of it went back",
        count: "SELECT COUNT(*) FROM recharge_order WHERE [user_id]",
        violations: "SELECT CONCAT('recharge_order ', order_id, ' (', status, '): amount ', amount, ', refunded ', refunded_amount, ', credited ', COALESCE(credited_at, 'never')), user_id
            FROM recharge_order
            WHERE [user_id] AND (CASE status
                WHEN 'paid' THEN refunded_amount <> 0
                WHEN 'partly_refunded' THEN refunded_amount <= 0 OR amount <= refunded_amount
                WHEN 'refunded' THEN refunded_amount <= 0 OR refunded_amount <> amount
                ELSE refunded_amount <> 0 OR credited_at IS NOT NULL
              END
               OR (credited_at IS NULL AND source <> 'predecessor' AND status IN ('paid', 'partly_refunded', 'refunded')))
            LIMIT 100",
    },
    Rule {
        id: "M6",
        name: "m6_asking",
        sentence: "pending orders and refunds will be asked for, and ended ones will not, but for orders whose payment failed",
        count: "SELECT (SELECT COUNT(*) FROM recharge_order WHERE [user_id]) + (SELECT COUNT(*) FROM recharge_refund WHERE [user_id])",
        violations: "SELECT CONCAT('recharge_order ', order_id, ' (', status, '): asked for ', COALESCE(ask_at, 'never')), user_id
            FROM recharge_order
            WHERE [user_id] AND ((status = 'pending' AND ask_at IS NULL) OR (status NOT IN ('pending', 'failed') AND ask_at IS NOT NULL))
            UNION ALL
            SELECT CONCAT('recharge_refund ', refund_id, ' (', state, '): asked for ', COALESCE(ask_at, 'never')), user_id
            FROM recharge_refund WHERE [user_id] AND (state = 'pending') = (ask_at IS NULL)
            LIMIT 100",
    },
];
