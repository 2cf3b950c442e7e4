-- What a drill measured, beside what a verification found: a document, null for every other level.

ALTER TABLE verifications ADD COLUMN drill TEXT;
