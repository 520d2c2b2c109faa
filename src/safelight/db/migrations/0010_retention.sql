-- How long pictures are kept, and where else.

-- The row of a picture outlives its bytes: statement, receipt and job go on naming its digest.
ALTER TABLE image ADD COLUMN expires_at     INTEGER;  -- when its bytes may go; NULL: not by themselves
ALTER TABLE image ADD COLUMN pinned_at      INTEGER;  -- kept whatever expires_at says
ALTER TABLE image ADD COLUMN deleted_at     INTEGER;  -- its bytes are gone, or are going
ALTER TABLE image ADD COLUMN deleted_reason TEXT CHECK (deleted_reason IN ('expired','requested','purged'));
CREATE INDEX image_expiring    ON image(expires_at) WHERE deleted_at IS NULL AND pinned_at IS NULL AND expires_at IS NOT NULL;
CREATE INDEX image_of_customer ON image(customer_id, id) WHERE deleted_at IS NULL;

-- Pictures that orders brought along, until they are let go some time after the end of the order's jobs.
CREATE TABLE request_input (
  request_id TEXT NOT NULL REFERENCES request,
  digest     TEXT NOT NULL,
  PRIMARY KEY (request_id, digest)
) STRICT;
CREATE INDEX request_input_by_digest ON request_input(digest);

-- The removal of a blob's bytes. Whoever writes a row that names the digest looks here first, under a lock of that name: while
-- bytes are being removed, or were removed since they were kept, they must be kept again.
CREATE TABLE blob_removal (
  digest     TEXT PRIMARY KEY,
  state      TEXT NOT NULL CHECK (state IN ('wanted','removing','over')),
  mark       TEXT NOT NULL,                    -- of the newest removal that was begun; empty: none was
  changed_at INTEGER NOT NULL
) STRICT;
CREATE INDEX blob_removal_by_state ON blob_removal(state, changed_at);

-- A customer's own bucket, where pictures are carried to.
CREATE TABLE destination (
  customer_id     TEXT PRIMARY KEY REFERENCES customer,
  url             TEXT NOT NULL,               -- s3://bucket/prefix?endpoint=...; no credentials
  credentials_env TEXT NOT NULL,               -- name of the environment variable that holds them
  key_template    TEXT NOT NULL,
  every_picture   INTEGER NOT NULL,            -- 1: all; 0: those that are pinned or ordered with `persist`
  changed_at      INTEGER NOT NULL
) STRICT;

-- Orders that asked for it by themselves.
CREATE TABLE persist_wish (
  request_id TEXT PRIMARY KEY REFERENCES request
) STRICT;

-- Pictures to carry there, written in the transaction that settles.
CREATE TABLE persisting (
  image_id    TEXT PRIMARY KEY REFERENCES image,
  customer_id TEXT NOT NULL REFERENCES customer,
  state       TEXT NOT NULL CHECK (state IN ('waiting','done','failed')),
  tries       INTEGER NOT NULL DEFAULT 0,
  due_at      INTEGER NOT NULL,                -- when it is tried next
  begun_at    INTEGER NOT NULL,
  ended_at    INTEGER,
  url         TEXT,                            -- where it lies
  error       TEXT                             -- what the last try met, for people
) STRICT;
CREATE INDEX persisting_due ON persisting(due_at) WHERE state = 'waiting';

-- One row: which installation the books are of, and where its pictures are. A store that belongs to another one is left alone.
CREATE TABLE installation (
  only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
  id       TEXT NOT NULL,
  store    TEXT NOT NULL                       -- address of the bucket; empty: the data folder
) STRICT;

-- Rounds that one process at a time makes.
CREATE TABLE round (
  name     TEXT PRIMARY KEY,
  began_at INTEGER NOT NULL
) STRICT;
