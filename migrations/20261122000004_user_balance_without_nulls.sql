-- The predecessor's columns may be NULL; a missing balance means nothing was ever paid in.
UPDATE user_balance
SET balance = COALESCE(balance, 0),
    created_at = COALESCE(created_at, UTC_TIMESTAMP()),
    updated_at = COALESCE(updated_at, UTC_TIMESTAMP())
WHERE balance IS NULL OR created_at IS NULL OR updated_at IS NULL
