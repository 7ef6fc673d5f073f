-- Prices by the package. Their row also has an end, as a tier has, and no tier follows: a previous version of the program, for which
-- the price would be that of one unit, cannot read it.
ALTER TABLE price_version
  ADD COLUMN package_units BIGINT NULL COMMENT 'the price is that of so many units together; NULL for each' AFTER units_to
