-- Usage that a gateway allowed without a lease, in totals per line.
CREATE TABLE journal_line (
  gateway_id VARCHAR(128) NOT NULL,
  instance CHAR(32) NOT NULL,
  line BIGINT UNSIGNED NOT NULL,
  user_id VARCHAR(128) NOT NULL,
  service_name VARCHAR(32) NOT NULL,
  route_price DECIMAL(19,9) NULL,
  used BIGINT NOT NULL COMMENT 'units charged',
  updated_at DATETIME(3) NOT NULL,
  PRIMARY KEY (gateway_id, instance, line)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
