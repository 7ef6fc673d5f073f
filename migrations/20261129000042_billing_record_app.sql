-- Which app a call of the predecessor was for. Accounts have no apps here.
ALTER TABLE billing_record
  ADD COLUMN legacy_app_id VARCHAR(36) COLLATE utf8mb4_bin NULL COMMENT 'which app of the predecessor the call was for'
