-- Packages that were bought: their records count packages, at the price of one. Units of packages are charged at nothing.
ALTER TABLE billing_record
  MODIFY source ENUM('lease','late','journal','legacy','deduct','reserve','lost','package') COLLATE utf8mb4_bin NOT NULL DEFAULT 'legacy'
