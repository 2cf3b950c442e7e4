//! The table of `callers.rs`: for each route who may call it, and what is answered about an object of
//! one's own and about none. A new route gets its rows here.

use strongroom_catalog::Role;

/// The least that a caller must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Least {
    Everybody,
    /// Anybody with a credential, for whatever it is.
    Known,
    /// In the project of the call.
    Role(Role),
    /// An administrator of the domain.
    Govern,
}

/// What a row names, in the path or as `$ID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    Nothing,
    Instance,
    Node,
    Backup,
    Job,
    Token,
    Key,
    User,
    Project,
}

impl Object {
    /// Whose administrators see all of them.
    pub(crate) fn is_of_the_domain(self) -> bool {
        matches!(self, Self::User | Self::Project)
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// With its question mark; `$ID` is the object, `$OWN_…` something of the caller's.
    pub(crate) query: &'static str,
    pub(crate) body: &'static str,
    pub(crate) least: Least,
    pub(crate) object: Object,
    /// The status where the object is the caller's own.
    pub(crate) own: u16,
    /// The status where there is none; a foreign one is none.
    pub(crate) absent: u16,
}

const fn row(method: &'static str, path: &'static str, least: Least, object: Object, own: u16) -> Row {
    Row { method, path, query: "", body: "", least, object, own, absent: 404 }
}

const fn get(path: &'static str, least: Least, object: Object) -> Row {
    row("get", path, least, object, 200)
}

const fn post(path: &'static str, body: &'static str, least: Least, object: Object, own: u16) -> Row {
    Row { body, ..row("post", path, least, object, own) }
}

const fn delete(path: &'static str, least: Least, object: Object, own: u16) -> Row {
    row("delete", path, least, object, own)
}

const fn put(path: &'static str, body: &'static str, object: Object) -> Row {
    Row { body, ..row("put", path, OPERATOR, object, 200) }
}

impl Row {
    const fn asking(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    /// Where none is an empty list and not an error, and where something else is told of one's own.
    const fn telling(self, own: u16, absent: u16) -> Self {
        Self { own, absent, ..self }
    }
}

const EVERYBODY: Least = Least::Everybody;
const KNOWN: Least = Least::Known;
const VIEWER: Least = Least::Role(Role::Viewer);
const OPERATOR: Least = Least::Role(Role::Operator);
const RESTORER: Least = Least::Role(Role::Restorer);
const ADMIN: Least = Least::Role(Role::Admin);
const GOVERN: Least = Least::Govern;

pub(crate) const TABLE: &[Row] = &[
    // Nobody's.
    get("/healthz", EVERYBODY, Object::Nothing),
    get("/readyz", EVERYBODY, Object::Nothing),
    get("/metrics", EVERYBODY, Object::Nothing),
    get("/", EVERYBODY, Object::Nothing),
    get("/rds", EVERYBODY, Object::Nothing),
    // Whoever has a link may use it, and this is none.
    get("/downloads/{file}", EVERYBODY, Object::Nothing).telling(403, 403),
    get("/rds/{version}", EVERYBODY, Object::Nothing),
    // Keystone's: who somebody is.
    get("/v3", EVERYBODY, Object::Nothing),
    post("/v3/auth/tokens", "{}", EVERYBODY, Object::Nothing, 400),
    get("/v3/auth/tokens", KNOWN, Object::Nothing).telling(404, 404),
    delete("/v3/auth/tokens", KNOWN, Object::Nothing, 404),
    get("/v3/auth/catalog", KNOWN, Object::Nothing),
    get("/v3/auth/projects", KNOWN, Object::Nothing),
    get("/v3/auth/domains", KNOWN, Object::Nothing),
    get("/v3/projects", KNOWN, Object::Nothing),
    // v1
    get("/rds/v1/{project_id}/backups", VIEWER, Object::Nothing),
    post(
        "/rds/v1/{project_id}/backups",
        r#"{"backup":{"name":"mine","instance":"$ID"}}"#,
        OPERATOR,
        Object::Node,
        200,
    ),
    delete("/rds/v1/{project_id}/backups/{backup_id}", OPERATOR, Object::Backup, 200),
    get("/rds/v1/{project_id}/instances", VIEWER, Object::Nothing),
    post(
        "/rds/v1/{project_id}/instances",
        r#"{"instance":{"name":"copy1","flavorRef":"x","volume":{"size":40},"restorePoint":{"backupRef":"$ID"}}}"#,
        RESTORER,
        Object::Backup,
        400,
    ),
    post(
        "/rds/v1/{project_id}/instances",
        r#"{"instance":{"name":"copy1","flavorRef":"x","volume":{"size":40},
            "restorePoint":{"backupRef":"$OWN_BACKUP","sourceInstanceId":"$ID"}}}"#,
        RESTORER,
        Object::Node,
        400,
    ),
    get("/rds/v1/{project_id}/instances/{node_id}", VIEWER, Object::Node),
    post(
        "/rds/v1/{project_id}/instances/{node_id}/action",
        r#"{"restore":{"backupRef":"$OWN_BACKUP"}}"#,
        RESTORER,
        Object::Node,
        400,
    ),
    get("/rds/v1/{project_id}/instances/{node_id}/backups/policy", VIEWER, Object::Node),
    put(
        "/rds/v1/{project_id}/instances/{node_id}/backups/policy",
        r#"{"policy":{"keepday":7,"starttime":"01:00:00"}}"#,
        Object::Node,
    ),
    get("/rds/v1/{project_id}/datastores/{engine}/versions", VIEWER, Object::Nothing),
    get("/rds/v1/{project_id}/jobs/{job_id}", VIEWER, Object::Job),
    // v3
    get("/v3/{project_id}/backups", VIEWER, Object::Instance).asking("?instance_id=$ID"),
    get("/v3/{project_id}/backups", VIEWER, Object::Backup).asking("?backup_id=$ID").telling(200, 200),
    post(
        "/v3/{project_id}/backups",
        r#"{"name":"mine","instance_id":"$ID"}"#,
        OPERATOR,
        Object::Instance,
        200,
    ),
    delete("/v3/{project_id}/backups/{backup_id}", OPERATOR, Object::Backup, 200),
    post("/v3/{project_id}/backups/batch-delete", r#"{"backup_ids":["$ID"]}"#, OPERATOR, Object::Backup, 200)
        .telling(200, 200),
    // The bytes of these backups are not there, and the repository says so.
    get("/v3/{project_id}/backup-files", RESTORER, Object::Backup).asking("?backup_id=$ID").telling(404, 404),
    get("/v3/{project_id}/instances", VIEWER, Object::Instance).asking("?id=$ID").telling(200, 200),
    post(
        "/v3/{project_id}/instances",
        r#"{"name":"copy1","restore_point":{"instance_id":"$OWN_INSTANCE","backup_id":"$ID"}}"#,
        RESTORER,
        Object::Backup,
        400,
    ),
    post(
        "/v3/{project_id}/instances",
        r#"{"name":"copy1","restore_point":{"instance_id":"$ID","backup_id":"$OWN_BACKUP"}}"#,
        RESTORER,
        Object::Instance,
        400,
    ),
    post(
        "/v3/{project_id}/instances/recovery",
        r#"{"source":{"instance_id":"$OWN_INSTANCE","backup_id":"$OWN_BACKUP"},"target":{"instance_id":"$ID"}}"#,
        RESTORER,
        Object::Instance,
        400,
    ),
    post(
        "/v3.1/{project_id}/instances/recovery",
        r#"{"source":{"instance_id":"$ID","backup_id":"$OWN_BACKUP"},"target":{"instance_id":"$OWN_INSTANCE"}}"#,
        RESTORER,
        Object::Instance,
        400,
    ),
    get("/v3/{project_id}/instances/{instance_id}/backups/policy", VIEWER, Object::Instance),
    put(
        "/v3/{project_id}/instances/{instance_id}/backups/policy",
        r#"{"backup_policy":{"keep_days":7,"start_time":"01:00-02:00","period":"1,2"}}"#,
        Object::Instance,
    ),
    get("/v3/{project_id}/instances/{instance_id}/restore-time", VIEWER, Object::Instance),
    get("/v3/{project_id}/instances/{instance_id}/tasklist/detail", VIEWER, Object::Instance)
        .asking("?start_time=1"),
    get("/v3/{project_id}/instances/{instance_id}/tags", VIEWER, Object::Instance),
    post(
        "/v3/{project_id}/instances/{instance_id}/tags/action",
        r#"{"action":"create","tags":[{"key":"stage","value":"live"}]}"#,
        OPERATOR,
        Object::Instance,
        200,
    ),
    get("/v3/{project_id}/tags", VIEWER, Object::Nothing),
    get("/v3/{project_id}/datastores/{engine}", VIEWER, Object::Nothing),
    get("/v3/{project_id}/flavors/{engine}", VIEWER, Object::Nothing),
    get("/v3/{project_id}/storage-type/{engine}", VIEWER, Object::Nothing).asking("?version_name=15"),
    get("/v3/{project_id}/quotas", VIEWER, Object::Nothing),
    get("/v3/{project_id}/jobs", VIEWER, Object::Job).asking("?id=$ID"),
    get("/v3/{project_id}/tasklist", VIEWER, Object::Job).asking("?id=$ID").telling(200, 200),
    get("/v3/{project_id}/tasklist", VIEWER, Object::Instance).asking("?instance_id=$ID").telling(200, 200),
    get("/v3/{project_id}/schedule-tasks", VIEWER, Object::Nothing),
    // native
    get("/strongroom/v1/openapi.json", EVERYBODY, Object::Nothing),
    get("/strongroom/v1/instances", VIEWER, Object::Nothing),
    post("/strongroom/v1/instances", "{}", OPERATOR, Object::Nothing, 400),
    get("/strongroom/v1/instances/{instance}", VIEWER, Object::Instance),
    delete("/strongroom/v1/instances/{instance}", OPERATOR, Object::Instance, 200),
    post("/strongroom/v1/instances/{instance}/check", "", OPERATOR, Object::Node, 200),
    get("/strongroom/v1/instances/{instance}/policy", VIEWER, Object::Instance),
    put("/strongroom/v1/instances/{instance}/policy", r#"{"keep_days":0}"#, Object::Instance),
    get("/strongroom/v1/instances/{instance}/tags", VIEWER, Object::Instance),
    put("/strongroom/v1/instances/{instance}/tags", r#"{"tags":[{"key":"stage"}]}"#, Object::Instance),
    get("/strongroom/v1/instances/{instance}/logs", VIEWER, Object::Instance),
    put("/strongroom/v1/instances/{instance}/logs", r#"{"capture":false}"#, Object::Instance),
    post("/strongroom/v1/retention/resume", "", GOVERN, Object::Nothing, 200),
    get("/strongroom/v1/backups", VIEWER, Object::Instance).asking("?instance=$ID"),
    post("/strongroom/v1/backups", r#"{"name":"mine","instance":"$ID"}"#, OPERATOR, Object::Instance, 202),
    get("/strongroom/v1/backups/{backup}", VIEWER, Object::Backup),
    delete("/strongroom/v1/backups/{backup}", OPERATOR, Object::Backup, 202),
    post("/strongroom/v1/backups/{backup}/verify", r#"{"level":"digest"}"#, OPERATOR, Object::Backup, 202),
    // The bytes of these backups are not there: who may read them hears of the repository that it
    // holds none.
    post("/strongroom/v1/backups/{backup}/download-link", "", RESTORER, Object::Backup, 404),
    get("/strongroom/v1/backups/{backup}/plan", RESTORER, Object::Backup).telling(404, 404),
    get("/strongroom/v1/backups/{backup}/members", RESTORER, Object::Backup).telling(404, 404),
    post("/strongroom/v1/backups/{backup}/content", r#"{"segments":[[0,0]]}"#, RESTORER, Object::Backup, 404),
    get("/strongroom/v1/jobs", VIEWER, Object::Nothing),
    get("/strongroom/v1/jobs/{job}", VIEWER, Object::Job),
    post("/strongroom/v1/jobs/{job}/cancel", "", OPERATOR, Object::Job, 202),
    get("/strongroom/v1/jobs/{job}/events", VIEWER, Object::Job),
    get("/strongroom/v1/repository", GOVERN, Object::Nothing),
    post("/strongroom/v1/repository/check", r#"{"level":"presence"}"#, GOVERN, Object::Nothing, 202),
    post("/strongroom/v1/repository/sweep", "{", GOVERN, Object::Nothing, 400),
    post("/strongroom/v1/repository/forget", r#"{"backup":"$ID"}"#, ADMIN, Object::Backup, 404),
    get("/strongroom/v1/tokens", ADMIN, Object::Nothing),
    post("/strongroom/v1/tokens", "{}", ADMIN, Object::Nothing, 400),
    delete("/strongroom/v1/tokens/{token}", ADMIN, Object::Token, 200),
    get("/strongroom/v1/access-keys", ADMIN, Object::Nothing),
    post("/strongroom/v1/access-keys", "{", ADMIN, Object::Nothing, 400),
    delete("/strongroom/v1/access-keys/{access_key}", ADMIN, Object::Key, 200),
    get("/strongroom/v1/projects", GOVERN, Object::Nothing),
    post("/strongroom/v1/projects", "{}", GOVERN, Object::Nothing, 400),
    delete("/strongroom/v1/projects/{project}", GOVERN, Object::Project, 200),
    get("/strongroom/v1/users", GOVERN, Object::Nothing),
    post("/strongroom/v1/users", "{}", GOVERN, Object::Nothing, 400),
    delete("/strongroom/v1/users/{user}", GOVERN, Object::User, 200),
    post(
        "/strongroom/v1/users/{user}/password",
        r#"{"password":"correct horse battery"}"#,
        GOVERN,
        Object::User,
        200,
    ),
    post("/strongroom/v1/users/{user}/roles", r#"{"role":"viewer"}"#, GOVERN, Object::User, 200),
    delete("/strongroom/v1/users/{user}/roles/{project}", GOVERN, Object::User, 200),
    get("/strongroom/v1/recovery-kit", GOVERN, Object::Nothing),
    get("/strongroom/v1/doctor", VIEWER, Object::Nothing),
];
