-- The highest share of a customer's credit line, in percent, that was announced since less of it was owed.
ALTER TABLE balance ADD COLUMN line_alerted INTEGER NOT NULL DEFAULT 0;
