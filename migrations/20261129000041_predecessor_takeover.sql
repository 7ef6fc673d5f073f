-- How far the tables of billing-service have been taken over: one row, and none in a database that began here. The takeover
-- itself makes this table first, so that everything else can see whether it is finished.
CREATE TABLE IF NOT EXISTS predecessor_takeover (
  takeover_id TINYINT NOT NULL,
  plan CHAR(12) NOT NULL COMMENT 'names what was found and what was to come of it',
  step INT NOT NULL COMMENT 'how many steps are done',
  copied_to VARCHAR(36) NULL COMMENT 'the last billing record that was copied',
  report_json MEDIUMTEXT NOT NULL COMMENT 'the plan; since the end, what came of it',
  begun_at DATETIME(3) NOT NULL,
  finished_at DATETIME(3) NULL,
  PRIMARY KEY (takeover_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
