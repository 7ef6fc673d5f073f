-- The books begin with what every account had. Both legs of an account carry its row's id as their entry. An account that
-- has an opening is skipped, so the statement can run again.
INSERT INTO ledger_entry
  (entry_id, user_id, book, amount, currency, kind, ref_type, ref_id, user_seq, balance_after, created_at)
SELECT account.user_balance_id, account.user_id, leg.book,
       CASE leg.book
         WHEN 'user' THEN account.balance
         WHEN 'receivable' THEN -account.receivable
         ELSE account.receivable - account.balance
       END,
       account.currency, 'opening', 'user_balance', account.user_balance_id,
       IF(leg.book = 'user', 1, NULL), IF(leg.book = 'user', account.balance, NULL), UTC_TIMESTAMP(3)
FROM user_balance AS account
JOIN (SELECT 'user' AS book UNION ALL SELECT 'receivable' UNION ALL SELECT 'opening') AS leg
  ON (leg.book = 'user' AND account.balance <> 0)
  OR (leg.book = 'receivable' AND account.receivable <> 0)
  OR (leg.book = 'opening' AND account.receivable <> account.balance)
WHERE account.entry_seq = 0
  AND NOT EXISTS (SELECT 1 FROM ledger_entry AS entry WHERE entry.user_id = account.user_id)
