-- What was answered to a keyed request.
CREATE TABLE idempotency_key (
  scope VARCHAR(32) NOT NULL,
  idempotency_key VARCHAR(255) NOT NULL,
  body_hash BINARY(32) NOT NULL,
  response MEDIUMTEXT NOT NULL,
  created_at DATETIME(3) NOT NULL,
  PRIMARY KEY (scope, idempotency_key)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
