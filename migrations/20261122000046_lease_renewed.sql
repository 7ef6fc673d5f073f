-- A process that is heard long after this, and does not name the lease, does not have it.
ALTER TABLE lease
  ADD COLUMN renewed_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
    COMMENT 'when its gateway last named it, or was lent it' AFTER reclaim_at
