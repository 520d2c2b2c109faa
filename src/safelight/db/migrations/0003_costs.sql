-- What attempts cost the operator. An attempt copies channel and price of its job, which never change: the
-- figures of accounts are then read from this table alone, however many jobs there are.
ALTER TABLE attempt ADD COLUMN usage TEXT;                -- JSON of the tokens that the upstream counted
ALTER TABLE attempt ADD COLUMN vendor_cost_micros INTEGER -- what the vendor bills for it; NULL: not known
  CHECK (vendor_cost_micros >= 0);
ALTER TABLE attempt ADD COLUMN channel TEXT NOT NULL DEFAULT '';
ALTER TABLE attempt ADD COLUMN price_micros INTEGER NOT NULL DEFAULT 0;

UPDATE attempt SET
  channel = (SELECT channel FROM job WHERE job.id = attempt.job_id),
  price_micros = (SELECT price_micros FROM job WHERE job.id = attempt.job_id);

CREATE INDEX attempt_by_time ON attempt(sent_at);
