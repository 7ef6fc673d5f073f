-- How far the free quotas of a month are prepared: a pass that was broken off goes on here, whichever sidecar does it.
CREATE TABLE free_quota_run (
  reset_month CHAR(7) NOT NULL,
  after_user VARCHAR(128) NULL COMMENT 'the last account that the pass came to; NULL when no pass is under way',
  row_count BIGINT NOT NULL COMMENT 'rows made, in all passes',
  finished_at DATETIME(3) NULL COMMENT 'when the last pass came to its end',
  PRIMARY KEY (reset_month)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
