-- Double entry, append only: the legs of one entry_id sum to zero. Signs are those of the account's owner.
CREATE TABLE ledger_entry (
  ledger_entry_id BIGINT NOT NULL AUTO_INCREMENT,
  entry_id VARCHAR(36) NOT NULL COMMENT 'groups the legs of one entry',
  user_id VARCHAR(128) NOT NULL,
  book VARCHAR(64) NOT NULL COMMENT 'user, receivable, earnings:SERVICE, adjustment or opening',
  amount DECIMAL(19,9) NOT NULL,
  currency CHAR(3) NOT NULL,
  kind VARCHAR(16) NOT NULL COMMENT 'charge, adjustment, collection or opening',
  ref_type VARCHAR(32) NOT NULL COMMENT 'what the entry is for: billing_record, credit or user_balance',
  ref_id VARCHAR(255) NOT NULL,
  user_seq BIGINT NULL COMMENT 'counts the legs of the book user, per account and without gaps',
  balance_after DECIMAL(19,9) NULL COMMENT 'balance after a leg of the book user',
  created_at DATETIME(3) NOT NULL,
  PRIMARY KEY (ledger_entry_id),
  UNIQUE KEY uk_ledger_entry_user_seq (user_id, user_seq),
  UNIQUE KEY uk_ledger_entry_ref (ref_type, ref_id, kind, book),
  KEY idx_ledger_entry_entry (entry_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
