-- One payment pays one order, one key makes one order of a user, and no more goes back than came in.
ALTER TABLE recharge_order
  MODIFY status ENUM('pending','failed','paid','closed','partly_refunded','refunded') COLLATE utf8mb4_bin NOT NULL,
  ADD UNIQUE KEY uk_recharge_order_key (user_id, idempotency_key),
  ADD KEY idx_recharge_order_user (user_id, created_at, order_id),
  ADD KEY idx_recharge_order_pending (user_id, status),
  ADD KEY idx_recharge_order_state (status, created_at, order_id),
  ADD KEY idx_recharge_order_newest (created_at, order_id),
  ADD KEY idx_recharge_order_ask (ask_at),
  ADD CONSTRAINT ck_recharge_order_refunded CHECK (refunded_amount = 0 OR (0 < refunded_amount AND refunded_amount <= amount))
