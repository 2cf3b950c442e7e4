//! Request bodies: bounded in size and time, strict JSON, errors that name the field.

use std::collections::HashSet;
use std::fmt;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use strongroom_core::limits::BODY_SIZE_BYTES_MAX;
use strongroom_core::{Error, ErrorKind, Field, Result};
use strongroom_service::{Action, Scope};

use crate::app::App;

/// The body as a JSON object. The body of a caller who may not act is not looked at: an error in
/// it would tell them nothing that they can use.
pub(crate) async fn object(
    app: &App,
    scope: &Scope,
    action: Action,
    request: Request<Body>,
) -> Result<Map<String, Value>> {
    scope.require(action)?;
    anybodys_object(app, request).await
}

/// The body as a JSON object, of a caller who is not known yet.
pub(crate) async fn anybodys_object(app: &App, request: Request<Body>) -> Result<Map<String, Value>> {
    let (parts, body) = request.into_parts();
    check_headers(&parts.headers)?;
    let bytes = read(app, body).await?;
    parse(&bytes)
}

/// The body as a document of the native API.
pub(crate) async fn document<T: DeserializeOwned>(
    app: &App,
    scope: &Scope,
    action: Action,
    request: Request<Body>,
) -> Result<T> {
    shaped(object(app, scope, action, request).await?)
}

/// An object as a document, or the name of the field that does not fit.
pub(crate) fn shaped<T: DeserializeOwned>(object: Map<String, Value>) -> Result<T> {
    serde_path_to_error::deserialize(Value::Object(object)).map_err(|error| {
        let path = error.path().to_string();
        misfit(if path == "." { "" } else { &path }, &error.inner().to_string())
    })
}

/// What does not fit, by the name of its field and without its value: it may be a password.
fn misfit(path: &str, what: &str) -> Error {
    let quoted = |text: &str| text.split('`').nth(1).map(|name| shortened(name).to_owned());
    let (path, what) = if let Some(name) = what.strip_prefix("missing field").and_then(quoted) {
        (joined(path, &name), "is missing".to_owned())
    } else if let Some(name) = what.strip_prefix("unknown field").and_then(quoted) {
        // The path ends with the unknown field itself or with the object around it.
        (if path.is_empty() { name } else { path.to_owned() }, "is no field of this document".to_owned())
    } else {
        let wanted = what.rsplit_once("expected ").map_or("a value that fits", |(_, wanted)| wanted);
        (path.to_owned(), format!("must be {wanted}"))
    };
    Error::parameter(field(&path), format!("{}: {what}", if path.is_empty() { "body" } else { &path }))
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn field(path: &str) -> Field {
    match path {
        "name" => Field::InstanceName,
        "description" => Field::Description,
        "instance" => Field::InstanceRef,
        "backup" => Field::BackupId,
        "engine" => Field::Engine,
        "host" => Field::Host,
        "port" => Field::Port,
        "user" => Field::User,
        "password" => Field::Password,
        "tls" => Field::Tls,
        "keep_days" => Field::KeepDays,
        "start_time" => Field::StartTime,
        "period" => Field::Period,
        "tags" => Field::Tags,
        "" => Field::Body,
        _ => Field::Other,
    }
}

/// Enough of a name that came in to know it again.
fn shortened(text: &str) -> &str {
    text.char_indices().nth(64).map_or(text, |(end, _)| &text[..end])
}

fn check_headers(headers: &HeaderMap) -> Result<()> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > BODY_SIZE_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let encoded = headers.get(CONTENT_ENCODING).is_some_and(|value| value != "identity");
    if encoded {
        return Err(Error::parameter(Field::Body, "body: must not be compressed"));
    }
    let kind = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let json = kind.is_none_or(|kind| {
        kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
    });
    if json { Ok(()) } else { Err(Error::parameter(Field::Body, "Content-Type: must be application/json")) }
}

pub(crate) async fn read(app: &App, body: Body) -> Result<Bytes> {
    let limited = Limited::new(body, BODY_SIZE_BYTES_MAX);
    match tokio::time::timeout(app.settings.body_read_timeout, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Ok(Err(_)) => Err(Error::parameter(Field::Body, "body: ended early")),
        Err(_elapsed) => Err(Error::parameter(Field::Body, "body: did not come in time")),
    }
}

fn too_large() -> Error {
    Error::new(ErrorKind::BodyTooLarge, format!("body: must have at most {BODY_SIZE_BYTES_MAX} bytes"))
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Map<String, Value>> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::new(ErrorKind::BodyMissing, "body: is missing"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    match value {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::parameter(Field::Body, "body: must be a JSON object")),
        Err(error) => Err(Error::parameter(Field::Body, format!("body: is not valid JSON ({error})"))),
    }
}

/// A text member of an object that must be there.
pub(crate) fn required<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a str> {
    text(object, key, key)?.ok_or_else(|| Error::parameter(Field::Body, format!("{key}: is missing")))
}

/// A text member of an object: missing, of another type, or there.
pub(crate) fn text<'a>(object: &'a Map<String, Value>, key: &str, named: &str) -> Result<Option<&'a str>> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Error::parameter(Field::Body, format!("{named}: must be a string"))),
    }
}

/// A whole number: missing, of another type, or there. One that is too large is the largest there is.
pub(crate) fn integer(object: &Map<String, Value>, key: &str, named: &str) -> Result<Option<i64>> {
    let wrong = || Error::parameter(Field::Body, format!("{named}: must be a whole number"));
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => {
            let large = number.as_u64().map(|_| i64::MAX);
            number.as_i64().or(large).map(Some).ok_or_else(wrong)
        }
        Some(_) => Err(wrong()),
    }
}

/// A member of an object that must be there, and be an object.
pub(crate) fn member<'a>(
    object: &'a Map<String, Value>,
    key: &str,
    named: &str,
) -> Result<&'a Map<String, Value>> {
    match object.get(key) {
        Some(Value::Object(member)) => Ok(member),
        Some(_) => Err(Error::parameter(Field::Body, format!("{named}: must be an object"))),
        None => Err(Error::parameter(Field::Body, format!("{named}: is missing"))),
    }
}

/// As serde_json's own values, and a key that comes twice is an error: which one was meant?
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (mut out, mut seen) = (Map::new(), HashSet::new());
        while let Some(key) = entries.next_key::<Key>()? {
            if !seen.insert(key.0.clone()) {
                return Err(serde::de::Error::custom(format_args!(
                    "the key {:?} comes twice",
                    shortened(&key.0)
                )));
            }
            out.insert(key.0, entries.next_value_seed(Strict)?);
        }
        Ok(Value::Object(out))
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Key(String);

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(body: &[u8]) -> Option<ErrorKind> {
        parse(body).err().map(|error| error.kind())
    }

    #[test]
    fn a08_bodies_that_are_no_object() {
        let bad = Some(ErrorKind::Parameter(Field::Body));
        assert_eq!(kind(b"{\"a\":{\"b\":1}}"), None);
        assert_eq!(kind(b""), Some(ErrorKind::BodyMissing));
        assert_eq!(kind(b" \n"), Some(ErrorKind::BodyMissing));
        for body in [
            &b"[]"[..],
            b"1",
            b"null",
            b"{",
            b"{}{}",
            b"{\"a\":1,\"a\":2}",
            b"{\"x\":{\"a\":1,\"a\":2}}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":\"\\ud800\"}",
            b"{a:1}",
            b"{'a':1}",
        ] {
            assert_eq!(kind(body), bad, "{:?}", String::from_utf8_lossy(body));
        }
        for bomb in ["[".repeat(60_000), "{\"a\":".repeat(12_000)] {
            assert_eq!(kind(bomb.as_bytes()), bad);
        }
    }
}
