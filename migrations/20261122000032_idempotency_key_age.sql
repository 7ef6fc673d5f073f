-- Answers to deducts are kept for a day and then deleted, oldest first.
ALTER TABLE idempotency_key ADD KEY idx_idempotency_key_age (scope, created_at)
