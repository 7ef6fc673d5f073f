-- Units or money of one account set aside for one call.
CREATE TABLE reservation (
  reservation_id VARCHAR(36) NOT NULL,
  user_id VARCHAR(128) NOT NULL,
  service_name VARCHAR(32) NOT NULL,
  reset_month CHAR(7) NOT NULL COMMENT 'whose free quota the free units are of',
  basis ENUM('units','amount') NOT NULL COMMENT 'what was asked for',
  price DECIMAL(19,9) NULL COMMENT 'per paid unit; NULL when the service has none, and for an amount',
  price_version_id BIGINT NULL,
  free_units BIGINT NOT NULL COMMENT 'set aside',
  paid_units BIGINT NOT NULL COMMENT 'set aside; 0 for an amount',
  amount DECIMAL(19,9) NOT NULL COMMENT 'money set aside',
  state ENUM('open','committed','released','expired') NOT NULL,
  billing_record_id VARCHAR(36) NULL COMMENT 'the charge, when it was committed for more than nothing',
  expires_at DATETIME(3) NOT NULL COMMENT 'when the sidecar gives it back',
  created_at DATETIME(3) NOT NULL,
  updated_at DATETIME(3) NOT NULL,
  PRIMARY KEY (reservation_id),
  KEY idx_reservation_expiry (state, expires_at),
  KEY idx_reservation_user (user_id, state),
  CONSTRAINT ck_reservation CHECK (0 <= free_units AND 0 <= paid_units AND 0 <= amount)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
