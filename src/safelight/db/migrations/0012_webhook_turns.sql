-- How often a customer may have messages sent by hand, over all processes: one row for each kind.
CREATE TABLE webhook_turn (
  customer_id TEXT NOT NULL REFERENCES customer,
  kind        TEXT NOT NULL CHECK (kind IN ('test','redelivery')),
  used_until  INTEGER NOT NULL,  -- with one turn after the other all that were taken are over then
  PRIMARY KEY (customer_id, kind)
) STRICT;
