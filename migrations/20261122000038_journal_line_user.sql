-- The journal lines of an account, for its invariants.
ALTER TABLE journal_line ADD KEY idx_journal_line_user (user_id)
