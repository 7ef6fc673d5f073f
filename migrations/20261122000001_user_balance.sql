-- One row per account. This is the predecessor's shape: a database of the predecessor keeps its table, and both kinds of
-- database take the same path from here.
CREATE TABLE IF NOT EXISTS user_balance (
  user_balance_id VARCHAR(36) NOT NULL,
  user_id VARCHAR(36) NOT NULL,
  balance DECIMAL(10,2) DEFAULT 0.00,
  created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP,
  updated_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (user_balance_id),
  UNIQUE KEY uk_user_id (user_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci
