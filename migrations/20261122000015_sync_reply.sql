-- What was answered to each message, so that a repeated message gets the same answer and changes nothing.
CREATE TABLE sync_reply (
  gateway_id VARCHAR(128) NOT NULL,
  epoch BIGINT NOT NULL,
  seq BIGINT UNSIGNED NOT NULL,
  body_hash BINARY(32) NOT NULL COMMENT 'SHA-256 of the request body',
  reply MEDIUMTEXT NOT NULL,
  created_at DATETIME(3) NOT NULL,
  PRIMARY KEY (gateway_id, epoch, seq),
  KEY idx_sync_reply_created (created_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
