-- Prices never change: another price is another version. Versions of source 'route' are prices that routes name; they have
-- no timeline and all begin in 1970.
CREATE TABLE price_version (
  price_version_id BIGINT NOT NULL AUTO_INCREMENT,
  service_name VARCHAR(32) NOT NULL,
  source ENUM('book','route') NOT NULL,
  price DECIMAL(19,9) NOT NULL COMMENT 'per unit',
  effective_from DATETIME(3) NOT NULL,
  effective_to DATETIME(3) NULL,
  PRIMARY KEY (price_version_id),
  UNIQUE KEY uk_price_version (service_name, source, price, effective_from),
  CONSTRAINT ck_price_version_price CHECK (0 <= price)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
