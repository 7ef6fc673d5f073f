-- Rows that were made ahead of their month. Such a row counts as none: whoever uses it first gives it the units that are in
-- force then, and takes the mark away.
ALTER TABLE free_quota
  ADD COLUMN prepared TINYINT NOT NULL DEFAULT 0 COMMENT '1: made ahead and not used yet; its total is not in force' AFTER fence
