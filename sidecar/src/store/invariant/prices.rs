//! M7, exact money: each moment has one price, and no lease reaches beyond a change. Everybody's prices belong to no account:
//! they are checked when everything is.

use super::Rule;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "M7",
        name: "m7_book_prices",
        sentence: "at no moment a service has two prices of the book, for everybody or for an account; what an operator set for everybody lasts until another begins",
        count: "SELECT COUNT(*) FROM price_version WHERE source = 'book' AND [user_id]",
        violations: "SELECT CONCAT('price_version ', one.price_version_id, ' of ', one.service_name, IF(one.user_id = '', '', CONCAT(' for ', one.user_id)), ': ', one.price, ' from ', one.effective_from, ' to ', COALESCE(one.effective_to, 'no end'), ', and ', other.price_version_id, ': ', other.price, ' from ', other.effective_from), one.user_id
            FROM price_version AS one
            JOIN price_version AS other
              ON other.service_name = one.service_name AND other.source = 'book' AND other.user_id = one.user_id
             AND other.price_version_id <> one.price_version_id
            WHERE [one.user_id] AND one.source = 'book' AND one.units_from = 0 AND other.units_from = 0
              AND (one.effective_to IS NULL OR one.effective_from < one.effective_to)
              AND (other.effective_to IS NULL OR other.effective_from < other.effective_to)
              AND one.effective_from <= other.effective_from
              AND (one.effective_to IS NULL OR other.effective_from < one.effective_to)
            UNION ALL
            SELECT CONCAT('price_version ', one.price_version_id, ' of ', one.service_name, ': ', one.price, ' ends at ', one.effective_to, ', and nothing follows'), one.user_id
            FROM price_version AS one
            LEFT JOIN price_version AS next
              ON next.service_name = one.service_name AND next.source = 'book' AND next.user_id = one.user_id
             AND next.effective_from = one.effective_to AND next.units_from = 0
             AND (next.effective_to IS NULL OR next.effective_from < next.effective_to)
            WHERE [one.user_id] AND one.source = 'book' AND one.user_id = '' AND one.set_by = 'operator' AND one.units_from = 0
              AND one.effective_from < one.effective_to AND next.price_version_id IS NULL
            UNION ALL
            SELECT CONCAT('price_version ', one.price_version_id, ' of ', one.service_name, ': units to ', one.units_to, ', and no tier follows'), one.user_id
            FROM price_version AS one
            LEFT JOIN price_version AS next
              ON next.service_name = one.service_name AND next.source = 'book' AND next.user_id = one.user_id
             AND next.rate_id = one.rate_id AND next.units_from = one.units_to
            WHERE [one.user_id] AND one.source = 'book' AND one.units_to IS NOT NULL AND one.package_units IS NULL AND next.price_version_id IS NULL
            LIMIT 100",
    },
    Rule {
        id: "M7",
        name: "m7_lease_bound",
        sentence: "an open lease ends with its price at the latest, and where the account's own price begins",
        count: "SELECT COUNT(*) FROM lease WHERE state = 'open' AND [user_id]",
        violations: "SELECT CONCAT('lease ', lease.lease_id, ' of ', lease.user_id, ': until ', COALESCE(lease.not_after, 'no end'), '; price_version ', price.price_version_id, ' ends at ', COALESCE(price.effective_to, 'no end'), IF(own.price_version_id IS NULL, '', CONCAT(', the account''s own ', own.price_version_id, ' begins at ', own.effective_from))), lease.user_id
            FROM lease
            JOIN price_version AS price ON price.price_version_id = lease.price_version_id AND price.source = 'book'
            LEFT JOIN price_version AS own
              ON own.service_name = lease.service_name AND own.source = 'book' AND own.user_id = lease.user_id AND own.units_from = 0 AND price.user_id = ''
             AND (own.effective_to IS NULL OR (own.effective_from < own.effective_to AND lease.created_at < own.effective_to))
             AND own.effective_from < COALESCE(lease.not_after, '9999-12-31')
            WHERE [lease.user_id] AND lease.state = 'open'
              AND (price.effective_to < COALESCE(lease.not_after, '9999-12-31') OR own.price_version_id IS NOT NULL)
            LIMIT 100",
    },
];
