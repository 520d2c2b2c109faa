-- Jobs that wait in a queue, and may be cancelled. A queued job that nobody runs yet has no lease_owner.
ALTER TABLE job ADD COLUMN job_class TEXT NOT NULL DEFAULT 'interactive'
  CHECK (job_class IN ('interactive','job','batch'));
ALTER TABLE job ADD COLUMN priority INTEGER NOT NULL DEFAULT 100;  -- among the queued jobs of its customer, the lowest first
ALTER TABLE job ADD COLUMN not_before INTEGER;                     -- NULL: it may begin at once
ALTER TABLE job ADD COLUMN taken_at INTEGER;                       -- when a process took it out of the queue
ALTER TABLE job ADD COLUMN cancel_requested_at INTEGER;            -- since then no further attempt is made
ALTER TABLE job ADD COLUMN batch_id TEXT;
ALTER TABLE request ADD COLUMN batch_id TEXT;                      -- of a line; such requests count towards no limit of the key

CREATE INDEX job_waiting        ON job(created_at, id) WHERE state = 'queued' AND lease_owner IS NULL;
CREATE INDEX job_waiting_by_key ON job(key_id)
  WHERE state = 'queued' AND lease_owner IS NULL AND batch_id IS NULL;
CREATE INDEX job_by_batch       ON job(batch_id, id)   WHERE batch_id IS NOT NULL;
CREATE INDEX attempt_open       ON attempt(job_id)     WHERE outcome IS NULL;
CREATE INDEX job_by_customer    ON job(customer_id, created_at, id);

-- 1: a plain answer may begin with white space while its picture is made, so that no proxy cuts the silence.
ALTER TABLE api_key ADD COLUMN keep_alive INTEGER NOT NULL DEFAULT 0 CHECK (keep_alive IN (0, 1));
