-- A call whose units have several prices is charged by a record for each; all of them name the first.
ALTER TABLE billing_record
  ADD COLUMN part_of VARCHAR(36) COLLATE utf8mb4_bin NULL
