-- Units of a charge that went back to where they came from. Append only.
CREATE TABLE charge_refund (
  charge_refund_id VARCHAR(36) NOT NULL,
  billing_record_id VARCHAR(36) NOT NULL,
  user_id VARCHAR(128) NOT NULL,
  free_units BIGINT NOT NULL COMMENT 'to the free quota of the charge''s month',
  paid_units BIGINT NOT NULL,
  amount DECIMAL(19,9) NOT NULL COMMENT 'to the balance, what is owed first',
  created_at DATETIME(3) NOT NULL,
  PRIMARY KEY (charge_refund_id),
  KEY idx_charge_refund_record (billing_record_id),
  KEY idx_charge_refund_user (user_id, created_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
