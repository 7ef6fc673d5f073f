-- Paid units of an account in each tier that has an end, by month. Written under the account's lock.
CREATE TABLE tier_usage (
  user_id VARCHAR(128) NOT NULL,
  price_version_id BIGINT NOT NULL COMMENT 'the tier',
  reset_month CHAR(7) NOT NULL,
  total BIGINT NOT NULL COMMENT 'units of the tier',
  used BIGINT NOT NULL COMMENT 'charged and not given back',
  held BIGINT NOT NULL COMMENT 'set aside by leases and reservations',
  late BIGINT NOT NULL COMMENT 'charged beyond the total, by leases that had given the units back',
  PRIMARY KEY (user_id, price_version_id, reset_month),
  CONSTRAINT ck_tier_usage CHECK (0 <= used AND 0 <= held AND 0 <= late AND used + held <= total)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
