-- Units that leases hold are kept apart from units that are used.
ALTER TABLE free_quota
  CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
  MODIFY user_id VARCHAR(128) COLLATE utf8mb4_bin NOT NULL,
  MODIFY total_quota BIGINT NOT NULL COMMENT 'units per month',
  MODIFY used_quota BIGINT NOT NULL DEFAULT 0 COMMENT 'units charged',
  ADD COLUMN held_quota BIGINT NOT NULL DEFAULT 0 COMMENT 'units set aside by open leases' AFTER used_quota,
  MODIFY reset_month CHAR(7) COLLATE utf8mb4_bin NOT NULL COMMENT 'YYYY-MM in the billing time zone',
  MODIFY created_at DATETIME(3) NOT NULL,
  MODIFY updated_at DATETIME(3) NOT NULL,
  ADD CONSTRAINT ck_free_quota_total CHECK (used_quota + held_quota <= total_quota),
  ADD CONSTRAINT ck_free_quota_parts CHECK (0 <= used_quota AND 0 <= held_quota)
