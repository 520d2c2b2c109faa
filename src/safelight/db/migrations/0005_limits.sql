-- What a key may spend and how fast it may ask; when a customer's admissions are stopped.

ALTER TABLE api_key ADD COLUMN requests_per_minute INTEGER CHECK (requests_per_minute >= 0); -- NULL: the default; 0: no limit
ALTER TABLE api_key ADD COLUMN max_in_flight       INTEGER CHECK (max_in_flight >= 0);       -- NULL: the default; 0: no limit

-- What a key may spend in a period. What is held counts as spent until it is released.
CREATE TABLE budget (
  key_id       TEXT NOT NULL REFERENCES api_key,
  period       TEXT NOT NULL CHECK (period IN ('day','month','total')),
  limit_micros INTEGER NOT NULL CHECK (limit_micros >= 0),
  in_period    TEXT NOT NULL,                  -- the period that used_micros is of: 2026-11-22, 2026-11, or empty for total
  used_micros  INTEGER NOT NULL DEFAULT 0 CHECK (used_micros >= 0),
  alerted      INTEGER NOT NULL DEFAULT 0,     -- the highest share, in percent, that was announced in this period
  PRIMARY KEY (key_id, period)
) STRICT;

-- The day (UTC) in which a job's price counts. Not always that of created_at: where the clocks of two processes differ,
-- a period that has begun is not left again.
ALTER TABLE job ADD COLUMN budget_day TEXT NOT NULL DEFAULT '';

CREATE INDEX request_by_key ON request(key_id, created_at);
CREATE INDEX job_open_by_key ON job(key_id) WHERE state IN ('queued','in_progress');

-- Admissions of a customer whose books do not add up are stopped until an operator has looked.
ALTER TABLE balance ADD COLUMN frozen_at     INTEGER;
ALTER TABLE balance ADD COLUMN frozen_reason TEXT;

-- What the verification found. An operator who has looked accepts it: it then stops the customer no more.
CREATE TABLE finding (
  customer_id     TEXT NOT NULL,               -- empty where it is nobody's
  mark            TEXT NOT NULL,               -- by which the same finding is known again
  words           TEXT NOT NULL,
  found_at        INTEGER NOT NULL,
  accepted_at     INTEGER,
  accepted_reason TEXT,
  PRIMARY KEY (customer_id, mark)
) STRICT;

-- One row: when a process last began to verify, so that of many one does it at a time.
CREATE TABLE verification (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  began_at INTEGER NOT NULL
) STRICT;
