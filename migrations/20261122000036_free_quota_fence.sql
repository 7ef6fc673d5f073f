-- A sidecar that lost its lock while it stood still must not write: the row knows the fencing number of the newest holder.
ALTER TABLE free_quota
  ADD COLUMN fence BIGINT NOT NULL DEFAULT 0 COMMENT 'fencing number of the last deduct that held the lock' AFTER held_quota
