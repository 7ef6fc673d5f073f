-- The refunds of an account, for its invariants.
ALTER TABLE recharge_refund ADD KEY idx_recharge_refund_user (user_id)
