-- Files of customers, and batches: many jobs in the OpenAI Batch form.

CREATE TABLE file (
  id          TEXT PRIMARY KEY,
  customer_id TEXT NOT NULL REFERENCES customer,
  purpose     TEXT NOT NULL,
  filename    TEXT NOT NULL,
  digest      TEXT NOT NULL,                   -- of the blob with its bytes
  bytes       INTEGER NOT NULL,
  created_at  INTEGER NOT NULL,
  expires_at  INTEGER,
  deleted_at  INTEGER                          -- by its owner, or because it expired; the row stays
) STRICT;
CREATE INDEX file_by_customer ON file(customer_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX file_by_digest   ON file(digest) WHERE deleted_at IS NULL;
CREATE INDEX file_expiring    ON file(expires_at) WHERE deleted_at IS NULL AND expires_at IS NOT NULL;

CREATE TABLE batch (
  id               TEXT PRIMARY KEY,
  customer_id      TEXT NOT NULL REFERENCES customer,
  key_id           TEXT NOT NULL REFERENCES api_key,
  input_file_id    TEXT NOT NULL REFERENCES file,
  input_digest     TEXT NOT NULL,
  endpoint         TEXT NOT NULL,
  completion_window TEXT NOT NULL,
  metadata         TEXT,                       -- JSON as it was sent
  keep_output_s    INTEGER NOT NULL,           -- how long its files are kept, seconds
  idempotency_key  TEXT,                       -- NULL when not sent
  origin           TEXT NOT NULL,              -- this gateway's address as its customer knows it, for links
  status           TEXT NOT NULL CHECK (status IN ('validating','failed','in_progress','finalizing','completed',
                                                   'expired','cancelling','cancelled')),
  visit            TEXT NOT NULL DEFAULT '',   -- the one that works on it; an older one may write no more
  reminders        INTEGER NOT NULL DEFAULT 0, -- reminders that were queued for it
  touched_at       INTEGER NOT NULL,           -- when a visit worked on it last
  progress_at      INTEGER NOT NULL,           -- when one last changed something
  starved_at       INTEGER,                    -- since when the balance does not cover the next line
  model            TEXT,
  errors           TEXT,                       -- JSON: why it failed, by line; or what it waits for
  total            INTEGER NOT NULL DEFAULT 0, -- of its lines; the other two are kept when it has ended
  completed        INTEGER NOT NULL DEFAULT 0,
  failed           INTEGER NOT NULL DEFAULT 0,
  output_file_id   TEXT REFERENCES file,
  error_file_id    TEXT REFERENCES file,
  created_at       INTEGER NOT NULL,
  expires_at       INTEGER NOT NULL,
  in_progress_at   INTEGER,
  finalizing_at    INTEGER,
  completed_at     INTEGER,
  failed_at        INTEGER,
  expired_at       INTEGER,
  cancelling_at    INTEGER,
  cancelled_at     INTEGER,
  usage            TEXT                        -- JSON, when it has ended
) STRICT;
CREATE INDEX batch_by_customer ON batch(customer_id, created_at, id);
CREATE INDEX batch_by_input    ON batch(input_file_id, created_at);
CREATE UNIQUE INDEX batch_idempotency ON batch(customer_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX batch_open        ON batch(touched_at)
  WHERE status IN ('validating','in_progress','finalizing','cancelling');

-- One line of a batch's input. Its bytes stay in the file; the request that it became is bought once, because
-- a line leaves 'waiting' once.
CREATE TABLE batch_line (
  batch_id   TEXT NOT NULL REFERENCES batch,
  line       INTEGER NOT NULL,                 -- from 1
  id         TEXT NOT NULL,
  custom_id  TEXT NOT NULL,
  start      INTEGER NOT NULL,                 -- where it begins in the file, bytes
  length     INTEGER NOT NULL,
  state      TEXT NOT NULL CHECK (state IN ('waiting','under_way','completed','failed','expired','cancelled')),
  request_id TEXT REFERENCES request,          -- once it was accepted
  answer     TEXT,                             -- JSON: in which form the picture is wanted
  failure    TEXT,                             -- JSON: why it was not accepted
  PRIMARY KEY (batch_id, line),
  UNIQUE (batch_id, custom_id)
) STRICT;
CREATE INDEX batch_line_by_state ON batch_line(batch_id, state, line);
CREATE UNIQUE INDEX batch_line_by_request ON batch_line(request_id) WHERE request_id IS NOT NULL;
