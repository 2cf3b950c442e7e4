-- What happened, for people (audit) and for senders of notifications (outbox).

-- Each row carries the digest of the one before; the head says where the chain ends.
CREATE TABLE audit_events (
    sequence BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    project_id TEXT,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    request_id TEXT,
    detail TEXT NOT NULL,
    previous TEXT NOT NULL,
    digest TEXT NOT NULL
);
CREATE INDEX audit_project ON audit_events (project_id, sequence);

CREATE TABLE audit_heads (
    id BIGINT NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL,
    digest TEXT NOT NULL
);
INSERT INTO audit_heads (id, sequence, digest)
VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

-- Written in the transaction of the change it tells about, removed when it has been told.
CREATE TABLE outbox (
    id TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    project_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    object TEXT NOT NULL,
    document TEXT NOT NULL
);
