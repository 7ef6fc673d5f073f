-- The predecessor could charge more than there was. What is owed becomes visible as a receivable.
UPDATE user_balance SET receivable = receivable - balance, balance = 0 WHERE balance < 0
