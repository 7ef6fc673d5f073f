-- Rows that are known to break an invariant, until a check of their account finds them repaired.
CREATE TABLE invariant_violation (
  invariant_violation_id BIGINT NOT NULL AUTO_INCREMENT,
  invariant VARCHAR(64) NOT NULL,
  user_id VARCHAR(128) NOT NULL,
  violation TEXT NOT NULL COMMENT 'names the row and says what is wrong with it',
  seen_at DATETIME(3) NOT NULL COMMENT 'the moment that the check saw',
  PRIMARY KEY (invariant_violation_id),
  KEY idx_invariant_violation_invariant (invariant, invariant_violation_id),
  KEY idx_invariant_violation_user (user_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
