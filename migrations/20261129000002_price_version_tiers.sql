-- Graduated prices: a row per tier. The rows of one price share `rate_id`; a price of one tier has none.
ALTER TABLE price_version
  ADD COLUMN rate_id VARCHAR(36) COLLATE utf8mb4_bin NOT NULL DEFAULT '' AFTER price,
  ADD COLUMN units_from BIGINT NOT NULL DEFAULT 0 COMMENT 'units of the month before this tier' AFTER rate_id,
  ADD COLUMN units_to BIGINT NULL COMMENT 'its last unit of the month; NULL for all that follow' AFTER units_from,
  DROP KEY uk_price_version,
  ADD UNIQUE KEY uk_price_version (service_name, source, user_id, price, effective_from, rate_id, units_from)
