-- The predecessor's orders go on: pending ones are asked for at once, successful ones are paid and in the opening balance.
UPDATE recharge_order
SET status = IF(status = 'success', 'paid', status),
    ask_at = IF(status = 'pending', UTC_TIMESTAMP(3), NULL)
WHERE source = 'predecessor' AND (status = 'success' OR (status = 'pending' AND ask_at IS NULL))
