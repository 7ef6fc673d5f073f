//! M1, no overspend, for graduated prices and packages: what tiers count is what was charged and is held.

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
               OR (price.package_units IS NULL AND tier.total <> COALESCE(price.units_to - price.units_from, -1)))
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
              FROM billing_record WHERE [user_id] AND source <> 'package' GROUP BY user_id, price_version_id, reset_month
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
    Rule {
        id: "M1",
        name: "m1_package_bought",
        sentence: "as many packages are bought, and did not go back, as used and held units need",
        count: "SELECT COUNT(*) FROM tier_usage JOIN price_version USING (price_version_id) WHERE package_units IS NOT NULL AND [tier_usage.user_id]",
        violations: "SELECT CONCAT('tier_usage ', tier.user_id, ' ', tier.price_version_id, ' ', tier.reset_month, ': total ', tier.total, ', used ', tier.used, ', held ', tier.held, ', late ', tier.late, '; packages of ', price.package_units, ', bought ', COALESCE(records.packages, 0)), tier.user_id
            FROM tier_usage AS tier
            JOIN price_version AS price ON price.price_version_id = tier.price_version_id AND price.package_units IS NOT NULL
            LEFT JOIN (
              SELECT user_id, price_version_id, reset_month, SUM(paid_units - paid_refunded) AS packages
              FROM billing_record WHERE [user_id] AND source = 'package' GROUP BY user_id, price_version_id, reset_month
            ) AS records
              ON records.user_id = tier.user_id AND records.price_version_id = tier.price_version_id AND records.reset_month = tier.reset_month
            WHERE [tier.user_id] AND (tier.total <> COALESCE(records.packages, 0) * price.package_units OR 0 < tier.late
               OR tier.used + tier.held <= tier.total - price.package_units)
            UNION ALL
            SELECT CONCAT('billing_record ', record.billing_record_id, ': packages of a price that has none'), record.user_id
            FROM billing_record AS record
            LEFT JOIN price_version AS price ON price.price_version_id = record.price_version_id
            WHERE [record.user_id] AND record.source = 'package'
              AND (price.package_units IS NULL OR record.unit_price <> price.price OR record.free_units <> 0)
            UNION ALL
            SELECT CONCAT('billing_record ', record.billing_record_id, ': a unit of a package at ', record.unit_price), record.user_id
            FROM billing_record AS record
            JOIN price_version AS price ON price.price_version_id = record.price_version_id AND price.package_units IS NOT NULL
            WHERE [record.user_id] AND record.source <> 'package' AND record.unit_price <> 0
            LIMIT 100",
    },
];
