-- A report that was sent before another one must not give back what that one named.
ALTER TABLE lease
  ADD COLUMN untold_lost BIGINT NOT NULL DEFAULT 0
    COMMENT 'of the units charged as lost: those that no report has named since' AFTER paid_lost,
  ADD CONSTRAINT ck_lease_untold CHECK (0 <= untold_lost AND untold_lost <= free_lost + paid_lost)
