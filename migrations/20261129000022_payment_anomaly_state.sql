-- What people decided about news that did not fit. A version that does not know these columns keeps anomalies as open ones.
ALTER TABLE payment_anomaly
  ADD COLUMN state VARCHAR(8) NOT NULL DEFAULT 'open' COMMENT 'open or resolved',
  ADD COLUMN action VARCHAR(24) NULL COMMENT 'dismiss, credit or refund_at_provider; NULL while open',
  ADD COLUMN reason TEXT NULL,
  ADD COLUMN resolved_by VARCHAR(128) NULL,
  ADD COLUMN resolved_at DATETIME(3) NULL,
  ADD COLUMN credited_user_id VARCHAR(128) NULL COMMENT 'whose account was credited',
  ADD COLUMN credited_payment VARCHAR(255) NULL COMMENT 'the payment, once it was credited: no payment is credited twice',
  ADD UNIQUE KEY uk_payment_anomaly_credited (credited_payment),
  ADD KEY idx_payment_anomaly_state (state, payment_anomaly_id)
