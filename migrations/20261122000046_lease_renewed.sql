-- A lease that its process never names, although it is heard long after it was lent: the grant did not arrive.
ALTER TABLE lease
  ADD COLUMN renewed_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
    COMMENT 'when its gateway last named it, or was lent units of it' AFTER reclaim_at,
  ADD COLUMN is_named TINYINT NOT NULL DEFAULT 1
    COMMENT '0 until its gateway has named it' AFTER renewed_at
