-- The spine: customers and keys, money, requests and jobs.
-- Times are wall-clock milliseconds; money is integer micro-dollars.
--
-- Migrations are written once, in SQLite's words; safelight.db.migrations gives Postgres its own words for the same
-- things, and leaves out what stands between "only sqlite {" or "only postgresql {" and "}" for the other.

CREATE TABLE customer (
  id          TEXT PRIMARY KEY,
  name        TEXT NOT NULL UNIQUE,
  link_epoch  INTEGER NOT NULL DEFAULT 1,      -- raising it ends all links of the customer
  created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE api_key (
  id          TEXT PRIMARY KEY,                -- public part, shown in lists
  customer_id TEXT NOT NULL REFERENCES customer,
  name        TEXT NOT NULL,
  digest      BLOB NOT NULL UNIQUE,            -- HMAC-SHA256(pepper, key); the key itself is nowhere
  last4       TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  revoked_at  INTEGER
) STRICT;

-- One row per customer. The vendor-side parties of a transfer (funding, revenue, goodwill) are names,
-- not rows: a running total of them would be one hot row under every settle.
CREATE TABLE balance (
  customer_id   TEXT PRIMARY KEY REFERENCES customer,
  currency      TEXT NOT NULL DEFAULT 'USD',
  posted_micros INTEGER NOT NULL DEFAULT 0,
  held_micros   INTEGER NOT NULL DEFAULT 0 CHECK (held_micros >= 0),
  floor_micros  INTEGER NOT NULL DEFAULT 0,    -- 0: prepaid; negative: a credit line
  chain         BLOB NOT NULL,                 -- hash of the customer's newest transfer
  CHECK (posted_micros - held_micros >= floor_micros)
) STRICT;

CREATE TABLE transfer (
  seq            INTEGER PRIMARY KEY AUTOINCREMENT,
  id             TEXT NOT NULL UNIQUE,          -- made before the transaction: a re-run is refused, not repeated
  kind           TEXT NOT NULL CHECK (kind IN ('topup','reserve','settle','release','refund','adjust')),
  customer_id    TEXT NOT NULL REFERENCES customer,
  debit          TEXT NOT NULL,
  credit         TEXT NOT NULL,
  amount_micros  INTEGER NOT NULL,
  reserve_id     TEXT REFERENCES transfer(id),  -- the reserve that a settle or release resolves
  refund_of      TEXT REFERENCES transfer(id),
  job_id         TEXT,
  actor          TEXT NOT NULL,
  reason         TEXT NOT NULL,
  created_at     INTEGER NOT NULL,
  balance_micros INTEGER NOT NULL,              -- posted balance after this transfer
  prev_hash      BLOB NOT NULL,
  hash           BLOB NOT NULL,
  CHECK (amount_micros > 0 OR (amount_micros = 0 AND kind IN ('reserve','settle','release'))),
  CHECK ((kind IN ('settle','release')) = (reserve_id IS NOT NULL)),
  CHECK ((kind = 'refund') = (refund_of IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX one_resolution ON transfer(reserve_id) WHERE reserve_id IS NOT NULL;
CREATE UNIQUE INDEX one_reserve    ON transfer(job_id)     WHERE kind = 'reserve';
CREATE UNIQUE INDEX one_refund     ON transfer(refund_of)  WHERE refund_of IS NOT NULL;
CREATE INDEX transfer_by_customer  ON transfer(customer_id, seq);
-- only sqlite {
CREATE TRIGGER transfer_no_update BEFORE UPDATE ON transfer
BEGIN SELECT RAISE(ABORT, 'transfers are append-only'); END;
CREATE TRIGGER transfer_no_delete BEFORE DELETE ON transfer
BEGIN SELECT RAISE(ABORT, 'transfers are append-only'); END;
-- }
-- only postgresql {
CREATE FUNCTION transfer_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'transfers are append-only'; END $$;
CREATE TRIGGER transfer_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON transfer
FOR EACH STATEMENT EXECUTE FUNCTION transfer_is_append_only();
-- }

CREATE TABLE request (
  id              TEXT PRIMARY KEY,
  customer_id     TEXT NOT NULL REFERENCES customer,
  key_id          TEXT NOT NULL REFERENCES api_key,
  route           TEXT NOT NULL,
  fingerprint     BLOB NOT NULL,                -- SHA-256 of route and canonical request
  idempotency_key TEXT,                         -- NULL when not sent, or freed after a retryable failure
  retry_of        TEXT REFERENCES request(id),
  retry_count     INTEGER NOT NULL,             -- of the newest caller that joined
  attached_by     TEXT,                         -- process whose caller waits; NULL: nobody does
  attached_until  INTEGER NOT NULL,             -- when the newest caller stops waiting by itself
  n               INTEGER NOT NULL,
  created_at      INTEGER NOT NULL,
  delivered_at    INTEGER
) STRICT;
CREATE UNIQUE INDEX request_idempotency ON request(customer_id, route, idempotency_key)
  WHERE idempotency_key IS NOT NULL;
CREATE INDEX request_join ON request(key_id, fingerprint, created_at);

CREATE TABLE job (
  id               TEXT PRIMARY KEY,
  request_id       TEXT NOT NULL REFERENCES request,
  customer_id      TEXT NOT NULL REFERENCES customer,
  key_id           TEXT NOT NULL REFERENCES api_key,
  n                INTEGER NOT NULL,            -- 0-based place among the jobs of its request
  channel          TEXT NOT NULL,
  size             TEXT NOT NULL,               -- as asked: WxH or auto
  state            TEXT NOT NULL CHECK (state IN ('queued','in_progress','completed','failed','cancelled')),
  stage            TEXT CHECK (stage IN ('sent','received','verified','stored','settled')),
  request          TEXT NOT NULL,               -- JSON of the order in canonical form
  size_plan        TEXT NOT NULL,               -- JSON
  price_micros     INTEGER NOT NULL CHECK (price_micros >= 0),
  reserve_id       TEXT NOT NULL REFERENCES transfer(id),
  epoch            INTEGER NOT NULL,            -- raised whenever a process takes the job
  lease_owner      TEXT,                        -- a row of `process`, while it lives
  deadline_at      INTEGER NOT NULL,
  created_at       INTEGER NOT NULL,
  started_at       INTEGER,
  completed_at     INTEGER,
  attempts         INTEGER NOT NULL DEFAULT 0,
  image_id         TEXT,
  failure          TEXT,                        -- JSON
  usage            TEXT,                        -- JSON
  delivered_at     INTEGER
) STRICT;
CREATE INDEX job_by_request ON job(request_id, n);
CREATE INDEX job_open       ON job(created_at) WHERE state IN ('queued','in_progress');

CREATE TABLE attempt (
  job_id              TEXT NOT NULL REFERENCES job,
  epoch               INTEGER NOT NULL,
  k                   INTEGER NOT NULL,
  account             TEXT NOT NULL,
  limiter_group       TEXT NOT NULL,
  sent_at             INTEGER NOT NULL,         -- written before the first byte leaves
  ended_at            INTEGER,
  outcome             TEXT,                     -- 'ok', a fault class, or 'lost' (the process died)
  code                TEXT,
  sold                INTEGER DEFAULT 0,        -- 1: probably billed; NULL: sent, not answered, unknown
  settled             INTEGER NOT NULL DEFAULT 0,    -- 1: its picture is the one the customer got
  upstream_request_id TEXT,
  digest              TEXT,
  bytes               INTEGER,
  PRIMARY KEY (job_id, epoch, k)
) STRICT;

CREATE TABLE image (
  id          TEXT PRIMARY KEY,                 -- 128 random bits, hex
  job_id      TEXT NOT NULL UNIQUE REFERENCES job,
  customer_id TEXT NOT NULL REFERENCES customer,
  digest      TEXT NOT NULL,
  bytes       INTEGER NOT NULL,
  format      TEXT NOT NULL,
  width       INTEGER NOT NULL,
  height      INTEGER NOT NULL,
  has_alpha   INTEGER NOT NULL,
  link_ttl_s  INTEGER NOT NULL,
  created_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX image_by_digest ON image(digest);
