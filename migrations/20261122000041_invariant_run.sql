-- When each invariant was last checked, and on how many rows: of accounts that had changed, and of everything.
CREATE TABLE invariant_run (
  invariant VARCHAR(64) NOT NULL,
  scope ENUM('touched','all') NOT NULL,
  checked BIGINT NOT NULL COMMENT 'rows that the rule covers',
  checked_at DATETIME(3) NOT NULL COMMENT 'the moment that the check saw',
  PRIMARY KEY (invariant, scope)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
