//! The rules that the rows must keep, as queries that find the rows which do not.

use sqlx::Row;
use sqlx::mysql::MySqlConnection;

use crate::store::StoreError;

/// A rule over the rows.
pub(crate) struct Rule {
    pub(crate) id: &'static str,
    pub(crate) sentence: &'static str,
    /// Counts what is checked.
    count: &'static str,
    /// One text per violation.
    violations: &'static str,
}

/// Counts what a rule covers and names what breaks it.
pub(crate) async fn check(
    connection: &mut MySqlConnection,
    rule: &Rule,
) -> Result<(u64, Vec<String>), StoreError> {
    let counted = sqlx::query(rule.count).fetch_one(&mut *connection).await?;
    let rows = sqlx::query(rule.violations).fetch_all(connection).await?;
    let violations =
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<_, StoreError>>()?;
    let checked: i64 = counted.try_get(0)?;
    Ok((checked.unsigned_abs(), violations))
}

const BALANCES: &str = "SELECT COUNT(*) FROM user_balance";
const QUOTAS: &str = "SELECT COUNT(*) FROM free_quota";
const LEASES: &str = "SELECT COUNT(*) FROM lease";
const OPEN_LEASES: &str = "SELECT COUNT(*) FROM lease WHERE state = 'open'";
const RECORDS: &str = "SELECT COUNT(*) FROM billing_record WHERE source <> 'legacy'";
const LEGS: &str = "SELECT COUNT(*) FROM ledger_entry";
const ORDERS: &str = "SELECT COUNT(*) FROM recharge_order";
const REFUNDS: &str = "SELECT COUNT(*) FROM recharge_refund";

/// Every rule. A list of violations ends after 100 rows: by then the first ones say enough.
pub(crate) const RULES: [Rule; 31] = [
    Rule {
        id: "M1",
        sentence: "an account holds no more than its balance, and owes nothing below zero",
        count: BALANCES,
        violations: "SELECT CONCAT('user_balance ', user_id, ': balance ', balance, ', held ', held, ', receivable ', receivable)
            FROM user_balance WHERE held < 0 OR balance < held OR receivable < 0 LIMIT 100",
    },
    Rule {
        id: "M1",
        sentence: "held money is the outstanding paid units of open leases at their prices, and what open reservations hold",
        count: BALANCES,
        violations: "SELECT CONCAT('user_balance ', account.user_id, ': held ', account.held, ', open leases hold ', COALESCE(leases.held, 0), ', open reservations ', COALESCE(reservations.held, 0))
            FROM user_balance AS account
            LEFT JOIN (
              SELECT user_id, SUM((paid_granted - paid_used - paid_returned) * price) AS held
              FROM lease WHERE state = 'open' GROUP BY user_id
            ) AS leases ON leases.user_id = account.user_id
            LEFT JOIN (SELECT user_id, SUM(amount) AS held FROM reservation WHERE state = 'open' GROUP BY user_id) AS reservations
              ON reservations.user_id = account.user_id
            WHERE account.held <> COALESCE(leases.held, 0) + COALESCE(reservations.held, 0) LIMIT 100",
    },
    Rule {
        id: "M1",
        sentence: "used and held units of a free quota are no more than its total",
        count: QUOTAS,
        violations: "SELECT CONCAT('free_quota ', user_id, ' ', service_name, ' ', reset_month, ': total ', total_quota, ', used ', used_quota, ', held ', held_quota)
            FROM free_quota WHERE used_quota < 0 OR held_quota < 0 OR total_quota < used_quota + held_quota LIMIT 100",
    },
    Rule {
        id: "M1",
        sentence: "held units of a free quota are the outstanding free units of open leases, and those of open reservations",
        count: QUOTAS,
        violations: "SELECT CONCAT('free_quota ', quota.user_id, ' ', quota.service_name, ' ', quota.reset_month, ': held ', quota.held_quota, ', open leases hold ', COALESCE(leases.held, 0), ', open reservations ', COALESCE(reservations.held, 0))
            FROM free_quota AS quota
            LEFT JOIN (
              SELECT user_id, service_name, reset_month, SUM(free_granted - free_used - free_returned) AS held
              FROM lease WHERE state = 'open' GROUP BY user_id, service_name, reset_month
            ) AS leases
              ON leases.user_id = quota.user_id AND leases.service_name = quota.service_name AND leases.reset_month = quota.reset_month
            LEFT JOIN (
              SELECT user_id, service_name, reset_month, SUM(free_units) AS held
              FROM reservation WHERE state = 'open' GROUP BY user_id, service_name, reset_month
            ) AS reservations
              ON reservations.user_id = quota.user_id AND reservations.service_name = quota.service_name AND reservations.reset_month = quota.reset_month
            WHERE quota.held_quota <> COALESCE(leases.held, 0) + COALESCE(reservations.held, 0) LIMIT 100",
    },
    Rule {
        id: "M1",
        sentence: "an open lease has an account and a free quota",
        count: OPEN_LEASES,
        violations: "SELECT CONCAT('lease ', lease.lease_id, ' of ', lease.user_id, ': no row in ', IF(account.user_id IS NULL, 'user_balance', 'free_quota'))
            FROM lease
            LEFT JOIN user_balance AS account ON account.user_id = lease.user_id
            LEFT JOIN free_quota AS quota
              ON quota.user_id = lease.user_id AND quota.service_name = lease.service_name AND quota.reset_month = lease.reset_month
            WHERE lease.state = 'open' AND (account.user_id IS NULL OR quota.user_id IS NULL) LIMIT 100",
    },
    Rule {
        id: "M1",
        sentence: "a lease uses and gives back no more than it was granted, and holds nothing once it ended",
        count: LEASES,
        violations: "SELECT CONCAT('lease ', lease_id, ' (', state, '): free ', free_granted, '/', free_used, '/', free_returned, ', paid ', paid_granted, '/', paid_used, '/', paid_returned, ' granted/used/returned')
            FROM lease
            WHERE free_granted < free_used + free_returned OR paid_granted < paid_used + paid_returned
               OR free_granted + paid_granted < free_used + paid_used + late_used
               OR (state <> 'open' AND (free_granted <> free_used + free_returned OR paid_granted <> paid_used + paid_returned))
            LIMIT 100",
    },
    Rule {
        id: "M1",
        sentence: "an open reservation has an account and a free quota",
        count: "SELECT COUNT(*) FROM reservation WHERE state = 'open'",
        violations: "SELECT CONCAT('reservation ', reservation.reservation_id, ' of ', reservation.user_id, ': no row in ', IF(account.user_id IS NULL, 'user_balance', 'free_quota'))
            FROM reservation
            LEFT JOIN user_balance AS account ON account.user_id = reservation.user_id
            LEFT JOIN free_quota AS quota
              ON quota.user_id = reservation.user_id AND quota.service_name = reservation.service_name AND quota.reset_month = reservation.reset_month
            WHERE reservation.state = 'open' AND (account.user_id IS NULL OR quota.user_id IS NULL) LIMIT 100",
    },
    Rule {
        id: "M2",
        sentence: "a committed reservation stands on one billing record, which charged no more than was reserved, and no other does",
        count: "SELECT COUNT(*) FROM reservation",
        violations: "SELECT CONCAT('reservation ', reservation.reservation_id, ' (', reservation.state, '): ', reservation.free_units, ' free, ', reservation.paid_units, ' paid, amount ', reservation.amount, '; record ', COALESCE(reservation.billing_record_id, 'none'), ' says ', COALESCE(record.free_units, 0), ' free, ', COALESCE(record.paid_units, 0), ' paid, amount ', COALESCE(record.amount, 0))
            FROM reservation
            LEFT JOIN billing_record AS record ON record.billing_record_id = reservation.billing_record_id
            WHERE (reservation.state <> 'committed' AND reservation.billing_record_id IS NOT NULL)
               OR (reservation.billing_record_id IS NOT NULL AND
                   (record.billing_record_id IS NULL OR record.source <> 'reserve' OR record.user_id <> reservation.user_id
                    OR reservation.amount < record.amount
                    OR (reservation.basis = 'units' AND (reservation.free_units < record.free_units OR reservation.paid_units < record.paid_units))))
            LIMIT 100",
    },
    Rule {
        id: "M2",
        sentence: "what went back of a charge is the sum of its refunds, and no more than was charged",
        count: RECORDS,
        violations: "SELECT CONCAT('billing_record ', record.billing_record_id, ': ', record.free_units, ' free, ', record.paid_units, ' paid, refunded ', record.free_refunded, ' and ', record.paid_refunded, '; refunds say ', COALESCE(refunds.free_units, 0), ' and ', COALESCE(refunds.paid_units, 0), ', amount ', COALESCE(refunds.amount, 0))
            FROM billing_record AS record
            LEFT JOIN (
              SELECT billing_record_id, SUM(free_units) AS free_units, SUM(paid_units) AS paid_units, SUM(amount) AS amount
              FROM charge_refund GROUP BY billing_record_id
            ) AS refunds ON refunds.billing_record_id = record.billing_record_id
            WHERE record.free_refunded <> COALESCE(refunds.free_units, 0)
               OR record.paid_refunded <> COALESCE(refunds.paid_units, 0)
               OR record.free_units < record.free_refunded OR record.paid_units < record.paid_refunded
               OR COALESCE(refunds.amount, 0) <> record.paid_refunded * COALESCE(record.unit_price, 0)
            LIMIT 100",
    },
    Rule {
        id: "M2",
        sentence: "a refund of a charge stands in the ledger with its amount, for the charge's user",
        count: "SELECT COUNT(*) FROM charge_refund",
        violations: "SELECT CONCAT('charge_refund ', refund.charge_refund_id, ' of ', refund.user_id, ': amount ', refund.amount, '; ledger says ', COALESCE(leg.amount, 0))
            FROM charge_refund AS refund
            LEFT JOIN billing_record AS record ON record.billing_record_id = refund.billing_record_id
            LEFT JOIN ledger_entry AS leg
              ON leg.ref_type = 'charge_refund' AND leg.ref_id = refund.charge_refund_id AND leg.kind = 'charge_refund' AND leg.book = 'user'
             AND leg.user_id = refund.user_id
            WHERE refund.amount <> COALESCE(leg.amount, 0) OR record.user_id IS NULL OR record.user_id <> refund.user_id
            LIMIT 100",
    },
    Rule {
        id: "M2",
        sentence: "only refunds of charges stand in the ledger as such",
        count: "SELECT COUNT(*) FROM ledger_entry WHERE kind = 'charge_refund'",
        violations: "SELECT CONCAT('ledger_entry ', leg.ledger_entry_id, ' of ', leg.user_id, ': ', leg.amount, ' for charge_refund ', leg.ref_id, ', which does not exist')
            FROM ledger_entry AS leg
            LEFT JOIN charge_refund AS refund ON leg.ref_type = 'charge_refund' AND refund.charge_refund_id = leg.ref_id
            WHERE leg.kind = 'charge_refund' AND refund.charge_refund_id IS NULL LIMIT 100",
    },
    Rule {
        id: "M3",
        sentence: "what a lease used is what its billing records charged",
        count: LEASES,
        violations: "SELECT CONCAT('lease ', lease.lease_id, ': used ', lease.free_used, ' free, ', lease.paid_used, ' paid, ', lease.late_used, ' late; records say ',
                COALESCE(records.free_units, 0), ' free, ', COALESCE(records.paid_units, 0), ' paid, ', COALESCE(records.late_units, 0), ' late, amount ', COALESCE(records.amount, 0))
            FROM lease
            LEFT JOIN (
              SELECT lease_id,
                     SUM(IF(source = 'lease', free_units, 0)) AS free_units,
                     SUM(IF(source = 'lease', paid_units, 0)) AS paid_units,
                     SUM(IF(source = 'late', count, 0)) AS late_units,
                     SUM(IF(source = 'lease', amount, 0)) AS amount
              FROM billing_record WHERE lease_id IS NOT NULL GROUP BY lease_id
            ) AS records ON records.lease_id = lease.lease_id
            WHERE lease.free_used <> COALESCE(records.free_units, 0)
               OR lease.paid_used <> COALESCE(records.paid_units, 0)
               OR lease.late_used <> COALESCE(records.late_units, 0)
               OR lease.paid_used * lease.price <> COALESCE(records.amount, 0)
            LIMIT 100",
    },
    Rule {
        id: "M3",
        sentence: "what a journal line used is what its billing records charged",
        count: "SELECT COUNT(*) FROM journal_line",
        violations: "SELECT CONCAT('journal_line ', journal_line.gateway_id, ' ', journal_line.instance, ' ', journal_line.line, ': used ', journal_line.used, '; records say ', COALESCE(records.units, 0))
            FROM journal_line
            LEFT JOIN (
              SELECT gateway.gateway_id, gateway.instance, billing_record.journal_line, SUM(billing_record.count) AS units
              FROM billing_record
              JOIN gateway ON gateway.gateway_id = billing_record.gateway_id AND gateway.epoch = billing_record.epoch
              WHERE billing_record.source = 'journal'
              GROUP BY gateway.gateway_id, gateway.instance, billing_record.journal_line
            ) AS records
              ON records.gateway_id = journal_line.gateway_id AND records.instance = journal_line.instance
             AND records.journal_line = journal_line.line
            WHERE journal_line.used <> COALESCE(records.units, 0) LIMIT 100",
    },
    Rule {
        id: "M3",
        sentence: "a billing record belongs to a lease, a journal line or a reservation, or to a call of its own",
        count: RECORDS,
        violations: "SELECT CONCAT('billing_record ', record.billing_record_id, ': no ', CASE record.source WHEN 'journal' THEN 'journal line' WHEN 'reserve' THEN 'reservation' ELSE 'lease' END)
            FROM billing_record AS record
            LEFT JOIN reservation ON reservation.user_id = record.user_id AND reservation.billing_record_id = record.billing_record_id
            LEFT JOIN lease ON lease.lease_id = record.lease_id
            LEFT JOIN gateway ON gateway.gateway_id = record.gateway_id AND gateway.epoch = record.epoch
            LEFT JOIN journal_line
              ON journal_line.gateway_id = record.gateway_id AND journal_line.instance = gateway.instance AND journal_line.line = record.journal_line
            WHERE (record.source IN ('lease', 'late') AND lease.lease_id IS NULL)
               OR (record.source = 'journal' AND journal_line.line IS NULL)
               OR (record.source = 'reserve' AND reservation.reservation_id IS NULL)
            LIMIT 100",
    },
    Rule {
        id: "M3",
        sentence: "a billing record's amount is its paid units at its price",
        count: RECORDS,
        violations: "SELECT CONCAT('billing_record ', billing_record_id, ': ', count, ' units, ', free_units, ' free, ', paid_units, ' paid at ', COALESCE(unit_price, 0), ', amount ', amount, ', owed ', owed)
            FROM billing_record
            WHERE source <> 'legacy'
              AND (count <> free_units + paid_units OR amount <> paid_units * COALESCE(unit_price, 0) OR owed < 0 OR amount < owed)
            LIMIT 100",
    },
    Rule {
        id: "M3",
        sentence: "a billing record's amount stands in the ledger",
        count: RECORDS,
        violations: "SELECT CONCAT('billing_record ', record.billing_record_id, ': amount ', record.amount, ', owed ', record.owed, '; ledger says ', COALESCE(earned.amount, 0), ', owed ', -COALESCE(owed.amount, 0))
            FROM billing_record AS record
            LEFT JOIN ledger_entry AS earned
              ON earned.ref_type = 'billing_record' AND earned.ref_id = record.billing_record_id AND earned.kind = 'charge'
             AND earned.book = CONCAT('earnings:', record.service_name)
            LEFT JOIN ledger_entry AS owed
              ON owed.ref_type = 'billing_record' AND owed.ref_id = record.billing_record_id AND owed.kind = 'charge'
             AND owed.book = 'receivable'
            WHERE record.source <> 'legacy'
              AND (record.amount <> COALESCE(earned.amount, 0) OR record.owed <> -COALESCE(owed.amount, 0))
            LIMIT 100",
    },
    Rule {
        id: "M5",
        sentence: "the legs of an entry sum to zero",
        count: "SELECT COUNT(DISTINCT entry_id) FROM ledger_entry",
        violations: "SELECT CONCAT('ledger_entry ', entry_id, ': legs sum to ', SUM(amount), ' ', currency)
            FROM ledger_entry GROUP BY entry_id, currency HAVING SUM(amount) <> 0 LIMIT 100",
    },
    Rule {
        id: "M5",
        sentence: "all legs of a currency sum to zero",
        count: LEGS,
        violations: "SELECT CONCAT('ledger_entry, all of ', currency, ': legs sum to ', SUM(amount))
            FROM ledger_entry GROUP BY currency HAVING SUM(amount) <> 0 LIMIT 100",
    },
    Rule {
        id: "M5",
        sentence: "a balance is the sum of its entries",
        count: BALANCES,
        violations: "SELECT CONCAT('user_balance ', accounts.user_id, ': balance ', COALESCE(account.balance, 0), ', entries sum to ', COALESCE(legs.amount, 0))
            FROM (SELECT user_id FROM user_balance UNION SELECT user_id FROM ledger_entry) AS accounts
            LEFT JOIN user_balance AS account ON account.user_id = accounts.user_id
            LEFT JOIN (SELECT user_id, SUM(amount) AS amount FROM ledger_entry WHERE book = 'user' GROUP BY user_id) AS legs
              ON legs.user_id = accounts.user_id
            WHERE COALESCE(account.balance, 0) <> COALESCE(legs.amount, 0) LIMIT 100",
    },
    Rule {
        id: "M5",
        sentence: "a receivable is the sum of its entries",
        count: BALANCES,
        violations: "SELECT CONCAT('user_balance ', accounts.user_id, ': receivable ', COALESCE(account.receivable, 0), ', entries sum to ', -COALESCE(legs.amount, 0))
            FROM (SELECT user_id FROM user_balance UNION SELECT user_id FROM ledger_entry) AS accounts
            LEFT JOIN user_balance AS account ON account.user_id = accounts.user_id
            LEFT JOIN (SELECT user_id, SUM(amount) AS amount FROM ledger_entry WHERE book = 'receivable' GROUP BY user_id) AS legs
              ON legs.user_id = accounts.user_id
            WHERE COALESCE(account.receivable, 0) <> -COALESCE(legs.amount, 0) LIMIT 100",
    },
    Rule {
        id: "M5",
        sentence: "entries of an account are numbered without gaps",
        count: BALANCES,
        violations: "SELECT CONCAT('user_balance ', account.user_id, ': entry_seq ', account.entry_seq, ', ', COALESCE(legs.entries, 0), ' entries numbered ', COALESCE(legs.first_seq, 0), ' to ', COALESCE(legs.last_seq, 0), ', ', COALESCE(legs.unnumbered, 0), ' unnumbered')
            FROM user_balance AS account
            LEFT JOIN (
              SELECT user_id, COUNT(user_seq) AS entries, MIN(user_seq) AS first_seq, MAX(user_seq) AS last_seq,
                     SUM(IF((book = 'user') = (user_seq IS NULL), 1, 0)) AS unnumbered
              FROM ledger_entry GROUP BY user_id
            ) AS legs ON legs.user_id = account.user_id
            WHERE account.entry_seq <> COALESCE(legs.entries, 0)
               OR account.entry_seq <> COALESCE(legs.last_seq, 0)
               OR COALESCE(legs.first_seq, 1) <> 1
               OR COALESCE(legs.unnumbered, 0) <> 0
            LIMIT 100",
    },
    Rule {
        id: "M5",
        sentence: "the balance after an entry is the balance before it and its amount",
        count: "SELECT COUNT(*) FROM ledger_entry WHERE user_seq IS NOT NULL",
        violations: "SELECT CONCAT('ledger_entry ', entry.ledger_entry_id, ' (', entry.user_id, ' number ', entry.user_seq, '): ', COALESCE(earlier.balance_after, 0), ' and ', entry.amount, ' give ', COALESCE(entry.balance_after, 'nothing'))
            FROM ledger_entry AS entry
            LEFT JOIN ledger_entry AS earlier ON earlier.user_id = entry.user_id AND earlier.user_seq = entry.user_seq - 1
            WHERE entry.user_seq IS NOT NULL
              AND (entry.balance_after IS NULL OR entry.balance_after <> COALESCE(earlier.balance_after, 0) + entry.amount)
            LIMIT 100",
    },
    Rule {
        id: "M6",
        sentence: "a credited order stands in the ledger with its amount, for its user",
        count: "SELECT COUNT(*) FROM recharge_order WHERE credited_at IS NOT NULL",
        violations: "SELECT CONCAT('recharge_order ', recharge_order.order_id, ' of ', recharge_order.user_id, ': amount ', recharge_order.amount, ' ', recharge_order.currency, '; ledger says ', COALESCE(leg.amount, 'nothing'), ' ', COALESCE(leg.currency, ''), ' for ', COALESCE(leg.user_id, 'nobody'))
            FROM recharge_order
            LEFT JOIN ledger_entry AS leg
              ON leg.ref_type = 'recharge_order' AND leg.ref_id = recharge_order.order_id AND leg.kind = 'recharge' AND leg.book = 'user'
            WHERE recharge_order.credited_at IS NOT NULL
              AND (leg.amount IS NULL OR leg.amount <> recharge_order.amount OR leg.user_id <> recharge_order.user_id OR leg.currency <> recharge_order.currency)
            LIMIT 100",
    },
    Rule {
        id: "M6",
        sentence: "only credited orders stand in the ledger as paid in",
        count: "SELECT COUNT(*) FROM ledger_entry WHERE kind = 'recharge' AND book = 'user'",
        violations: "SELECT CONCAT('ledger_entry ', leg.ledger_entry_id, ' of ', leg.user_id, ': ', leg.amount, ' for ', leg.ref_type, ' ', leg.ref_id, IF(recharge_order.order_id IS NULL, ', which does not exist', ', which was not credited'))
            FROM ledger_entry AS leg
            LEFT JOIN recharge_order ON leg.ref_type = 'recharge_order' AND recharge_order.order_id = leg.ref_id
            WHERE leg.kind = 'recharge' AND leg.book = 'user' AND recharge_order.credited_at IS NULL LIMIT 100",
    },
    Rule {
        id: "M6",
        sentence: "a refund is of an order of its user, in its currency",
        count: REFUNDS,
        violations: "SELECT CONCAT('recharge_refund ', refund.refund_id, ' of ', refund.user_id, ': ', refund.currency, '; order ', refund.order_id, COALESCE(CONCAT(' of ', recharge_order.user_id, ', ', recharge_order.currency), ' does not exist'))
            FROM recharge_refund AS refund
            LEFT JOIN recharge_order ON recharge_order.order_id = refund.order_id
            WHERE recharge_order.order_id IS NULL OR recharge_order.user_id <> refund.user_id OR recharge_order.currency <> refund.currency
            LIMIT 100",
    },
    Rule {
        id: "M6",
        sentence: "what a refund took and what is owed for it stand in the ledger",
        count: REFUNDS,
        violations: "SELECT CONCAT('recharge_refund ', refund.refund_id, ': amount ', refund.amount, ', owed ', refund.owed, '; ledger says taken ', -COALESCE(taken.amount, 0), ', owed ', -COALESCE(owed.amount, 0))
            FROM recharge_refund AS refund
            LEFT JOIN ledger_entry AS taken
              ON taken.ref_type = 'recharge_refund' AND taken.ref_id = refund.refund_id AND taken.kind = 'refund' AND taken.book = 'user'
             AND taken.user_id = refund.user_id AND taken.currency = refund.currency
            LEFT JOIN ledger_entry AS owed
              ON owed.ref_type = 'recharge_refund' AND owed.ref_id = refund.refund_id AND owed.kind = 'refund' AND owed.book = 'receivable'
             AND owed.user_id = refund.user_id AND owed.currency = refund.currency
            WHERE refund.amount - refund.owed <> -COALESCE(taken.amount, 0) OR refund.owed <> -COALESCE(owed.amount, 0)
            LIMIT 100",
    },
    Rule {
        id: "M6",
        sentence: "a failed refund, and no other, gave its whole amount back to the account",
        count: REFUNDS,
        violations: "SELECT CONCAT('recharge_refund ', refund.refund_id, ' (', refund.state, '): amount ', refund.amount, '; ledger says returned ', COALESCE(leg.amount, 0))
            FROM recharge_refund AS refund
            LEFT JOIN ledger_entry AS leg
              ON leg.ref_type = 'recharge_refund' AND leg.ref_id = refund.refund_id AND leg.kind = 'refund_reversal' AND leg.book = 'user'
             AND leg.user_id = refund.user_id AND leg.currency = refund.currency
            WHERE COALESCE(leg.amount, 0) <> IF(refund.state = 'failed', refund.amount, 0) LIMIT 100",
    },
    Rule {
        id: "M6",
        sentence: "only refunds stand in the ledger as given back or returned",
        count: "SELECT COUNT(*) FROM ledger_entry WHERE kind IN ('refund', 'refund_reversal')",
        violations: "SELECT CONCAT('ledger_entry ', leg.ledger_entry_id, ' of ', leg.user_id, ': ', leg.kind, ' ', leg.amount, ' for ', leg.ref_type, ' ', leg.ref_id, ', which does not exist')
            FROM ledger_entry AS leg
            LEFT JOIN recharge_refund AS refund ON leg.ref_type = 'recharge_refund' AND refund.refund_id = leg.ref_id
            WHERE leg.kind IN ('refund', 'refund_reversal') AND refund.refund_id IS NULL LIMIT 100",
    },
    Rule {
        id: "M6",
        sentence: "what went back of an order is the sum of its refunds, and no more is on its way than was paid",
        count: ORDERS,
        violations: "SELECT CONCAT('recharge_order ', recharge_order.order_id, ': amount ', recharge_order.amount, ', refunded ', recharge_order.refunded_amount, '; refunds done ', COALESCE(refunds.done, 0), ', done or on their way ', COALESCE(refunds.standing, 0))
            FROM recharge_order
            LEFT JOIN (
              SELECT order_id, SUM(IF(state = 'done', amount, 0)) AS done, SUM(IF(state = 'failed', 0, amount)) AS standing
              FROM recharge_refund GROUP BY order_id
            ) AS refunds ON refunds.order_id = recharge_order.order_id
            WHERE recharge_order.refunded_amount <> COALESCE(refunds.done, 0) OR recharge_order.amount < refunds.standing
            LIMIT 100",
    },
    Rule {
        id: "M6",
        sentence: "an order's state says whether it was credited and how much of it went back",
        count: ORDERS,
        violations: "SELECT CONCAT('recharge_order ', order_id, ' (', status, '): amount ', amount, ', refunded ', refunded_amount, ', credited ', COALESCE(credited_at, 'never'))
            FROM recharge_order
            WHERE CASE status
                WHEN 'paid' THEN refunded_amount <> 0
                WHEN 'partly_refunded' THEN refunded_amount <= 0 OR amount <= refunded_amount
                WHEN 'refunded' THEN refunded_amount <= 0 OR refunded_amount <> amount
                ELSE refunded_amount <> 0 OR credited_at IS NOT NULL
              END
               OR (credited_at IS NULL AND source <> 'predecessor' AND status IN ('paid', 'partly_refunded', 'refunded'))
            LIMIT 100",
    },
    Rule {
        id: "M6",
        sentence: "pending orders and refunds will be asked for, and ended ones will not, but for orders whose payment failed",
        count: "SELECT (SELECT COUNT(*) FROM recharge_order) + (SELECT COUNT(*) FROM recharge_refund)",
        violations: "SELECT CONCAT('recharge_order ', order_id, ' (', status, '): asked for ', COALESCE(ask_at, 'never'))
            FROM recharge_order
            WHERE (status = 'pending' AND ask_at IS NULL) OR (status NOT IN ('pending', 'failed') AND ask_at IS NOT NULL)
            UNION ALL
            SELECT CONCAT('recharge_refund ', refund_id, ' (', state, '): asked for ', COALESCE(ask_at, 'never'))
            FROM recharge_refund WHERE (state = 'pending') = (ask_at IS NULL)
            LIMIT 100",
    },
];
