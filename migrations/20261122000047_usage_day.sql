-- What each account used, by service and day of the billing time zone: what statistics are told from. Written with the records
-- it sums up.
CREATE TABLE usage_day (
  user_id VARCHAR(128) NOT NULL,
  day DATE NOT NULL,
  service_name VARCHAR(32) NOT NULL,
  free_units BIGINT NOT NULL,
  paid_units BIGINT NOT NULL,
  amount DECIMAL(19,9) NOT NULL COMMENT 'money charged, the owed part included',
  owed DECIMAL(19,9) NOT NULL COMMENT 'the part that found no money',
  free_refunded BIGINT NOT NULL COMMENT 'units that went back on this day',
  paid_refunded BIGINT NOT NULL,
  refunded DECIMAL(19,9) NOT NULL COMMENT 'money that went back on this day',
  PRIMARY KEY (user_id, day, service_name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
