-- One row per order to add money, in the shape of the predecessor's first generation.
CREATE TABLE IF NOT EXISTS recharge_order (
  order_id VARCHAR(64) NOT NULL,
  user_id VARCHAR(36) NOT NULL,
  amount DECIMAL(10,2) NOT NULL,
  payment_order_id VARCHAR(64) DEFAULT NULL,
  status ENUM('pending','success','failed') DEFAULT 'pending',
  created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP,
  updated_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (order_id),
  UNIQUE KEY uk_payment_order_id (payment_order_id),
  KEY idx_user_id (user_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci
