-- Exact money (1e-9 of the currency), holds and receivables. Times are UTC. The predecessor knew no other currency than CNY.
ALTER TABLE user_balance
  CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
  MODIFY user_id VARCHAR(128) COLLATE utf8mb4_bin NOT NULL,
  MODIFY balance DECIMAL(19,9) NOT NULL COMMENT 'prepaid money, held money included',
  ADD COLUMN held DECIMAL(19,9) NOT NULL DEFAULT 0 COMMENT 'money set aside by open leases' AFTER balance,
  ADD COLUMN receivable DECIMAL(19,9) NOT NULL DEFAULT 0 COMMENT 'charges that found no money left' AFTER held,
  ADD COLUMN currency CHAR(3) COLLATE utf8mb4_bin NOT NULL DEFAULT 'CNY' AFTER receivable,
  ADD COLUMN entry_seq BIGINT NOT NULL DEFAULT 0 COMMENT 'user_seq of the newest ledger_entry' AFTER currency,
  MODIFY created_at DATETIME(3) NOT NULL,
  MODIFY updated_at DATETIME(3) NOT NULL
