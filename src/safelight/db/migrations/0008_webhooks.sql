-- Who is told about the ends of jobs, and what has been told.

-- An address that a customer has registered. Its signing secret is derived from its id and secret_number; no secret is stored.
CREATE TABLE webhook (
  id              TEXT PRIMARY KEY,
  customer_id     TEXT NOT NULL REFERENCES customer,
  key_id          TEXT REFERENCES api_key,     -- of whose jobs it is told; NULL: all jobs of the customer
  url             TEXT NOT NULL,
  events          TEXT NOT NULL,               -- with a comma before, between and after: ,job.completed,job.failed, or ,*,
  description     TEXT NOT NULL,
  created_at      INTEGER NOT NULL,
  secret_number   INTEGER NOT NULL DEFAULT 1,
  previous_until  INTEGER NOT NULL DEFAULT 0,  -- until then the secret of the number before signs too
  failing_since   INTEGER,                     -- the first failure after the last success
  disabled_at     INTEGER,
  disabled_reason TEXT CHECK (disabled_reason IN ('owner','gone','failing')),
  CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
) STRICT;
CREATE INDEX webhook_by_customer ON webhook(customer_id, created_at);

-- The secret for addresses that orders bring themselves; without a row its number is 1.
CREATE TABLE webhook_secret (
  customer_id    TEXT PRIMARY KEY REFERENCES customer,
  secret_number  INTEGER NOT NULL,
  previous_until INTEGER NOT NULL
) STRICT;

-- The address that an order brought.
CREATE TABLE webhook_order (
  request_id TEXT PRIMARY KEY REFERENCES request,
  url        TEXT NOT NULL
) STRICT;

-- The outbox: one row for each message to each receiver, inserted in the transaction that it tells about.
CREATE TABLE webhook_delivery (
  id             TEXT PRIMARY KEY,             -- the webhook-id header: one and the same at every attempt
  customer_id    TEXT NOT NULL REFERENCES customer,
  webhook_id     TEXT REFERENCES webhook,      -- NULL: the address came with the order
  target         TEXT NOT NULL,                -- whose turn it takes: the webhook, or customer and address
  url            TEXT,                         -- only where the address came with the order
  event          TEXT NOT NULL,
  subject        TEXT NOT NULL,                -- id of the job or the batch; empty for a test
  state          TEXT NOT NULL CHECK (state IN ('pending','delivered','failed')),
  created_at     INTEGER NOT NULL,
  next_at        INTEGER NOT NULL,             -- when the next attempt is due
  attempts       INTEGER NOT NULL DEFAULT 0,   -- attempts begun since it was queued or queued again
  reminders      INTEGER NOT NULL DEFAULT 0,   -- works that the engine was given for it
  reminded_until INTEGER NOT NULL DEFAULT 0,   -- until then the newest of them is waited for
  claimed_until  INTEGER NOT NULL DEFAULT 0,   -- until then the newest attempt may be under way
  held_by        TEXT,                         -- the process that gave that reminder, or makes that attempt
  last_status    INTEGER,
  last_error     TEXT,
  delivered_at   INTEGER,
  CHECK ((webhook_id IS NULL) = (url IS NOT NULL)),
  CHECK ((state = 'delivered') = (delivered_at IS NOT NULL))
) STRICT;
CREATE INDEX webhook_delivery_due ON webhook_delivery(next_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_of_target ON webhook_delivery(target, next_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_held ON webhook_delivery(held_by) WHERE held_by IS NOT NULL;
CREATE INDEX webhook_delivery_ended ON webhook_delivery(created_at) WHERE state <> 'pending';
CREATE INDEX webhook_delivery_by_customer ON webhook_delivery(customer_id, created_at, id);
CREATE INDEX webhook_delivery_by_webhook ON webhook_delivery(webhook_id, created_at, id);
