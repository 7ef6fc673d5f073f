-- The predecessor's columns may be NULL.
UPDATE billing_record
SET amount = COALESCE(amount, 0),
    count = COALESCE(count, 1),
    created_at = COALESCE(created_at, UTC_TIMESTAMP())
WHERE amount IS NULL OR count IS NULL OR created_at IS NULL
