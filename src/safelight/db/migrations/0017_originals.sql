-- The vendor's own file beside a picture that was made of it: kept and let go together with it.
ALTER TABLE image ADD COLUMN original_digest TEXT;     -- NULL: none is kept
ALTER TABLE image ADD COLUMN original_bytes  INTEGER;
ALTER TABLE image ADD COLUMN original_format TEXT CHECK (original_format IN ('png','jpeg','webp'));
CREATE INDEX image_by_original ON image(original_digest) WHERE original_digest IS NOT NULL;
