-- Prices of single accounts: versions of the book that hold for one account alone.
ALTER TABLE price_version
  ADD COLUMN user_id VARCHAR(128) COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'whose price; empty for everybody''s' AFTER source,
  DROP KEY uk_price_version,
  ADD UNIQUE KEY uk_price_version (service_name, source, user_id, price, effective_from),
  ADD KEY idx_price_version_user (user_id)
