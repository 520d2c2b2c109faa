-- The processes that serve this database. A process that has not raised its `beats` for a while, as seen by the clock of
-- whoever looks, is dead, and its jobs are taken over under their next epoch.
CREATE TABLE process (
  owner      TEXT PRIMARY KEY,
  host       TEXT NOT NULL,                    -- for people
  beats      INTEGER NOT NULL,                 -- raised at every sign of life; compared, never subtracted from a clock
  started_at INTEGER NOT NULL,
  beat_at    INTEGER NOT NULL                  -- for people
) STRICT;

-- only postgresql {
-- One row for each transaction that writes, inserted just before its commit: whether it is there decides what became of a
-- commit whose answer was lost with the connection. Rows of a few minutes' age are removed.
CREATE TABLE commit_mark (
  id   TEXT PRIMARY KEY,
  at   INTEGER NOT NULL,
  void INTEGER NOT NULL                        -- 1: left by who asked; that transaction can never commit any more
) STRICT;
CREATE INDEX commit_mark_by_time ON commit_mark(at);
-- }
