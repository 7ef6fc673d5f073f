-- The predecessor wrote an empty payment id, or the order's own id, where no payment id was known.
UPDATE recharge_order
SET payment_order_id = IF(payment_order_id IN ('', order_id), NULL, payment_order_id),
    status = COALESCE(status, 'pending'),
    created_at = COALESCE(created_at, UTC_TIMESTAMP()),
    updated_at = COALESCE(updated_at, UTC_TIMESTAMP())
WHERE payment_order_id IN ('', order_id) OR status IS NULL OR created_at IS NULL OR updated_at IS NULL
