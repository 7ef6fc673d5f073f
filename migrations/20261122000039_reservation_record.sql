-- The reservation that a billing record came from.
ALTER TABLE reservation ADD KEY idx_reservation_record (billing_record_id)
