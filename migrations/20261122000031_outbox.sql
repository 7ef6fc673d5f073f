-- Events for other systems, written in the transaction that they tell about and delivered afterwards, at least once.
CREATE TABLE outbox (
  outbox_id BIGINT NOT NULL AUTO_INCREMENT,
  event_id VARCHAR(36) NOT NULL COMMENT 'the same in every delivery',
  event_type VARCHAR(64) NOT NULL,
  user_id VARCHAR(128) NOT NULL,
  payload_json TEXT NOT NULL,
  attempts INT NOT NULL DEFAULT 0,
  send_at DATETIME(3) NULL COMMENT 'when to deliver it; NULL once it is delivered or given up',
  created_at DATETIME(3) NOT NULL,
  delivered_at DATETIME(3) NULL,
  PRIMARY KEY (outbox_id),
  UNIQUE KEY uk_outbox_event (event_id),
  KEY idx_outbox_send (send_at),
  KEY idx_outbox_created (created_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
