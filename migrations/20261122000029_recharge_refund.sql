-- Money of a paid order on its way back. The account gives it when the row is written; a refund that fails returns it.
CREATE TABLE recharge_refund (
  refund_id VARCHAR(64) NOT NULL,
  order_id VARCHAR(64) NOT NULL,
  user_id VARCHAR(128) NOT NULL,
  amount DECIMAL(19,9) NOT NULL,
  owed DECIMAL(19,9) NOT NULL DEFAULT 0 COMMENT 'the part booked as receivable',
  currency CHAR(3) NOT NULL,
  state ENUM('pending','done','failed') NOT NULL,
  origin ENUM('operator','payment_service') NOT NULL COMMENT 'who began it',
  idempotency_key VARCHAR(255) NULL,
  body_hash BINARY(32) NULL COMMENT 'SHA-256 of what the key was used for',
  reason TEXT NOT NULL,
  actor VARCHAR(128) NOT NULL,
  failure VARCHAR(255) NULL,
  attempts INT NOT NULL DEFAULT 0 COMMENT 'how often the payment service was asked',
  ask_at DATETIME(3) NULL COMMENT 'when to ask the payment service again; NULL unless pending',
  created_at DATETIME(3) NOT NULL,
  updated_at DATETIME(3) NOT NULL,
  PRIMARY KEY (refund_id),
  UNIQUE KEY uk_recharge_refund_key (order_id, idempotency_key),
  KEY idx_recharge_refund_ask (ask_at),
  CONSTRAINT ck_recharge_refund_amount CHECK (0 < amount AND 0 <= owed AND owed <= amount)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
