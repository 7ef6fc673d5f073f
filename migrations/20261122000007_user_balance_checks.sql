-- The last line of defence: no statement can leave an account overspent.
ALTER TABLE user_balance
  ADD CONSTRAINT ck_user_balance_held CHECK (0 <= held AND held <= balance),
  ADD CONSTRAINT ck_user_balance_receivable CHECK (0 <= receivable)
