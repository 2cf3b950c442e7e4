-- Backups, the jobs that make and remove them, and what was proved about them.

CREATE TABLE jobs (
    id TEXT NOT NULL PRIMARY KEY,
    project_id TEXT REFERENCES projects (id),
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    -- No foreign key: the job stays when its backup is gone.
    backup_id TEXT,
    instance_id TEXT,
    input TEXT NOT NULL,
    result TEXT,
    epoch BIGINT NOT NULL,
    worker_id TEXT,
    lease_until BIGINT,
    -- Whether the current claim found an expired lease, and how often that happened.
    taken_over BIGINT NOT NULL,
    leases_lost BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    run_at BIGINT NOT NULL,
    created BIGINT NOT NULL,
    started BIGINT,
    finished BIGINT,
    progress TEXT NOT NULL,
    cancel_asked BIGINT NOT NULL,
    failure TEXT,
    CONSTRAINT job_kind CHECK (kind IN ('backup', 'delete', 'verify', 'check_repository')),
    CONSTRAINT job_state CHECK (state IN ('ready', 'leased', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT job_leased CHECK (
        (state = 'leased') = (worker_id IS NOT NULL) AND (state = 'leased') = (lease_until IS NOT NULL)
    ),
    CONSTRAINT job_finished CHECK (
        (state IN ('succeeded', 'failed', 'cancelled')) = (finished IS NOT NULL)
    )
);
-- The claim's only order: when a job may be taken, be it ready or left behind by a dead worker.
CREATE INDEX job_due ON jobs (COALESCE(lease_until, run_at), id) WHERE finished IS NULL;
CREATE INDEX job_project ON jobs (project_id, created, id);
CREATE INDEX job_live_instance ON jobs (instance_id) WHERE finished IS NULL;
CREATE INDEX job_backup ON jobs (backup_id, created, id);
CREATE UNIQUE INDEX job_live_delete ON jobs (backup_id) WHERE kind = 'delete' AND finished IS NULL;

CREATE TABLE job_steps (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    ordinal BIGINT NOT NULL,
    -- The claim that recorded it: a try that was released and begun anew has the same number.
    epoch BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    name TEXT NOT NULL,
    at BIGINT NOT NULL,
    output TEXT NOT NULL,
    PRIMARY KEY (job_id, ordinal)
);
CREATE UNIQUE INDEX job_step_once ON job_steps (job_id, epoch, name);

CREATE TABLE backups (
    id TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    instance_id TEXT NOT NULL REFERENCES instances (id),
    node_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    engine TEXT NOT NULL,
    engine_version TEXT NOT NULL,
    lineage_id TEXT NOT NULL,
    job_id TEXT NOT NULL,
    created BIGINT NOT NULL,
    finished BIGINT,
    attempt_id TEXT,
    manifest_digest TEXT,
    source_bytes BIGINT,
    stored_bytes BIGINT,
    warnings TEXT NOT NULL,
    failure TEXT,
    CONSTRAINT backup_kind CHECK (kind IN ('manual', 'auto')),
    CONSTRAINT backup_state CHECK (state IN ('building', 'completed', 'failed', 'deleting')),
    CONSTRAINT backup_unfinished CHECK ((state = 'building') = (finished IS NULL)),
    CONSTRAINT backup_unsized CHECK (state <> 'building' OR (source_bytes IS NULL AND stored_bytes IS NULL)),
    CONSTRAINT backup_sealed CHECK (
        state <> 'completed'
        OR (attempt_id IS NOT NULL AND manifest_digest IS NOT NULL
            AND source_bytes IS NOT NULL AND stored_bytes IS NOT NULL)
    )
);
-- This index stands before the next one, so that PostgreSQL names it first when both are violated.
CREATE UNIQUE INDEX backup_building ON backups (instance_id) WHERE state = 'building';
CREATE UNIQUE INDEX backup_manual_name ON backups (project_id, name) WHERE kind = 'manual';
CREATE INDEX backup_project ON backups (project_id, created, id);
CREATE INDEX backup_instance ON backups (instance_id, created, id);
CREATE INDEX backup_freshness ON backups (instance_id, state, finished);

-- Legal holds: while one stands the backup cannot be deleted.
CREATE TABLE holds (
    id TEXT NOT NULL PRIMARY KEY,
    backup_id TEXT NOT NULL REFERENCES backups (id),
    reason TEXT NOT NULL,
    created BIGINT NOT NULL
);
CREATE INDEX hold_backup ON holds (backup_id);

CREATE TABLE verifications (
    job_id TEXT NOT NULL PRIMARY KEY,
    backup_id TEXT NOT NULL REFERENCES backups (id),
    at BIGINT NOT NULL,
    level TEXT NOT NULL,
    outcome TEXT NOT NULL,
    findings TEXT NOT NULL,
    CONSTRAINT verification_level CHECK (level IN ('presence', 'digest', 'decode', 'engine')),
    CONSTRAINT verification_outcome CHECK (outcome IN ('passed', 'failed', 'not_run'))
);
CREATE INDEX verification_backup ON verifications (backup_id, at, job_id);
