-- One row per account, service and month, in the predecessor's shape.
CREATE TABLE IF NOT EXISTS free_quota (
  free_quota_id VARCHAR(36) NOT NULL,
  user_id VARCHAR(36) NOT NULL,
  service_name VARCHAR(32) NOT NULL,
  total_quota INT DEFAULT 0,
  used_quota INT DEFAULT 0,
  reset_month VARCHAR(7) NOT NULL,
  created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP,
  updated_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (free_quota_id),
  UNIQUE KEY uk_user_service_month (user_id, service_name, reset_month)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci
