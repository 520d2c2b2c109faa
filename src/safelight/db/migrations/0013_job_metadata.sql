-- What its customer has written on a job: a JSON object of strings; NULL: nothing.
ALTER TABLE job ADD COLUMN metadata TEXT;
