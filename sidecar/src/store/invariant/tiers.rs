//! M1, no overspend, for graduated prices: what tiers count is what was charged and is held.

use super::Rule;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "M1",
        name: "m1_tier_bounds",
        sentence: "used and held units of a tier are no more than it has, and units are late only while it is full",
        count: "SELECT COUNT(*) FROM tier_usage WHERE [user_id]",
        violations: "SELECT CONCAT('tier_usage ', tier.user_id, ' ', tier.price_version_id, ' ', tier.reset_month, ': total ', tier.total, ', used ', tier.used, ', held ', tier.held, ', late ', tier.late, '; the tier has ', COALESCE(price.units_to - price.units_from, 'no end')), tier.user_id
            FROM tier_usage AS tier
            LEFT JOIN price_version AS price ON price.price_version_id = tier.price_version_id
            WHERE [tier.user_id] AND (tier.used < 0 OR tier.held < 0 OR tier.late < 0 OR tier.total < tier.used + tier.held
               OR (0 < tier.late AND tier.used + tier.held < tier.total)
               OR tier.total <> COALESCE(price.units_to - price.units_from, -1))
            LIMIT 100",
    },
    Rule {
        id: "M1",
        name: "m1_tier_held",
        sentence: "held units of a tier are the outstanding paid units of open leases at it, and those set aside for calls",
        count: "SELECT COUNT(*) FROM tier_usage WHERE [user_id]",
        violations: "SELECT CONCAT('tier_usage ', tier.user_id, ' ', tier.price_version_id, ' ', tier.reset_month, ': held ', tier.held, ', open leases hold ', COALESCE(leases.held, 0), ', open reservations ', COALESCE(reservations.held, 0)), tier.user_id
            FROM tier_usage AS tier
            LEFT JOIN (
              SELECT user_id, price_version_id, reset_month, SUM(paid_granted - paid_used - paid_returned - paid_lost) AS held
              FROM lease WHERE [user_id] AND state = 'open' GROUP BY user_id, price_version_id, reset_month
            ) AS leases
              ON leases.user_id = tier.user_id AND leases.price_version_id = tier.price_version_id AND leases.reset_month = tier.reset_month
            LEFT JOIN (
              SELECT user_id, price_version_id, reset_month, SUM(paid_units) AS held
              FROM reservation WHERE [user_id] AND state = 'open' GROUP BY user_id, price_version_id, reset_month
            ) AS reservations
              ON reservations.user_id = tier.user_id AND reservations.price_version_id = tier.price_version_id AND reservations.reset_month = tier.reset_month
            WHERE [tier.user_id] AND tier.held <> COALESCE(leases.held, 0) + COALESCE(reservations.held, 0) LIMIT 100",
    },
    Rule {
        id: "M1",
        name: "m1_tier_used",
        sentence: "used units of a tier are the paid units of billing records at its price that did not go back",
        count: "SELECT COUNT(*) FROM tier_usage WHERE [user_id]",
        violations: "SELECT CONCAT('tier_usage ', tier.user_id, ' ', tier.price_version_id, ' ', tier.reset_month, ': used ', tier.used, ', late ', tier.late, '; records say ', COALESCE(records.units, 0)), tier.user_id
            FROM tier_usage AS tier
            LEFT JOIN (
              SELECT user_id, price_version_id, reset_month, SUM(paid_units - paid_refunded) AS units
              FROM billing_record WHERE [user_id] GROUP BY user_id, price_version_id, reset_month
            ) AS records
              ON records.user_id = tier.user_id AND records.price_version_id = tier.price_version_id AND records.reset_month = tier.reset_month
            WHERE [tier.user_id] AND tier.used + tier.late <> COALESCE(records.units, 0)
            UNION ALL
            SELECT CONCAT('billing_record ', record.billing_record_id, ': no row in tier_usage'), record.user_id
            FROM billing_record AS record
            JOIN price_version AS price ON price.price_version_id = record.price_version_id AND price.units_to IS NOT NULL
            LEFT JOIN tier_usage AS tier
              ON tier.user_id = record.user_id AND tier.price_version_id = record.price_version_id AND tier.reset_month = record.reset_month
            WHERE [record.user_id] AND 0 < record.paid_units AND tier.user_id IS NULL
            LIMIT 100",
    },
];
