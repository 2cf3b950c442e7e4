-- Who may do what: projects, their quotas, users, tokens, access keys.
--
-- Columns are TEXT and BIGINT only, so that one text serves SQLite and PostgreSQL: flags are 0 or 1,
-- times are microseconds since the epoch, documents are JSON, digests are hex.

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL,
    updated BIGINT NOT NULL
);

-- One row that readiness writes to: a catalog that only reads is not ready.
CREATE TABLE heartbeats (
    id BIGINT NOT NULL PRIMARY KEY,
    beats BIGINT NOT NULL
);
INSERT INTO heartbeats (id, beats) VALUES (1, 0);

CREATE TABLE projects (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    domain_id TEXT NOT NULL,
    domain_name TEXT NOT NULL,
    created BIGINT NOT NULL
);
CREATE UNIQUE INDEX project_name ON projects (domain_id, name);

-- Manual backups that exist, counted beside their limit: one row to lock, no counting at admission.
CREATE TABLE quotas (
    project_id TEXT NOT NULL PRIMARY KEY REFERENCES projects (id),
    manual_backups_max BIGINT,
    manual_backups BIGINT NOT NULL,
    CONSTRAINT quota_not_negative CHECK (manual_backups >= 0)
);

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    domain_id TEXT NOT NULL,
    password_hash TEXT,
    created BIGINT NOT NULL
);
CREATE UNIQUE INDEX user_name ON users (domain_id, name);

-- A token is never stored, only its digest.
CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    project_id TEXT NOT NULL REFERENCES projects (id),
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT,
    CONSTRAINT token_role CHECK (role IN ('viewer', 'operator', 'restorer', 'admin'))
);
CREATE UNIQUE INDEX token_digest ON tokens (digest);
CREATE INDEX token_project ON tokens (project_id, created, id);

-- Signatures need the secret itself, so it is stored sealed.
CREATE TABLE access_keys (
    id TEXT NOT NULL PRIMARY KEY,
    secret_sealed TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    project_id TEXT NOT NULL REFERENCES projects (id),
    role TEXT NOT NULL,
    created BIGINT NOT NULL,
    CONSTRAINT access_key_role CHECK (role IN ('viewer', 'operator', 'restorer', 'admin'))
);
