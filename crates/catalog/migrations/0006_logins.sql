-- Who logs in, and what each user may do in each project.

-- May make projects and users, and see what is not one project's: the repository, its recovery kit.
ALTER TABLE users ADD COLUMN domain_admin BIGINT NOT NULL DEFAULT 0;

-- No token and no key reaches further than this: taken away here, it is gone for all of them.
CREATE TABLE role_assignments (
    user_id TEXT NOT NULL REFERENCES users (id),
    project_id TEXT NOT NULL REFERENCES projects (id),
    role TEXT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (user_id, project_id),
    CONSTRAINT assigned_role CHECK (role IN ('viewer', 'operator', 'restorer', 'admin'))
);
CREATE INDEX role_assignment_project ON role_assignments (project_id);

-- Until now there was one user, made by the first start, and it was everybody.
UPDATE users SET domain_admin = 1;
INSERT INTO role_assignments (user_id, project_id, role, created)
    SELECT u.id, p.id, 'admin', u.created FROM users u JOIN projects p ON p.domain_id = u.domain_id;

-- What a log-in opened. `origin` is the log-in or the token that it was made from; `role_max` the
-- role of that token, which a log-in with it does not widen.
CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL,
    origin TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    project_id TEXT REFERENCES projects (id),
    domain_scoped BIGINT NOT NULL,
    role_max TEXT NOT NULL,
    methods TEXT NOT NULL,
    issued BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE UNIQUE INDEX session_digest ON sessions (digest);
CREATE INDEX session_origin ON sessions (origin);
CREATE INDEX session_owner ON sessions (user_id);
CREATE INDEX session_expires ON sessions (expires);
