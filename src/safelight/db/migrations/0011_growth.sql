-- Looks whose cost must not grow with what is there (docs/performance.md, "Growth").

-- How a customer's transfers lie in time, so that a span of time is found by halving: the latest time of any of them, and
-- by how much one of them was ever made before an earlier one (clocks are set back, and machines differ).
ALTER TABLE balance ADD COLUMN latest_at   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE balance ADD COLUMN set_back_ms INTEGER NOT NULL DEFAULT 0;
UPDATE balance SET
  latest_at = COALESCE((SELECT MAX(t.created_at) FROM transfer t WHERE t.customer_id = balance.customer_id), 0),
  set_back_ms = COALESCE((SELECT MAX(r.latest - r.created_at) FROM (
    SELECT t.created_at, MAX(t.created_at) OVER (ORDER BY t.seq) AS latest FROM transfer t
    WHERE t.customer_id = balance.customer_id) r), 0);

-- Of open jobs those that a process has: looks at them must not meet a hundred thousand that wait.
CREATE INDEX job_leased        ON job(lease_owner) WHERE state IN ('queued','in_progress') AND lease_owner IS NOT NULL;
CREATE INDEX job_leased_by_key ON job(key_id, created_at, n)
  WHERE state IN ('queued','in_progress') AND lease_owner IS NOT NULL;
DROP INDEX job_open_by_key;
CREATE INDEX job_waiting_until ON job(deadline_at, id) WHERE state = 'queued' AND lease_owner IS NULL;

-- Lists of a customer's jobs, of one state or channel.
CREATE INDEX job_by_state      ON job(customer_id, state, created_at, id);
CREATE INDEX job_by_channel    ON job(customer_id, channel, created_at, id);
