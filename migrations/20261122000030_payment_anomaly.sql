-- News of payments that did not fit: never credited, kept for people to look at. The same news again only counts.
CREATE TABLE payment_anomaly (
  payment_anomaly_id BIGINT NOT NULL AUTO_INCREMENT,
  fingerprint BINARY(32) NOT NULL COMMENT 'SHA-256 of kind, order, payment and what was found',
  kind VARCHAR(32) NOT NULL COMMENT 'what does not fit: payment, order, amount, currency, user, status or unknown_order',
  order_id VARCHAR(255) NOT NULL,
  payment_order_id VARCHAR(255) NOT NULL,
  expected_json TEXT NOT NULL,
  found_json TEXT NOT NULL,
  times_seen BIGINT NOT NULL,
  first_seen_at DATETIME(3) NOT NULL,
  last_seen_at DATETIME(3) NOT NULL,
  PRIMARY KEY (payment_anomaly_id),
  UNIQUE KEY uk_payment_anomaly_fingerprint (fingerprint),
  KEY idx_payment_anomaly_order (order_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
