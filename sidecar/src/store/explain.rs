//! The rows that a record, a lease, a reservation, an order or a refund hangs together with, for people who ask why.
//!
//! One query per part of the chain. `[id]` stands for the id that was asked for. A query finds its rows by indexes.

use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Column as _, Row as _, TypeInfo as _, raw_sql};

use crate::store::StoreError;
use crate::store::column::bytes_text;

/// A part of a chain: its title and the query of its rows. Columns are called what people read.
pub(crate) struct Part {
    pub(crate) title: &'static str,
    sql: &'static str,
}

/// A row's values with their names; what is NULL is left out.
pub(crate) type Facts = Vec<(String, String)>;

/// A chain; its first part is what was asked for. Without it there is no such thing.
pub(crate) type Chain = &'static [Part];

/// The rows of a part.
pub(crate) async fn rows(
    connection: &mut MySqlConnection,
    part: &Part,
    id: &str,
) -> Result<Vec<Facts>, StoreError> {
    // Text in, text out: the id becomes a constant of nothing but digits.
    let constant = format!("_utf8mb4 X'{}' COLLATE utf8mb4_bin", bytes_text(id.as_bytes()));
    let sql = part.sql.replace("[id]", &constant);
    let rows = raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await?;
    rows.iter().map(facts).collect()
}

fn facts(row: &MySqlRow) -> Result<Facts, StoreError> {
    let mut facts = Vec::new();
    for column in row.columns() {
        let value: Option<String> = row.try_get_unchecked(column.ordinal())?;
        let is_time = column.type_info().name() == "DATETIME";
        let value = value.map(|value| if is_time { utc(&value) } else { value });
        facts.extend(value.map(|value| (column.name().to_owned(), value)));
    }
    Ok(facts)
}

/// A time of the database as RFC 3339 writes it: the books are kept in UTC, whatever zone months are of.
fn utc(time: &str) -> String {
    format!("{}Z", time.replacen(' ', "T", 1))
}

pub(crate) const RECORD: Chain = &[
    Part {
        title: "billing record",
        sql: "SELECT billing_record_id AS record, user_id AS user, service_name AS service, source, type AS `paid by`, count AS units,
              free_units AS `free units`, paid_units AS `paid units`, unit_price AS price, amount, NULLIF(owed, 0) AS owed,
              NULLIF(free_refunded, 0) AS `free units back`, NULLIF(paid_refunded, 0) AS `paid units back`,
              reset_month AS `free quota of`, legacy_app_id AS app, created_at AS `booked at`
              FROM billing_record WHERE billing_record_id = [id]",
    },
    Part {
        title: "lease",
        sql: "SELECT lease.lease_id AS lease, lease.gateway_id AS gateway, lease.epoch, lease.state,
              lease.free_granted + lease.paid_granted AS granted, lease.free_used + lease.paid_used AS used,
              lease.free_returned + lease.paid_returned AS returned, NULLIF(lease.late_used, 0) AS late,
              lease.created_at AS `granted at`
              FROM billing_record JOIN lease ON lease.lease_id = billing_record.lease_id
              WHERE billing_record.billing_record_id = [id]",
    },
    Part {
        title: "reservation",
        sql: "SELECT reservation_id AS reservation, state, basis, free_units AS `free units`, paid_units AS `paid units`, amount,
              created_at AS `reserved at`, updated_at AS `ended at`
              FROM reservation WHERE billing_record_id = [id]",
    },
    Part {
        title: "journal line",
        sql: "SELECT journal_line.line, journal_line.used AS units, journal_line.route_price AS `route price`, journal_line.updated_at AS `last heard of`
              FROM billing_record
              JOIN gateway ON gateway.gateway_id = billing_record.gateway_id AND gateway.epoch = billing_record.epoch
              JOIN journal_line ON journal_line.gateway_id = gateway.gateway_id AND journal_line.instance = gateway.instance
               AND journal_line.line = billing_record.journal_line
              WHERE billing_record.billing_record_id = [id]",
    },
    Part {
        title: "request (kept for 24 hours)",
        sql: "SELECT answer.idempotency_key AS `key`, answer.scope AS endpoint, answer.created_at AS `answered at`
              FROM billing_record
              JOIN idempotency_key AS answer ON answer.scope IN ('call.deduct', 'call.commit')
               AND answer.created_at BETWEEN billing_record.created_at AND billing_record.created_at + INTERVAL 1 MINUTE
              WHERE billing_record.billing_record_id = [id] AND billing_record.source IN ('deduct', 'reserve')
                AND LOCATE([id], answer.response) <> 0",
    },
    Part {
        title: "sync message",
        sql: "SELECT billing_record.gateway_id AS gateway, gateway.instance, billing_record.epoch, billing_record.seq,
              gateway.first_seen_at AS `process first seen`, gateway.last_seen_at AS `last seen`
              FROM billing_record
              LEFT JOIN gateway ON gateway.gateway_id = billing_record.gateway_id AND gateway.epoch = billing_record.epoch
              WHERE billing_record.billing_record_id = [id] AND billing_record.seq IS NOT NULL",
    },
    Part {
        title: "price",
        sql: "SELECT price.price_version_id AS version, price.price, price.package_units AS `units of a package`, price.source, NULLIF(price.user_id, '') AS `only of`, NULLIF(price.effective_from, '1970-01-01') AS since, price.effective_to AS until
              FROM billing_record JOIN price_version AS price ON price.price_version_id = billing_record.price_version_id
              WHERE billing_record.billing_record_id = [id]",
    },
    Part {
        title: "ledger",
        sql: "SELECT kind, book, amount, currency, user_seq AS number, balance_after AS `balance after`, entry_id AS entry, created_at AS `booked at`
              FROM ledger_entry WHERE ref_type = 'billing_record' AND ref_id = [id] ORDER BY ledger_entry_id",
    },
    Part {
        title: "refunds",
        sql: "SELECT refund.charge_refund_id AS refund, refund.free_units AS `free units`, refund.paid_units AS `paid units`, refund.amount,
              leg.user_seq AS number, leg.balance_after AS `balance after`, refund.created_at AS `booked at`
              FROM charge_refund AS refund
              LEFT JOIN ledger_entry AS leg ON leg.ref_type = 'charge_refund' AND leg.ref_id = refund.charge_refund_id
               AND leg.kind = 'charge_refund' AND leg.book = 'user'
              WHERE refund.billing_record_id = [id] ORDER BY refund.created_at",
    },
];

pub(crate) const LEASE: Chain = &[
    Part {
        title: "lease",
        sql: "SELECT lease_id AS lease, user_id AS user, service_name AS service, route_price AS `route price`, price,
              reset_month AS `free quota of`, state,
              CASE state
                WHEN 'open' THEN IF(recall = 1, 'recalled: its gateway is asked to give unused units back', 'its gateway may spend from it')
                WHEN 'closed' THEN 'its gateway gave it back, or another lease followed it'
                ELSE CONCAT('its gateway was silent until ', REPLACE(reclaim_at, ' ', 'T'), 'Z')
              END AS why,
              CONCAT(free_granted, ' free, ', paid_granted, ' paid') AS granted,
              CONCAT(free_used, ' free, ', paid_used, ' paid') AS used,
              CONCAT(free_returned, ' free, ', paid_returned, ' paid') AS returned,
              IF(lost_record_id IS NULL, NULL, CONCAT(free_lost, ' free, ', paid_lost, ' paid')) AS `charged as lost`,
              NULLIF(late_used, 0) AS `used late`, NULLIF(in_flight, 0) AS `in flight`, not_after AS `not after`,
              IF(state = 'open', reclaim_at, NULL) AS `taken back at`, created_at AS `granted at`, updated_at AS `changed at`
              FROM lease WHERE lease_id = CAST([id] AS UNSIGNED)",
    },
    Part {
        title: "gateway process",
        sql: "SELECT lease.gateway_id AS gateway, gateway.instance, lease.epoch, gateway.first_seen_at AS `first seen`, gateway.last_seen_at AS `last seen`
              FROM lease LEFT JOIN gateway ON gateway.gateway_id = lease.gateway_id AND gateway.epoch = lease.epoch
              WHERE lease.lease_id = CAST([id] AS UNSIGNED)",
    },
    Part {
        title: "price",
        sql: "SELECT price.price_version_id AS version, price.price, price.source, NULLIF(price.user_id, '') AS `only of`, NULLIF(price.effective_from, '1970-01-01') AS since, price.effective_to AS until
              FROM lease JOIN price_version AS price ON price.price_version_id = lease.price_version_id
              WHERE lease.lease_id = CAST([id] AS UNSIGNED)",
    },
    Part {
        title: "charged in all",
        sql: "SELECT source, COUNT(*) AS records, SUM(count) AS units, SUM(amount) AS amount, NULLIF(SUM(owed), 0) AS owed,
              MIN(created_at) AS `from`, MAX(created_at) AS `to`
              FROM billing_record WHERE lease_id = CAST([id] AS UNSIGNED) GROUP BY source ORDER BY source",
    },
    Part {
        title: "newest records",
        sql: "SELECT billing_record_id AS record, source, count AS units, amount, epoch, seq, created_at AS `booked at`
              FROM billing_record WHERE lease_id = CAST([id] AS UNSIGNED) ORDER BY created_at DESC, billing_record_id DESC LIMIT 20",
    },
];

pub(crate) const RESERVATION: Chain = &[
    Part {
        title: "reservation",
        sql: "SELECT reservation_id AS reservation, user_id AS user, service_name AS service, basis, price, reset_month AS `free quota of`,
              free_units AS `free units`, paid_units AS `paid units`, amount, state, billing_record_id AS record,
              expires_at AS `stands until`, created_at AS `reserved at`, updated_at AS `changed at`
              FROM reservation WHERE reservation_id = [id]",
    },
    Part {
        title: "price",
        sql: "SELECT price.price_version_id AS version, price.price, price.source, NULLIF(price.user_id, '') AS `only of`, NULLIF(price.effective_from, '1970-01-01') AS since, price.effective_to AS until
              FROM reservation JOIN price_version AS price ON price.price_version_id = reservation.price_version_id
              WHERE reservation.reservation_id = [id]",
    },
];

pub(crate) const ORDER: Chain = &[
    Part {
        title: "order",
        sql: "SELECT order_id AS `order`, user_id AS user, status AS state, amount, currency, NULLIF(refunded_amount, 0) AS refunded,
              failure, source AS `made by`, idempotency_key AS `key`, created_at AS `made at`, paid_at AS `paid at`,
              credited_at AS `credited at`, ask_at AS `asked for at`, updated_at AS `changed at`
              FROM recharge_order WHERE order_id = [id]",
    },
    Part {
        title: "payment",
        sql: "SELECT payment_order_id AS payment, payment_method AS method, payment_url AS page
              FROM recharge_order WHERE order_id = [id] AND payment_order_id IS NOT NULL",
    },
    Part {
        title: "news that did not fit",
        sql: "SELECT kind AS `does not fit`, payment_order_id AS payment, expected_json AS expected, found_json AS found, times_seen AS times,
              first_seen_at AS `first seen`, last_seen_at AS `last seen`
              FROM payment_anomaly WHERE order_id = [id] ORDER BY payment_anomaly_id LIMIT 20",
    },
    Part {
        title: "ledger",
        sql: "SELECT kind, book, amount, currency, user_seq AS number, balance_after AS `balance after`, entry_id AS entry, created_at AS `booked at`
              FROM ledger_entry WHERE ref_type = 'recharge_order' AND ref_id = [id] ORDER BY ledger_entry_id",
    },
    Part {
        title: "refunds",
        sql: "SELECT refund_id AS refund, state, amount, NULLIF(owed, 0) AS owed, origin AS `begun by`, actor, reason, failure,
              created_at AS `begun at`, updated_at AS `changed at`
              FROM recharge_refund WHERE order_id = [id] ORDER BY created_at, refund_id",
    },
    Part {
        title: "ledger of refunds",
        sql: "SELECT leg.ref_id AS refund, leg.kind, leg.book, leg.amount, leg.user_seq AS number, leg.balance_after AS `balance after`, leg.created_at AS `booked at`
              FROM recharge_refund AS refund JOIN ledger_entry AS leg ON leg.ref_type = 'recharge_refund' AND leg.ref_id = refund.refund_id
              WHERE refund.order_id = [id] ORDER BY leg.ledger_entry_id",
    },
    Part {
        title: "events (kept for 30 days)",
        sql: "SELECT event.event_id AS event, event.event_type AS type, event.attempts, event.delivered_at AS `delivered at`, event.send_at AS `sent next at`,
              event.created_at AS `written at`
              FROM recharge_order JOIN outbox AS event ON recharge_order.created_at <= event.created_at AND event.user_id = recharge_order.user_id
              WHERE recharge_order.order_id = [id] AND LOCATE(recharge_order.order_id, event.payload_json) <> 0 ORDER BY event.outbox_id",
    },
];

pub(crate) const CHARGE_REFUND: Chain = &[
    Part {
        title: "refund of a charge",
        sql: "SELECT refund.charge_refund_id AS refund, refund.billing_record_id AS record, refund.user_id AS user, record.service_name AS service,
              refund.free_units AS `free units`, refund.paid_units AS `paid units`, refund.amount, record.reset_month AS `free quota of`,
              refund.created_at AS `booked at`
              FROM charge_refund AS refund LEFT JOIN billing_record AS record ON record.billing_record_id = refund.billing_record_id
              WHERE refund.charge_refund_id = [id]",
    },
    Part {
        title: "ledger",
        sql: "SELECT kind, book, amount, currency, user_seq AS number, balance_after AS `balance after`, entry_id AS entry, created_at AS `booked at`
              FROM ledger_entry WHERE ref_type = 'charge_refund' AND ref_id = [id] ORDER BY ledger_entry_id",
    },
];

pub(crate) const ORDER_REFUND: Chain = &[
    Part {
        title: "refund of an order",
        sql: "SELECT refund_id AS refund, order_id AS `order`, user_id AS user, state, amount, currency, NULLIF(owed, 0) AS owed, origin AS `begun by`,
              actor, reason, failure, ask_at AS `asked for at`, created_at AS `begun at`, updated_at AS `changed at`
              FROM recharge_refund WHERE refund_id = [id]",
    },
    Part {
        title: "ledger",
        sql: "SELECT kind, book, amount, currency, user_seq AS number, balance_after AS `balance after`, entry_id AS entry, created_at AS `booked at`
              FROM ledger_entry WHERE ref_type = 'recharge_refund' AND ref_id = [id] ORDER BY ledger_entry_id",
    },
];
