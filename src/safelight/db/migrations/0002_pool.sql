-- What the pool knows, shared by the processes on one database and kept over restarts.
-- Times are wall-clock milliseconds.

-- One row for each limiter group: what its vendor grants, and how much of it is spent.
CREATE TABLE limiter (
  name              TEXT PRIMARY KEY,
  images_per_minute REAL,                      -- learnt or configured; NULL: no limit is known
  learnt            INTEGER NOT NULL DEFAULT 0,-- 1: from the vendor's answers, 0: from the configuration
  configured        REAL,                      -- what the configuration said when the row was written
  other_limits      TEXT NOT NULL DEFAULT '{}',-- JSON: unit to [learnt per minute, configured]
  cooling_until     INTEGER NOT NULL DEFAULT 0,
  exhausted_until   INTEGER NOT NULL DEFAULT 0,
  changed_at        INTEGER NOT NULL
) STRICT;

-- One row for each account and process: how the account does, for people to read.
CREATE TABLE account_state (
  account    TEXT NOT NULL,
  owner      TEXT NOT NULL,                    -- the process that says so
  state      TEXT NOT NULL,                    -- ready, returning, cooling, ejected, down, exhausted, refused
  reason     TEXT NOT NULL,
  until      INTEGER,                          -- when the state is looked at again, if that is known
  in_flight  INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (account, owner)
) STRICT;

-- The last minute of a group is counted before each attempt.
ALTER TABLE attempt ADD COLUMN input_images INTEGER NOT NULL DEFAULT 0;  -- pictures sent along
CREATE INDEX attempt_by_group ON attempt(limiter_group, sent_at);
