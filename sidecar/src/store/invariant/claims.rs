//! M1, no overspend: what is held, and what leases and reservations hold.

use super::Rule;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "M1",
        name: "m1_balance_bounds",
        sentence: "an account holds no more than its balance and its credit limit, and owes nothing below zero",
        count: "SELECT COUNT(*) FROM user_balance WHERE [user_id]",
        violations: "SELECT CONCAT('user_balance ', user_id, ': balance ', balance, ', held ', held, ', receivable ', receivable, ', credit limit ', credit_limit), user_id
            FROM user_balance WHERE [user_id] AND (held < 0 OR credit_limit < 0 OR balance + credit_limit < held OR receivable < 0) LIMIT 100",
    },
    Rule {
        id: "M1",
        name: "m1_held_money",
        sentence: "held money is the outstanding paid units of open leases at their prices, and what open reservations hold",
        count: "SELECT COUNT(*) FROM user_balance WHERE [user_id]",
        violations: "SELECT CONCAT('user_balance ', account.user_id, ': held ', account.held, ', open leases hold ', COALESCE(leases.held, 0), ', open reservations ', COALESCE(reservations.held, 0)), account.user_id
            FROM user_balance AS account
            LEFT JOIN (
              SELECT user_id, SUM((paid_granted - paid_used - paid_returned - paid_lost) * price) AS held
              FROM lease WHERE [user_id] AND state = 'open' GROUP BY user_id
            ) AS leases ON leases.user_id = account.user_id
            LEFT JOIN (
              SELECT user_id, SUM(amount) AS held FROM reservation WHERE [user_id] AND state = 'open' GROUP BY user_id
            ) AS reservations ON reservations.user_id = account.user_id
            WHERE [account.user_id] AND account.held <> COALESCE(leases.held, 0) + COALESCE(reservations.held, 0) LIMIT 100",
    },
    Rule {
        id: "M1",
        name: "m1_quota_bounds",
        sentence: "used and held units of a free quota are no more than its total",
        count: "SELECT COUNT(*) FROM free_quota WHERE [user_id]",
        violations: "SELECT CONCAT('free_quota ', user_id, ' ', service_name, ' ', reset_month, ': total ', total_quota, ', used ', used_quota, ', held ', held_quota), user_id
            FROM free_quota WHERE [user_id] AND (used_quota < 0 OR held_quota < 0 OR total_quota < used_quota + held_quota) LIMIT 100",
    },
    Rule {
        id: "M1",
        name: "m1_held_units",
        sentence: "held units of a free quota are the outstanding free units of open leases, and those of open reservations",
        count: "SELECT COUNT(*) FROM free_quota WHERE [user_id]",
        violations: "SELECT CONCAT('free_quota ', quota.user_id, ' ', quota.service_name, ' ', quota.reset_month, ': held ', quota.held_quota, ', open leases hold ', COALESCE(leases.held, 0), ', open reservations ', COALESCE(reservations.held, 0)), quota.user_id
            FROM free_quota AS quota
            LEFT JOIN (
              SELECT user_id, service_name, reset_month, SUM(free_granted - free_used - free_returned - free_lost) AS held
              FROM lease WHERE [user_id] AND state = 'open' GROUP BY user_id, service_name, reset_month
            ) AS leases
              ON leases.user_id = quota.user_id AND leases.service_name = quota.service_name AND leases.reset_month = quota.reset_month
            LEFT JOIN (
              SELECT user_id, service_name, reset_month, SUM(free_units) AS held
              FROM reservation WHERE [user_id] AND state = 'open' GROUP BY user_id, service_name, reset_month
            ) AS reservations
              ON reservations.user_id = quota.user_id AND reservations.service_name = quota.service_name AND reservations.reset_month = quota.reset_month
            WHERE [quota.user_id] AND quota.held_quota <> COALESCE(leases.held, 0) + COALESCE(reservations.held, 0) LIMIT 100",
    },
    Rule {
        id: "M1",
        name: "m1_lease_rows",
        sentence: "an open lease has an account and a free quota",
        count: "SELECT COUNT(*) FROM lease WHERE state = 'open' AND [user_id]",
        violations: "SELECT CONCAT('lease ', lease.lease_id, ' of ', lease.user_id, ': no row in ', IF(account.user_id IS NULL, 'user_balance', 'free_quota')), lease.user_id
            FROM lease
            LEFT JOIN user_balance AS account ON account.user_id = lease.user_id
            LEFT JOIN free_quota AS quota
              ON quota.user_id = lease.user_id AND quota.service_name = lease.service_name AND quota.reset_month = lease.reset_month
            WHERE [lease.user_id] AND lease.state = 'open' AND (account.user_id IS NULL OR quota.user_id IS NULL) LIMIT 100",
    },
    Rule {
        id: "M1",
        name: "m1_lease_bounds",
        sentence: "a lease uses and gives back no more than it was granted, and holds nothing once it ended",
        count: "SELECT COUNT(*) FROM lease WHERE [user_id]",
        violations: "SELECT CONCAT('lease ', lease_id, ' (', state, '): free ', free_granted, '/', free_used, '/', free_returned, '/', free_lost, ', paid ', paid_granted, '/', paid_used, '/', paid_returned, '/', paid_lost, ' granted/used/returned/lost'), user_id
            FROM lease
            WHERE [user_id] AND (free_granted < free_used + free_returned + free_lost OR paid_granted < paid_used + paid_returned + paid_lost
               OR free_granted + paid_granted < free_used + paid_used + free_lost + paid_lost + late_used
               OR (state <> 'open' AND (free_granted <> free_used + free_returned + free_lost OR paid_granted <> paid_used + paid_returned + paid_lost)))
            LIMIT 100",
    },
    Rule {
        id: "M1",
        name: "m1_reservation_rows",
        sentence: "an open reservation has an account and a free quota",
        count: "SELECT COUNT(*) FROM reservation WHERE state = 'open' AND [user_id]",
        violations: "SELECT CONCAT('reservation ', reservation.reservation_id, ' of ', reservation.user_id, ': no row in ', IF(account.user_id IS NULL, 'user_balance', 'free_quota')), reservation.user_id
            FROM reservation
            LEFT JOIN user_balance AS account ON account.user_id = reservation.user_id
            LEFT JOIN free_quota AS quota
              ON quota.user_id = reservation.user_id AND quota.service_name = reservation.service_name AND quota.reset_month = reservation.reset_month
            WHERE [reservation.user_id] AND reservation.state = 'open' AND (account.user_id IS NULL OR quota.user_id IS NULL) LIMIT 100",
    },
];
