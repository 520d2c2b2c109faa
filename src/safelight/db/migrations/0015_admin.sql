-- Who operates the gateway, from which browser, what was done, and what an operator has paused.
-- Times are wall-clock milliseconds.

CREATE TABLE admin_key (
  id         TEXT PRIMARY KEY,                -- public part, shown in lists
  name       TEXT NOT NULL,
  role       TEXT NOT NULL CHECK (role IN ('viewer','operator','owner')),
  digest     BLOB NOT NULL UNIQUE,            -- HMAC-SHA256(pepper, key); the key itself is nowhere
  last4      TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  revoked_at INTEGER
) STRICT;

-- A browser that signed in with a key. It ends with its key.
CREATE TABLE browser_session (
  id           TEXT PRIMARY KEY,              -- public, shown in lists
  digest       BLOB NOT NULL UNIQUE,          -- HMAC-SHA256(pepper, what the cookie holds)
  admin_key_id TEXT REFERENCES admin_key,
  api_key_id   TEXT REFERENCES api_key,
  address      TEXT NOT NULL,
  agent        TEXT NOT NULL,                 -- the browser's word for itself, for people
  created_at   INTEGER NOT NULL,
  seen_at      INTEGER NOT NULL,
  ended_at     INTEGER,
  CHECK ((admin_key_id IS NULL) <> (api_key_id IS NULL))
) STRICT;
CREATE INDEX browser_session_open ON browser_session(created_at, id) WHERE ended_at IS NULL;

-- What operators did. Rows are written in the transaction that does it, and never changed.
CREATE TABLE admin_act (
  seq        INTEGER PRIMARY KEY AUTOINCREMENT,
  id         TEXT NOT NULL UNIQUE,
  at         INTEGER NOT NULL,
  actor      TEXT NOT NULL,                   -- as transfers name it: operator, or admin:KEY
  actor_name TEXT NOT NULL,
  session_id TEXT NOT NULL,                   -- empty: by the key itself, or by a command
  address    TEXT NOT NULL,                   -- empty: a command on the data folder
  act        TEXT NOT NULL,
  subject    TEXT NOT NULL,                   -- id or name of what it was done to
  before     TEXT NOT NULL,                   -- in words; empty: there was nothing
  after      TEXT NOT NULL,
  outcome    TEXT NOT NULL                    -- done, or why it was refused
) STRICT;
CREATE INDEX admin_act_by_subject ON admin_act(subject, seq);
-- only sqlite {
CREATE TRIGGER admin_act_no_update BEFORE UPDATE ON admin_act
BEGIN SELECT RAISE(ABORT, 'acts are append-only'); END;
CREATE TRIGGER admin_act_no_delete BEFORE DELETE ON admin_act
BEGIN SELECT RAISE(ABORT, 'acts are append-only'); END;
-- }
-- only postgresql {
CREATE FUNCTION admin_act_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'acts are append-only'; END $$;
CREATE TRIGGER admin_act_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON admin_act
FOR EACH STATEMENT EXECUTE FUNCTION admin_act_is_append_only();
-- }

-- Accounts that get no new attempt until they are resumed.
CREATE TABLE account_pause (
  account   TEXT PRIMARY KEY,
  reason    TEXT NOT NULL,
  paused_by TEXT NOT NULL,
  paused_at INTEGER NOT NULL
) STRICT;

-- Downloads of links from outside, by the minute.
CREATE TABLE link_check (
  at    INTEGER PRIMARY KEY,                  -- where the minute begins
  tried INTEGER NOT NULL,
  good  INTEGER NOT NULL
) STRICT;

-- What the pool thinks of an account, in numbers: see docs/admin-api.md.
ALTER TABLE account_state ADD COLUMN score      REAL;
ALTER TABLE account_state ADD COLUMN fail_share REAL;

-- Lists over all customers, newest first, and sums over a span of time that read the index alone.
-- One for each end: an index by state would be taken for orders' own statements, too.
CREATE INDEX job_completed  ON job(created_at, id, channel) WHERE state = 'completed';
CREATE INDEX job_failed     ON job(created_at, id, channel) WHERE state = 'failed';
CREATE INDEX job_cancelled  ON job(created_at, id, channel) WHERE state = 'cancelled';
CREATE INDEX job_ended      ON job(completed_at, state, channel, created_at, started_at, price_micros)
  WHERE completed_at IS NOT NULL;
CREATE INDEX batch_of_all   ON batch(created_at, id);
CREATE INDEX image_of_all   ON image(created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX image_newest   ON image(customer_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX api_key_of_customer ON api_key(customer_id, created_at, id);

ALTER TABLE verification ADD COLUMN ended_at INTEGER; -- when one last ended; NULL: none has
