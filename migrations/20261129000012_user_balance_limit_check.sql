-- The last line of defence, with the credit limit. Without a limit it is the one that stood here before.
ALTER TABLE user_balance
  DROP CONSTRAINT ck_user_balance_held,
  ADD CONSTRAINT ck_user_balance_limit CHECK (0 <= held AND 0 <= credit_limit AND held <= balance + credit_limit)
