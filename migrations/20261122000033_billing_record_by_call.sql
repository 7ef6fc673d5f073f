-- Calls that are charged one by one, and what of a charge went back.
ALTER TABLE billing_record
  MODIFY source ENUM('lease','late','journal','legacy','deduct','reserve') COLLATE utf8mb4_bin NOT NULL DEFAULT 'legacy',
  ADD COLUMN free_refunded BIGINT NOT NULL DEFAULT 0 COMMENT 'free units given back' AFTER paid_units,
  ADD COLUMN paid_refunded BIGINT NOT NULL DEFAULT 0 COMMENT 'paid units given back, as money' AFTER free_refunded,
  ADD CONSTRAINT ck_billing_record_refunded CHECK
    (0 <= free_refunded AND free_refunded <= free_units AND 0 <= paid_refunded AND paid_refunded <= paid_units)
