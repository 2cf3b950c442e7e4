-- When automated backups of an instance begin, and how long they are kept.

CREATE TABLE policies (
    instance_id TEXT NOT NULL PRIMARY KEY REFERENCES instances (id),
    project_id TEXT NOT NULL REFERENCES projects (id),
    -- 0: automated backups are off.
    keep_days BIGINT NOT NULL,
    -- With 0 days: whether those that exist stay.
    reserves BIGINT NOT NULL,
    -- Minutes after midnight UTC, and a bit for each day of the week, Monday the lowest; remembered
    -- while automated backups are off.
    window_opens BIGINT,
    weekdays BIGINT,
    -- The next start that is owed.
    next_due BIGINT,
    -- When it was last changed to keep less long.
    shortened BIGINT,
    updated BIGINT NOT NULL,
    CONSTRAINT policy_days CHECK (keep_days >= 0 AND keep_days <= 732),
    CONSTRAINT policy_window CHECK ((window_opens IS NULL) = (weekdays IS NULL)),
    CONSTRAINT policy_active CHECK (
        (keep_days > 0) = (next_due IS NOT NULL) AND (keep_days = 0 OR window_opens IS NOT NULL)
    )
);
CREATE INDEX policy_next ON policies (next_due);
CREATE INDEX policy_next_of_project ON policies (project_id, next_due, instance_id);

-- What was begun for which moment: never twice for the same one, whoever looks.
CREATE TABLE policy_starts (
    instance_id TEXT NOT NULL REFERENCES instances (id),
    due BIGINT NOT NULL,
    backup_id TEXT NOT NULL,
    started BIGINT NOT NULL,
    PRIMARY KEY (instance_id, due)
);

CREATE INDEX backup_automated_state ON backups (state, project_id) WHERE kind = 'auto';
CREATE INDEX backup_automated_name ON backups (project_id, name) WHERE kind = 'auto';
