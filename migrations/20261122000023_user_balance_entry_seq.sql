-- The opening is the first entry of an account that had a balance.
UPDATE user_balance AS account
JOIN ledger_entry AS entry ON entry.user_id = account.user_id AND entry.user_seq = 1 AND entry.kind = 'opening'
SET account.entry_seq = 1
WHERE account.entry_seq = 0
