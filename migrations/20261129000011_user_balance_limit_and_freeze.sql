-- What operators decide about an account: how far below zero its balance may go, and whether it may use anything at all.
ALTER TABLE user_balance
  ADD COLUMN credit_limit DECIMAL(19,9) NOT NULL DEFAULT 0 COMMENT 'how far below zero the balance may go' AFTER receivable,
  ADD COLUMN frozen_at DATETIME(3) NULL COMMENT 'since when nothing of it may be used; NULL when it may' AFTER check_at,
  ADD COLUMN frozen_reason TEXT NULL COMMENT 'why, for operators' AFTER frozen_at
