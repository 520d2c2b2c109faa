-- What the operator is told about: raised once, resolved once.

CREATE TABLE alert (
  id          TEXT PRIMARY KEY,
  rule        TEXT NOT NULL,
  subject     TEXT NOT NULL,               -- account, channel, customer, webhook; empty: the whole gateway
  words       TEXT NOT NULL,
  value       REAL,                        -- what was measured when it was raised; NULL: nothing is measured
  threshold   REAL,
  raised_at   INTEGER NOT NULL,
  clear_since INTEGER,                     -- since when all is well; NULL: it is not
  resolved_at INTEGER
) STRICT;
CREATE UNIQUE INDEX alert_open ON alert(rule, subject) WHERE resolved_at IS NULL;
CREATE INDEX alert_by_time ON alert(raised_at, id);

-- What each process sees, so that all of them judge by the whole.
CREATE TABLE alert_figures (
  owner   TEXT PRIMARY KEY,
  said_at INTEGER NOT NULL,
  figures TEXT NOT NULL                    -- JSON: shares and conditions
) STRICT;

-- The outbox of the operator's webhook: one row when an alert is raised, one when it is resolved.
CREATE TABLE alert_message (
  id         TEXT PRIMARY KEY,             -- the webhook-id header
  alert_id   TEXT NOT NULL REFERENCES alert,
  event      TEXT NOT NULL CHECK (event IN ('alert.raised','alert.resolved')),
  created_at INTEGER NOT NULL,
  next_at    INTEGER NOT NULL,
  attempts   INTEGER NOT NULL DEFAULT 0,
  ended_at   INTEGER,                      -- delivered, or given up with last_error
  last_error TEXT
) STRICT;
CREATE INDEX alert_message_due ON alert_message(next_at) WHERE ended_at IS NULL;

-- Who probes now: what all processes together do once in a while.
CREATE TABLE watch_turn (
  name     TEXT PRIMARY KEY,
  taken_at INTEGER NOT NULL
) STRICT;
