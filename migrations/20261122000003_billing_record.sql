-- One row per charge, in the predecessor's shape.
CREATE TABLE IF NOT EXISTS billing_record (
  billing_record_id VARCHAR(36) NOT NULL,
  user_id VARCHAR(36) NOT NULL,
  service_name VARCHAR(32) NOT NULL,
  type ENUM('free','balance') NOT NULL,
  amount DECIMAL(10,4) DEFAULT 0,
  count INT DEFAULT 1,
  created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (billing_record_id),
  KEY idx_user_date (user_id, created_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci
