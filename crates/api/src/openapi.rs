//! The OpenAPI documents, made from the table of operations of each dialect. They are committed
//! under `docs/openapi`, and compared by a test with the router and with what is committed.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::dialect::Dialect;
use crate::{identity, native, v1, v3};

type Schemas = Vec<(String, RefOr<Schema>)>;
pub(crate) type Collect = fn(&mut Schemas);

/// Adds a schema and all it refers to.
pub(crate) fn collect<T: ToSchema + PartialSchema>(out: &mut Schemas) {
    out.push((T::name().into_owned(), T::schema()));
    T::schemas(out);
}

/// What a parameter of a query may be. Bounds and words are those of the parser that reads it.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Whole {
        least: u64,
        most: u64,
        default: Option<u64>,
    },
    Word(&'static [&'static str]),
    /// As RFC 3339 has it, in whole seconds; clients may leave the colon or the zone out.
    Moment,
    Day,
    Flag,
}

/// A parameter behind the question mark.
#[derive(Clone, Copy)]
pub(crate) struct Param {
    name: &'static str,
    meaning: &'static str,
    form: Form,
    is_needed: bool,
}

pub(crate) const fn text(name: &'static str, meaning: &'static str) -> Param {
    Param { name, meaning, form: Form::Text, is_needed: false }
}

pub(crate) const fn whole(name: &'static str, meaning: &'static str, bounds: RangeInclusive<u64>) -> Param {
    let form = Form::Whole { least: *bounds.start(), most: *bounds.end(), default: None };
    Param { name, meaning, form, is_needed: false }
}

pub(crate) const fn word(name: &'static str, meaning: &'static str, words: &'static [&'static str]) -> Param {
    Param { name, meaning, form: Form::Word(words), is_needed: false }
}

pub(crate) const fn moment(name: &'static str, meaning: &'static str) -> Param {
    Param { name, meaning, form: Form::Moment, is_needed: false }
}

pub(crate) const fn day(name: &'static str, meaning: &'static str) -> Param {
    Param { name, meaning, form: Form::Day, is_needed: false }
}

pub(crate) const fn flag(name: &'static str, meaning: &'static str) -> Param {
    Param { name, meaning, form: Form::Flag, is_needed: false }
}

impl Param {
    pub(crate) const fn needed(self) -> Self {
        Self { is_needed: true, ..self }
    }

    /// What a whole number is when it is absent.
    pub(crate) const fn or(self, default: u64) -> Self {
        let form = match self.form {
            Form::Whole { least, most, .. } => Form::Whole { least, most, default: Some(default) },
            other => other,
        };
        Self { form, ..self }
    }

    fn schema(&self) -> Value {
        match self.form {
            Form::Text => json!({ "type": "string" }),
            Form::Whole { least, most, default: None } => {
                json!({ "type": "integer", "format": "int64", "minimum": least, "maximum": most })
            }
            Form::Whole { least, most, default: Some(default) } => json!({
                "type": "integer", "format": "int64", "minimum": least, "maximum": most, "default": default,
            }),
            Form::Word(words) => json!({ "type": "string", "enum": words }),
            Form::Moment => json!({
                "type": "string", "format": "date-time",
                "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(Z|[+-]\d{2}:?\d{2})?$",
            }),
            Form::Day => json!({ "type": "string", "format": "date" }),
            Form::Flag => json!({ "type": "boolean", "default": false }),
        }
    }
}

/// One route as its document tells it.
#[derive(Clone, Copy)]
pub(crate) struct Operation {
    path: &'static str,
    method: &'static str,
    summary: &'static str,
    query: &'static [Param],
    request: Option<&'static str>,
    status: &'static str,
    /// Schema name, or a media type when the answer is no document.
    answer: &'static str,
    needs_token: bool,
}

const fn operation_of(
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    answer: &'static str,
) -> Operation {
    Operation { path, method, summary, query: &[], request: None, status: "200", answer, needs_token: true }
}

pub(crate) const fn get(path: &'static str, summary: &'static str, answer: &'static str) -> Operation {
    operation_of("get", path, summary, answer)
}

pub(crate) const fn post(path: &'static str, summary: &'static str, answer: &'static str) -> Operation {
    operation_of("post", path, summary, answer)
}

pub(crate) const fn put(path: &'static str, summary: &'static str, answer: &'static str) -> Operation {
    operation_of("put", path, summary, answer)
}

pub(crate) const fn delete(path: &'static str, summary: &'static str, answer: &'static str) -> Operation {
    operation_of("delete", path, summary, answer)
}

impl Operation {
    /// The schema of its errors.
    fn error(&self) -> &'static str {
        if Dialect::of(self.path) == Dialect::Identity { "ErrorAnswer" } else { "ErrorBody" }
    }

    pub(crate) const fn taking(self, request: &'static str) -> Self {
        Self { request: Some(request), ..self }
    }

    pub(crate) const fn with_status(self, status: &'static str) -> Self {
        Self { status, ..self }
    }

    pub(crate) const fn with_query(self, query: &'static [Param]) -> Self {
        Self { query, ..self }
    }

    pub(crate) const fn for_everybody(self) -> Self {
        Self { needs_token: false, ..self }
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn content(answer: &str) -> Value {
    // Each event has a shape of its own, which a document of this version cannot tell.
    if answer == "text/event-stream" {
        return json!({ answer: {} });
    }
    if answer.contains('/') {
        return json!({ answer: { "schema": { "type": "string" } } });
    }
    json!({ "application/json": { "schema": reference(answer) } })
}

fn parameters(of: &Operation) -> Vec<Value> {
    let in_path = of.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = of.query.iter().map(|param| {
        json!({
            "name": param.name, "in": "query", "required": param.is_needed, "description": param.meaning,
            "schema": param.schema(),
        })
    });
    in_path.chain(in_query).collect()
}

fn operation(kind: &Kind, of: &Operation) -> Value {
    let mut out = json!({
        "operationId": operation_id(kind, of),
        "summary": of.summary,
        "parameters": parameters(of),
        "responses": {
            of.status: { "description": of.summary, "content": content(of.answer) },
            "default": { "description": "The call failed", "content": content(of.error()) },
        },
    });
    if let Some(request) = of.request {
        out["requestBody"] = json!({ "required": true, "content": content(request) });
    }
    if !of.needs_token {
        out["security"] = json!([]);
    }
    out
}

/// What each document's paths have in common, and what its ids begin with.
struct Kind {
    title: &'static str,
    /// Begins each operation id, so that a program may be made from several documents at once.
    prefix: &'static str,
    /// Left out of the ids.
    base: &'static str,
}

/// From the dialect, the method and the path: `native_post_backups_backup_verify`.
fn operation_id(kind: &Kind, of: &Operation) -> String {
    let own = of.path.strip_prefix(kind.base).unwrap_or(of.path);
    let words = own.split('/').filter(|part| !part.is_empty());
    let words: Vec<String> =
        words.map(|part| part.trim_matches(['{', '}']).replace(['-', '.'], "_")).collect();
    let words = if words.is_empty() { "root".to_owned() } else { words.join("_") };
    format!("{}_{}_{words}", kind.prefix, of.method)
}

fn document(kind: &Kind, operations: &[Operation], schemas: Collect) -> Value {
    let mut paths = Map::new();
    for of in operations {
        let path = paths.entry(of.path).or_insert_with(|| json!({}));
        path[of.method] = operation(kind, of);
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
        "info": { "title": kind.title, "version": env!("CARGO_PKG_VERSION"), "license": { "name": "Apache-2.0" } },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": { "token": { "type": "apiKey", "in": "header", "name": "X-Auth-Token" } },
        },
    })
}

/// The document of the Keystone subset.
pub fn identity_document() -> Value {
    let kind = Kind { title: "Keystone v3 subset", prefix: "identity", base: "/v3" };
    document(&kind, identity::OPERATIONS, identity::SCHEMAS)
}

/// The native API's document.
pub fn native_document() -> Value {
    let kind = Kind { title: "strongroom native API", prefix: "native", base: "/strongroom/v1" };
    document(&kind, native::OPERATIONS, native::SCHEMAS)
}

/// The document of the v1 dialect, as far as it is served.
pub fn v1_document() -> Value {
    let kind = Kind { title: "RDS v1 backup API", prefix: "v1", base: "/rds/v1/{project_id}" };
    document(&kind, v1::OPERATIONS, v1::SCHEMAS)
}

/// The document of the v3 dialect, as far as it is served.
pub fn v3_document() -> Value {
    let kind = Kind { title: "RDS v3 backup API", prefix: "v3", base: "/v3/{project_id}" };
    document(&kind, v3::OPERATIONS, v3::SCHEMAS)
}
