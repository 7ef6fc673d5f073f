-- The predecessor could count more used units than there were, and its columns may be NULL.
UPDATE free_quota
SET total_quota = GREATEST(COALESCE(total_quota, 0), 0),
    used_quota = LEAST(GREATEST(COALESCE(used_quota, 0), 0), GREATEST(COALESCE(total_quota, 0), 0)),
    created_at = COALESCE(created_at, UTC_TIMESTAMP()),
    updated_at = COALESCE(updated_at, UTC_TIMESTAMP())
