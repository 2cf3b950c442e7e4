-- Sweeps of the repository, of which one at a time lives.
--
-- SQLite cannot change a check of a table, so the table is made anew, and with it the one that refers
-- to it; what is in them is taken over.

CREATE TABLE jobs_next (
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
    -- Of a sweep: when the next one is due, because something was deleted since this one looked.
    follow_up_at BIGINT,
    CONSTRAINT job_kind CHECK (
        kind IN ('backup', 'delete', 'verify', 'check_repository', 'sweep', 'plan_sweep')
    ),
    CONSTRAINT job_state CHECK (state IN ('ready', 'leased', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT job_leased CHECK (
        (state = 'leased') = (worker_id IS NOT NULL) AND (state = 'leased') = (lease_until IS NOT NULL)
    ),
    CONSTRAINT job_finished CHECK (
        (state IN ('succeeded', 'failed', 'cancelled')) = (finished IS NOT NULL)
    ),
    CONSTRAINT job_follow_up CHECK (follow_up_at IS NULL OR kind = 'sweep')
);
INSERT INTO jobs_next
    (id, project_id, kind, state, backup_id, instance_id, input, result, epoch, worker_id, lease_until,
     taken_over, leases_lost, attempts, run_at, created, started, finished, progress, cancel_asked, failure)
    SELECT id, project_id, kind, state, backup_id, instance_id, input, result, epoch, worker_id, lease_until,
        taken_over, leases_lost, attempts, run_at, created, started, finished, progress, cancel_asked, failure
    FROM jobs;

CREATE TABLE job_steps_next (
    job_id TEXT NOT NULL REFERENCES jobs_next (id),
    ordinal BIGINT NOT NULL,
    -- The claim that recorded it: a try that was released and begun anew has the same number.
    epoch BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    name TEXT NOT NULL,
    at BIGINT NOT NULL,
    output TEXT NOT NULL,
    PRIMARY KEY (job_id, ordinal)
);
INSERT INTO job_steps_next (job_id, ordinal, epoch, attempt, name, at, output)
    SELECT job_id, ordinal, epoch, attempt, name, at, output FROM job_steps;

DROP TABLE job_steps;
DROP TABLE jobs;
ALTER TABLE jobs_next RENAME TO jobs;
ALTER TABLE job_steps_next RENAME TO job_steps;

-- The claim's only order: when a job may be taken, be it ready or left behind by a dead worker.
CREATE INDEX job_due ON jobs (COALESCE(lease_until, run_at), id) WHERE finished IS NULL;
CREATE INDEX job_project ON jobs (project_id, created, id);
CREATE INDEX job_live_instance ON jobs (instance_id) WHERE finished IS NULL;
CREATE INDEX job_backup ON jobs (backup_id, created, id);
CREATE UNIQUE INDEX job_live_delete ON jobs (backup_id) WHERE kind = 'delete' AND finished IS NULL;
CREATE UNIQUE INDEX job_live_sweep ON jobs (kind) WHERE kind = 'sweep' AND finished IS NULL;
CREATE INDEX job_last_sweep ON jobs (finished) WHERE kind = 'sweep' AND state = 'succeeded';
CREATE UNIQUE INDEX job_step_once ON job_steps (job_id, epoch, name);
