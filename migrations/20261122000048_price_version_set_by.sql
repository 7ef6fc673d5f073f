-- Who leads a service's price: the configuration, until an operator has set one.
ALTER TABLE price_version
  ADD COLUMN set_by ENUM('configuration','operator') NOT NULL DEFAULT 'configuration' AFTER price
