-- Which sidecar runs a job. The token grows with every change of hands and fences off a holder that was paused too long.
CREATE TABLE job_lease (
  name VARCHAR(64) NOT NULL,
  owner VARCHAR(36) NOT NULL,
  token BIGINT NOT NULL,
  until DATETIME(3) NOT NULL,
  PRIMARY KEY (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
