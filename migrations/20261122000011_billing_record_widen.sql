-- What a charge was made of and where it came from. The predecessor's older type, TINYINT 1 and 2, becomes the text that
-- stands at these places of the ENUM.
ALTER TABLE billing_record
  CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
  MODIFY user_id VARCHAR(128) COLLATE utf8mb4_bin NOT NULL,
  MODIFY type ENUM('free','balance','mixed') COLLATE utf8mb4_bin NOT NULL,
  MODIFY amount DECIMAL(19,9) NOT NULL COMMENT 'money charged, the owed part included',
  ADD COLUMN owed DECIMAL(19,9) NOT NULL DEFAULT 0 COMMENT 'the part booked as receivable' AFTER amount,
  MODIFY count BIGINT NOT NULL COMMENT 'units',
  ADD COLUMN free_units BIGINT NOT NULL DEFAULT 0 AFTER count,
  ADD COLUMN paid_units BIGINT NOT NULL DEFAULT 0 AFTER free_units,
  ADD COLUMN unit_price DECIMAL(19,9) NULL AFTER paid_units,
  ADD COLUMN price_version_id BIGINT NULL AFTER unit_price,
  ADD COLUMN source ENUM('lease','late','journal','legacy') COLLATE utf8mb4_bin NOT NULL DEFAULT 'legacy' AFTER price_version_id,
  ADD COLUMN lease_id BIGINT NULL AFTER source,
  ADD COLUMN journal_line BIGINT UNSIGNED NULL COMMENT 'journal_line.line of the instance with this epoch' AFTER lease_id,
  ADD COLUMN gateway_id VARCHAR(128) COLLATE utf8mb4_bin NULL COMMENT 'with epoch and seq: the sync message that reported the usage' AFTER journal_line,
  ADD COLUMN epoch BIGINT NULL AFTER gateway_id,
  ADD COLUMN seq BIGINT UNSIGNED NULL AFTER epoch,
  ADD COLUMN reset_month CHAR(7) COLLATE utf8mb4_bin NULL COMMENT 'whose free quota was used' AFTER seq,
  MODIFY created_at DATETIME(3) NOT NULL,
  ADD KEY idx_billing_record_newest (user_id, created_at, billing_record_id),
  ADD KEY idx_billing_record_lease (lease_id)
