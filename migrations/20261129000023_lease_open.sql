-- Open leases in the order of their numbers, a page at a time.
ALTER TABLE lease ADD KEY idx_lease_open (state, lease_id)
