-- Charges of what a silent gateway may have used.
ALTER TABLE billing_record
  MODIFY source ENUM('lease','late','journal','legacy','deduct','reserve','lost') COLLATE utf8mb4_bin NOT NULL DEFAULT 'legacy'
