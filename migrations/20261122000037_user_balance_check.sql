-- Which accounts changed since their rows were last checked. An account's transactions are counted, so that a check knows
-- whether it saw the newest one.
ALTER TABLE user_balance
  ADD COLUMN change_seq BIGINT NOT NULL DEFAULT 0 COMMENT 'counts the transactions that changed the account''s rows' AFTER entry_seq,
  ADD COLUMN check_at DATETIME(3) NULL COMMENT 'when its invariants are due; NULL when nothing changed since they were checked' AFTER change_seq,
  ADD KEY idx_user_balance_check (check_at)
