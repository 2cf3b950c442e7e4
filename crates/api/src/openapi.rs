//! The documents, made from one table beside the router's: each operation with its documents.
//! They are committed under `docs/openapi` and compared by a test.

use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::native::wire;
use crate::v1::V1_SCHEMAS;

type Schemas = Vec<(String, RefOr<Schema>)>;
pub(crate) type Collect = fn(&mut Schemas);

/// Adds a schema and all it refers to.
pub(crate) fn collect<T: ToSchema + PartialSchema>(out: &mut Schemas) {
    out.push((T::name().into_owned(), T::schema()));
    T::schemas(out);
}

struct Operation {
    path: &'static str,
    method: &'static str,
    summary: &'static str,
    request: Option<&'static str>,
    status: &'static str,
    /// Schema name, or a media type when the answer is a stream.
    answer: &'static str,
}

const fn op(
    path: &'static str,
    method: &'static str,
    summary: &'static str,
    request: Option<&'static str>,
    status: &'static str,
    answer: &'static str,
) -> Operation {
    Operation { path, method, summary, request, status, answer }
}

const NATIVE: &[Operation] = &[
    op("/strongroom/v1/instances", "get", "Registered instances", None, "200", "InstanceList"),
    op(
        "/strongroom/v1/instances",
        "post",
        "Check a source and register it",
        Some("InstanceRequest"),
        "201",
        "InstanceAdded",
    ),
    op("/strongroom/v1/instances/{instance}", "get", "One instance", None, "200", "InstanceView"),
    op(
        "/strongroom/v1/instances/{instance}",
        "delete",
        "Retire an instance; its backups stay",
        None,
        "200",
        "Nothing",
    ),
    op(
        "/strongroom/v1/instances/{instance}/check",
        "post",
        "Look at the source again",
        None,
        "200",
        "CheckView",
    ),
    op("/strongroom/v1/backups", "get", "Backups, newest first, by pages", None, "200", "BackupList"),
    op(
        "/strongroom/v1/backups",
        "post",
        "Create a manual backup",
        Some("BackupRequest"),
        "202",
        "BackupView",
    ),
    op("/strongroom/v1/backups/{backup}", "get", "One backup with all its facts", None, "200", "BackupView"),
    op("/strongroom/v1/backups/{backup}", "delete", "Delete a manual backup", None, "202", "Accepted"),
    op(
        "/strongroom/v1/backups/{backup}/verify",
        "post",
        "Check a backup at a level",
        Some("CheckRequest"),
        "202",
        "Accepted",
    ),
    op(
        "/strongroom/v1/backups/{backup}/plan",
        "get",
        "What a restore would write",
        None,
        "200",
        "RestorePlanView",
    ),
    op(
        "/strongroom/v1/backups/{backup}/members",
        "get",
        "Files and directories, a line each (MemberLine)",
        None,
        "200",
        "application/x-ndjson",
    ),
    op(
        "/strongroom/v1/backups/{backup}/content",
        "post",
        "Segments, as a content stream",
        Some("ContentRequest"),
        "200",
        "application/octet-stream",
    ),
    op("/strongroom/v1/jobs", "get", "Jobs, newest first", None, "200", "JobList"),
    op("/strongroom/v1/jobs/{job}", "get", "One job with its steps", None, "200", "JobView"),
    op("/strongroom/v1/jobs/{job}/cancel", "post", "Ask for the end of a job", None, "202", "Accepted"),
    op(
        "/strongroom/v1/jobs/{job}/events",
        "get",
        "Progress as server-sent events",
        None,
        "200",
        "text/event-stream",
    ),
    op("/strongroom/v1/repository", "get", "Numbers of the repository", None, "200", "RepositoryView"),
    op(
        "/strongroom/v1/repository/check",
        "post",
        "Check the whole repository",
        Some("CheckRequest"),
        "202",
        "Accepted",
    ),
    op(
        "/strongroom/v1/repository/forget",
        "post",
        "Forget a backup by what the repository knows",
        Some("ForgetRequest"),
        "200",
        "Nothing",
    ),
    op("/strongroom/v1/tokens", "get", "Tokens of the project", None, "200", "TokenList"),
    op(
        "/strongroom/v1/tokens",
        "post",
        "Make a token; it is shown once",
        Some("TokenRequest"),
        "201",
        "TokenView",
    ),
    op("/strongroom/v1/tokens/{token}", "delete", "Revoke a token at once", None, "200", "Nothing"),
    op("/strongroom/v1/recovery-kit", "get", "The recovery kit", None, "200", "RecoveryKitView"),
    op("/strongroom/v1/doctor", "get", "The server's look at itself", None, "200", "DoctorView"),
];

const V1: &[Operation] = &[
    op("/rds/v1/{project_id}/backups", "get", "Manual backups, newest first", None, "200", "BackupList"),
    op(
        "/rds/v1/{project_id}/backups",
        "post",
        "Create a manual backup",
        Some("CreateBackupBody"),
        "200",
        "BackupCreated",
    ),
    op(
        "/rds/v1/{project_id}/backups/{backup_id}",
        "delete",
        "Delete a manual backup",
        None,
        "200",
        "Nothing",
    ),
    op("/rds/v1/{project_id}/instances", "get", "Instances", None, "200", "InstanceList"),
    op(
        "/rds/v1/{project_id}/instances/{node_id}",
        "get",
        "One instance, by its node",
        None,
        "200",
        "InstanceShown",
    ),
    op(
        "/rds/v1/{project_id}/datastores/{engine}/versions",
        "get",
        "Versions of an engine",
        None,
        "200",
        "DataStoreVersions",
    ),
    op("/rds/v1/{project_id}/jobs/{job_id}", "get", "A job by its id", None, "200", "JobShown"),
];

fn native_schemas(out: &mut Schemas) {
    collect::<wire::ErrorBody>(out);
    collect::<wire::InstanceRequest>(out);
    collect::<wire::InstanceAdded>(out);
    collect::<wire::InstanceList>(out);
    collect::<wire::BackupRequest>(out);
    collect::<wire::BackupList>(out);
    collect::<wire::JobList>(out);
    collect::<wire::CheckRequest>(out);
    collect::<wire::Accepted>(out);
    collect::<wire::ForgetRequest>(out);
    collect::<wire::RepositoryView>(out);
    collect::<wire::RestorePlanView>(out);
    collect::<wire::MemberLine>(out);
    collect::<wire::ContentRequest>(out);
    collect::<wire::TokenRequest>(out);
    collect::<wire::TokenList>(out);
    collect::<wire::RecoveryKitView>(out);
    collect::<wire::DoctorView>(out);
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn content(answer: &str) -> Value {
    if answer.contains('/') {
        return json!({ answer: { "schema": { "type": "string" } } });
    }
    json!({ "application/json": { "schema": reference(answer) } })
}

fn operation(of: &Operation) -> Value {
    let parameters: Vec<Value> = of
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let mut out = json!({
        "operationId": operation_id(of),
        "summary": of.summary,
        "parameters": parameters,
        "responses": {
            of.status: { "description": of.summary, "content": content(of.answer) },
            "default": { "description": "The call failed", "content": content("ErrorBody") },
        },
    });
    if let Some(request) = of.request {
        out["requestBody"] = json!({ "required": true, "content": content(request) });
    }
    out
}

fn operation_id(of: &Operation) -> String {
    let words = of.path.split('/').skip(3).filter(|part| !part.is_empty() && *part != "{project_id}");
    let words: Vec<String> = words.map(|part| part.trim_matches(['{', '}']).replace('-', "_")).collect();
    format!("{}_{}", of.method, words.join("_"))
}

fn document(title: &str, operations: &[Operation], schemas: Collect) -> Value {
    let mut paths = Map::new();
    for of in operations {
        let path = paths.entry(of.path).or_insert_with(|| json!({}));
        path[of.method] = operation(of);
    }
    let mut found = Schemas::new();
    schemas(&mut found);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.dedup_by(|a, b| a.0 == b.0);
    let mut components: Map<String, Value> = found
        .into_iter()
        .map(|(name, schema)| (name, serde_json::to_value(schema).unwrap_or_default()))
        .collect();
    components.entry("Nothing").or_insert_with(|| json!({ "type": "object" }));
    json!({
        "openapi": "3.1.0",
        "info": { "title": title, "version": env!("CARGO_PKG_VERSION"), "license": { "name": "Apache-2.0" } },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": { "token": { "type": "apiKey", "in": "header", "name": "X-Auth-Token" } },
        },
    })
}

/// The native API's document.
pub fn native_document() -> Value {
    document("strongroom native API", NATIVE, native_schemas)
}

/// The document of the v1 dialect, as far as it is served.
pub fn v1_document() -> Value {
    document("RDS v1 backup API", V1, V1_SCHEMAS)
}
