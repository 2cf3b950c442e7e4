-- Source databases. A retired instance keeps its row, because its backups outlive it.

CREATE TABLE instances (
    id TEXT NOT NULL PRIMARY KEY,
    node_id TEXT NOT NULL,
    project_id TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    engine TEXT NOT NULL,
    version TEXT NOT NULL,
    system_identifier TEXT NOT NULL,
    state TEXT NOT NULL,
    host TEXT NOT NULL,
    port BIGINT NOT NULL,
    user_name TEXT NOT NULL,
    password_sealed TEXT NOT NULL,
    tls TEXT NOT NULL,
    ca_pem TEXT,
    allow_md5 BIGINT NOT NULL,
    lineage_id TEXT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    CONSTRAINT instance_state CHECK (state IN ('registering', 'ready', 'unreachable', 'retired'))
);
CREATE UNIQUE INDEX instance_node ON instances (node_id);
-- A retired instance frees its name.
CREATE UNIQUE INDEX instance_live_name ON instances (project_id, name) WHERE state <> 'retired';
CREATE INDEX instance_project ON instances (project_id, created, id);
