-- Who may act over HTTP, and as what. Of a token its hash alone is kept.
CREATE TABLE operator_token (
  operator_token_id BIGINT NOT NULL AUTO_INCREMENT,
  token_id CHAR(12) NOT NULL COMMENT 'the part of the token by which it is found',
  name VARCHAR(64) NOT NULL,
  live_name VARCHAR(64) NULL COMMENT 'the name; NULL once revoked, so that another token may have it',
  role VARCHAR(16) NOT NULL COMMENT 'viewer, operator or admin',
  token_hash BINARY(32) NOT NULL COMMENT 'SHA-256 of the whole token',
  created_by VARCHAR(128) NOT NULL,
  created_at DATETIME(3) NOT NULL,
  expires_at DATETIME(3) NULL,
  last_used_at DATETIME(3) NULL COMMENT 'to the minute',
  revoked_by VARCHAR(128) NULL,
  revoked_at DATETIME(3) NULL,
  PRIMARY KEY (operator_token_id),
  UNIQUE KEY uk_operator_token_id (token_id),
  UNIQUE KEY uk_operator_token_live (live_name),
  KEY idx_operator_token_name (name),
  CONSTRAINT ck_operator_token_live CHECK ((live_name IS NULL) = (revoked_at IS NOT NULL))
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
