-- Lines of batches that are sent on to a vendor's own Batch API. A job enters once, and is leased to
-- 'vendor-batches' while it is there.
CREATE TABLE vendor_batch (
  id             TEXT PRIMARY KEY,             -- the vendor keeps it as metadata: so its batch is found again
  batch_id       TEXT NOT NULL REFERENCES batch, -- of one customer's batch each
  account        TEXT NOT NULL,
  limiter_group  TEXT NOT NULL,
  status         TEXT NOT NULL CHECK (status IN ('collecting','packing','creating','out','fetching','ended')),
  visit          TEXT NOT NULL DEFAULT '',     -- the one that works on it; an older one may write no more
  reminders      INTEGER NOT NULL DEFAULT 0,   -- reminders that were queued for it
  due_at         INTEGER NOT NULL,             -- when the next look at it is due; put off while a visit works
  tries          INTEGER NOT NULL DEFAULT 0,   -- failures in a row
  lines          INTEGER NOT NULL DEFAULT 0,
  bytes          INTEGER NOT NULL DEFAULT 0,   -- of its lines, estimated
  created_at     INTEGER NOT NULL,
  cancel_at      INTEGER NOT NULL,             -- when it is cancelled at the vendor, if it has not ended
  return_at      INTEGER NOT NULL,             -- when all that is not back goes to the live lane
  sending_at     INTEGER,                      -- since when the call that creates it may have left
  sent_at        INTEGER,                      -- when it was known that the vendor has it
  cancelled_at   INTEGER,                      -- when the vendor was asked to cancel it
  late_at        INTEGER,                      -- since when nobody waits for it
  ended_at       INTEGER,
  input_file_id  TEXT,                         -- the vendor's names from here
  remote_id      TEXT,
  remote_status  TEXT,
  output_file_id TEXT,
  error_file_id  TEXT,
  reason         TEXT                          -- why it was given up, or the newest trouble
) STRICT;
CREATE INDEX vendor_batch_open ON vendor_batch(due_at) WHERE status <> 'ended';
CREATE INDEX vendor_batch_by_batch ON vendor_batch(batch_id, created_at);

CREATE TABLE vendor_item (
  job_id          TEXT PRIMARY KEY REFERENCES job,
  vendor_batch_id TEXT NOT NULL REFERENCES vendor_batch,
  state           TEXT NOT NULL CHECK (state IN ('waiting','out','taken','refused','returned','late','wasted')),
  epoch           INTEGER,                     -- of its attempt, once it was sent
  k               INTEGER
) STRICT;
CREATE INDEX vendor_item_by_state ON vendor_item(vendor_batch_id, state, job_id);

-- Of an attempt that is a line of a vendor batch; NULL: it was a call.
ALTER TABLE attempt ADD COLUMN vendor_batch_id TEXT;

-- Of jobs that a process runs. Tens of thousands may be with a vendor at one time, and are none of these.
DROP INDEX job_leased;
CREATE INDEX job_leased ON job(lease_owner)
  WHERE state IN ('queued','in_progress') AND lease_owner IS NOT NULL AND lease_owner <> 'vendor-batches';
DROP INDEX job_leased_by_key;
CREATE INDEX job_leased_by_key ON job(key_id, created_at, n)
  WHERE state IN ('queued','in_progress') AND lease_owner IS NOT NULL AND lease_owner <> 'vendor-batches';
