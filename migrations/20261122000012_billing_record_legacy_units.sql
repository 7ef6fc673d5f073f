-- The predecessor paid a charge from one source only.
UPDATE billing_record
SET free_units = IF(type = 'free', count, 0),
    paid_units = IF(type = 'free', 0, count)
WHERE source = 'legacy' AND free_units = 0 AND paid_units = 0
