-- Which number each process of a gateway has.
CREATE TABLE gateway (
  gateway_id VARCHAR(128) NOT NULL,
  epoch BIGINT NOT NULL COMMENT '1 for the first process of this name, then one more each',
  instance CHAR(32) NOT NULL COMMENT 'drawn by the process when it starts',
  first_seen_at DATETIME(3) NOT NULL,
  last_seen_at DATETIME(3) NOT NULL,
  PRIMARY KEY (gateway_id, epoch),
  UNIQUE KEY uk_gateway_instance (gateway_id, instance)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
