-- What a key may spend and how fast it may ask; when a customer's admissions are stopped.

ALTER TABLE api_key ADD COLUMN requests_per_minute INTEGER CHECK (requests_per_minute >= 0); -- NULL: the default; 0: no limit
ALTER TABLE api_key ADD COLUMN max_in_flight       INTEGER CHECK (max_in_flight >= 0);       -- NULL: the default; 0: no limit

-- What a key may spend in a period. What is held counts as spent until it is released.
CREATE TABLE budget (
  key_id       TEXT NOT NULL REFERENCES api_key,
  period       TEXT NOT NULL CHECK (period IN ('day','month','total')),
  limit_micros INTEGER NOT NULL CHECK (limit_micros >= 0),
  in_period    TEXT NOT NULL DEFAULT '',       -- the period that used_micros is of: 2026-11-22, 2026-11, or empty for total
  used_micros  INTEGER NOT NULL DEFAULT 0 CHECK (used_micros >= 0),
  alerted      INTEGER NOT NULL DEFAULT 0,     -- the highest share, in percent, that was announced in this period
  PRIMARY KEY (key_id, period)
) STRICT;

CREATE INDEX request_by_key ON request(key_id, created_at);
CREATE INDEX job_open_by_key ON job(key_id) WHERE state IN ('queued','in_progress');

-- Admissions of a customer whose books do not add up are stopped until an operator has looked.
ALTER TABLE balance ADD COLUMN frozen_at     INTEGER;
ALTER TABLE balance ADD COLUMN frozen_reason TEXT;
