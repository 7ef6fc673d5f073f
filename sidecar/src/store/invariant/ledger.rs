//! M5, the books balance: entries, and the accounts that they add up to.

use super::Rule;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "M5",
        name: "m5_entry_balance",
        sentence: "the legs of an entry sum to zero",
        count: "SELECT COUNT(DISTINCT entry_id) FROM ledger_entry WHERE [user_id]",
        violations: "SELECT CONCAT('ledger_entry ', entry_id, ': legs sum to ', SUM(amount), ' ', currency), MIN(user_id)
            FROM ledger_entry WHERE [user_id] GROUP BY entry_id, currency HAVING SUM(amount) <> 0 LIMIT 100",
    },
    Rule {
        id: "M5",
        name: "m5_account_legs",
        sentence: "all legs of an account in a currency sum to zero",
        count: "SELECT COUNT(*) FROM ledger_entry WHERE [user_id]",
        violations: "SELECT CONCAT('ledger_entry of ', user_id, ', all of ', currency, ': legs sum to ', SUM(amount)), user_id
            FROM ledger_entry WHERE [user_id] GROUP BY user_id, currency HAVING SUM(amount) <> 0 LIMIT 100",
    },
    Rule {
        id: "M5",
        name: "m5_balance_sum",
        sentence: "a balance is the sum of its entries",
        count: "SELECT COUNT(*) FROM user_balance WHERE [user_id]",
        violations: "SELECT CONCAT('user_balance ', accounts.user_id, ': balance ', COALESCE(account.balance, 0), ', entries sum to ', COALESCE(legs.amount, 0)), accounts.user_id
            FROM (SELECT user_id FROM user_balance WHERE [user_id] UNION SELECT user_id FROM ledger_entry WHERE [user_id]) AS accounts
            LEFT JOIN user_balance AS account ON account.user_id = accounts.user_id
            LEFT JOIN (
              SELECT user_id, SUM(amount) AS amount FROM ledger_entry WHERE [user_id] AND book = 'user' GROUP BY user_id
            ) AS legs ON legs.user_id = accounts.user_id
            WHERE COALESCE(account.balance, 0) <> COALESCE(legs.amount, 0) LIMIT 100",
    },
    Rule {
        id: "M5",
        name: "m5_receivable_sum",
        sentence: "a receivable is the sum of its entries",
        count: "SELECT COUNT(*) FROM user_balance WHERE [user_id]",
        violations: "SELECT CONCAT('user_balance ', accounts.user_id, ': receivable ', COALESCE(account.receivable, 0), ', entries sum to ', -COALESCE(legs.amount, 0)), accounts.user_id
            FROM (SELECT user_id FROM user_balance WHERE [user_id] UNION SELECT user_id FROM ledger_entry WHERE [user_id]) AS accounts
            LEFT JOIN user_balance AS account ON account.user_id = accounts.user_id
            LEFT JOIN (
              SELECT user_id, SUM(amount) AS amount FROM ledger_entry WHERE [user_id] AND book = 'receivable' GROUP BY user_id
            ) AS legs ON legs.user_id = accounts.user_id
            WHERE COALESCE(account.receivable, 0) <> -COALESCE(legs.amount, 0) LIMIT 100",
    },
    Rule {
        id: "M5",
        name: "m5_entry_numbers",
        sentence: "entries of an account are numbered without gaps",
        count: "SELECT COUNT(*) FROM user_balance WHERE [user_id]",
        violations: "SELECT CONCAT('user_balance ', account.user_id, ': entry_seq ', account.entry_seq, ', ', COALESCE(legs.entries, 0), ' entries numbered ', COALESCE(legs.first_seq, 0), ' to ', COALESCE(legs.last_seq, 0), ', ', COALESCE(legs.unnumbered, 0), ' unnumbered'), account.user_id
            FROM user_balance AS account
            LEFT JOIN (
              SELECT user_id, COUNT(user_seq) AS entries, MIN(user_seq) AS first_seq, MAX(user_seq) AS last_seq,
                     SUM(IF((book = 'user') = (user_seq IS NULL), 1, 0)) AS unnumbered
              FROM ledger_entry WHERE [user_id] GROUP BY user_id
            ) AS legs ON legs.user_id = account.user_id
            WHERE [account.user_id] AND (account.entry_seq <> COALESCE(legs.entries, 0)
               OR account.entry_seq <> COALESCE(legs.last_seq, 0)
               OR COALESCE(legs.first_seq, 1) <> 1
               OR COALESCE(legs.unnumbered, 0) <> 0)
            LIMIT 100",
    },
    Rule {
        id: "M5",
        name: "m5_running_balance",
        sentence: "the balance after an entry is the balance before it and its amount",
        count: "SELECT COUNT(*) FROM ledger_entry WHERE user_seq IS NOT NULL AND [user_id]",
        violations: "SELECT CONCAT('ledger_entry ', entry.ledger_entry_id, ' (', entry.user_id, ' number ', entry.user_seq, '): ', COALESCE(earlier.balance_after, 0), ' and ', entry.amount, ' give ', COALESCE(entry.balance_after, 'nothing')), entry.user_id
            FROM ledger_entry AS entry
            LEFT JOIN ledger_entry AS earlier ON earlier.user_id = entry.user_id AND earlier.user_seq = entry.user_seq - 1
            WHERE [entry.user_id] AND entry.user_seq IS NOT NULL
              AND (entry.balance_after IS NULL OR entry.balance_after <> COALESCE(earlier.balance_after, 0) + entry.amount)
            LIMIT 100",
    },
];
