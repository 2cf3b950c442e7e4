-- The continuous capture of logs, and what of them is held.

-- One for each instance that has it switched on. It never ends by itself, so it is no job, but it is
-- claimed, leased and fenced as jobs are.
CREATE TABLE log_captures (
    instance_id TEXT NOT NULL PRIMARY KEY REFERENCES instances (id),
    project_id TEXT NOT NULL REFERENCES projects (id),
    -- Its name in fences.
    job_id TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    worker_id TEXT,
    lease_until BIGINT,
    leases_lost BIGINT NOT NULL,
    run_at BIGINT NOT NULL,
    -- Since log was last made durable.
    failures BIGINT NOT NULL,
    failure TEXT,
    -- Log that the source keeps until it is durable here.
    retained_bytes BIGINT,
    -- When all log of the source was last known to be durable here.
    confirmed BIGINT,
    -- Whether a backup leads to the log that is captured now, and when one last came to.
    is_based BIGINT NOT NULL,
    base_led BIGINT,
    -- When one was last begun for it, where the next one has to wait for that.
    base_begun BIGINT,
    created BIGINT NOT NULL,
    -- Somebody switched it off: what it keeps at the source is taken away, then this row goes.
    ending BIGINT,
    CONSTRAINT log_capture_leased CHECK ((worker_id IS NULL) = (lease_until IS NULL))
);
CREATE UNIQUE INDEX log_capture_job ON log_captures (job_id);
CREATE INDEX log_capture_due ON log_captures (COALESCE(lease_until, run_at), instance_id);

-- Log without a gap, a row for each range: what the listing of the repository says, and what time it
-- leads to.
CREATE TABLE log_ranges (
    instance_id TEXT NOT NULL REFERENCES instances (id),
    stream TEXT NOT NULL,
    first_file BIGINT NOT NULL,
    first_offset BIGINT NOT NULL,
    last_file BIGINT NOT NULL,
    last_offset BIGINT NOT NULL,
    -- Where the stream left another one.
    origin_stream TEXT,
    origin_file BIGINT,
    origin_offset BIGINT,
    -- By the source's clock: all log until then is in this range or before it.
    until BIGINT,
    -- When this range was begun.
    began BIGINT NOT NULL,
    PRIMARY KEY (instance_id, stream, first_file, first_offset)
);

-- From where log leads on from a backup.
ALTER TABLE backups ADD COLUMN log_stream TEXT;
ALTER TABLE backups ADD COLUMN log_file BIGINT;
ALTER TABLE backups ADD COLUMN log_offset BIGINT;
