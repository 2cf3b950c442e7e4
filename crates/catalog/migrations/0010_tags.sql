-- What people file instances under. A tag goes with its instance.

CREATE TABLE instance_tags (
    instance_id TEXT NOT NULL REFERENCES instances (id),
    project_id TEXT NOT NULL REFERENCES projects (id),
    tag_key TEXT NOT NULL,
    tag_value TEXT NOT NULL,
    PRIMARY KEY (instance_id, tag_key)
);
CREATE INDEX instance_tag_project ON instance_tags (project_id, instance_id);
