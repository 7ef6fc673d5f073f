-- What was charged when a lease was taken back from a silent gateway, although nobody had reported it.
ALTER TABLE lease
  ADD COLUMN free_lost BIGINT NOT NULL DEFAULT 0 COMMENT 'units charged as lost, and not given back since' AFTER paid_returned,
  ADD COLUMN paid_lost BIGINT NOT NULL DEFAULT 0 AFTER free_lost,
  ADD COLUMN lost_record_id VARCHAR(36) NULL COMMENT 'the billing_record that charged them' AFTER paid_lost,
  ADD CONSTRAINT ck_lease_lost CHECK
    (0 <= free_lost AND free_used + free_returned + free_lost <= free_granted
     AND 0 <= paid_lost AND paid_used + paid_returned + paid_lost <= paid_granted)
