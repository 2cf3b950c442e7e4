//! What the wishes to restore have in common, whichever dialect spells them.

use jiff::Timestamp;
use serde_json::{Map, Value};
use strongroom_core::id::{BackupId, InstanceId};
use strongroom_core::restore::RestorePoint;
use strongroom_core::{Error, Field, Result};

use crate::body;

/// A moment in milliseconds since the epoch: a whole number, or its digits as a text, which one
/// client sends. 0 is none.
pub(crate) fn moment(object: &Map<String, Value>, key: &str, named: &str) -> Result<Option<Timestamp>> {
    let wrong = || Error::parameter(Field::Body, format!("{named}: must be milliseconds since 1970, UTC"));
    let millis = match object.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_i64().ok_or_else(wrong)?,
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) if text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().map_err(|_| wrong())?
        }
        Some(_) => return Err(wrong()),
    };
    match millis {
        0 => Ok(None),
        1.. => Timestamp::from_millisecond(millis).map(Some).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// The backup that is named; an empty text is none.
pub(crate) fn backup(object: &Map<String, Value>, key: &str, named: &str) -> Result<Option<BackupId>> {
    match body::text(object, key, named)? {
        None | Some("") => Ok(None),
        Some(id) => BackupId::parse(id)
            .map(Some)
            .map_err(|error| Error::parameter(Field::BackupId, format!("{named}: {error}"))),
    }
}

/// An instance by its id or its node's; nothing when it is left out.
pub(crate) fn instance(object: &Map<String, Value>, key: &str, named: &str) -> Result<Option<String>> {
    match body::text(object, key, named)? {
        None => Ok(None),
        Some(id) => InstanceId::parse(id)
            .map(|id| Some(id.as_str().to_owned()))
            .map_err(|error| Error::parameter(Field::InstanceRef, format!("{named}: {error}"))),
    }
}

/// Whichever is there; the backup where both are.
pub(crate) fn either(backup: Option<BackupId>, moment: Option<Timestamp>) -> Option<RestorePoint> {
    backup.map(RestorePoint::Backup).or(moment.map(RestorePoint::Moment))
}

/// An object inside of an object.
pub(crate) fn object<'a>(
    outer: &'a Map<String, Value>,
    key: &str,
    named: &str,
) -> Result<&'a Map<String, Value>> {
    match outer.get(key) {
        Some(Value::Object(inner)) => Ok(inner),
        None | Some(Value::Null) => Err(Error::parameter(Field::Body, format!("{named}: is missing"))),
        Some(_) => Err(Error::parameter(Field::Body, format!("{named}: must be an object"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn moments_are_numbers_or_their_digits() {
        let read = |value: Value| moment(json!({ "at": value }).as_object().unwrap(), "at", "at");
        let there = Some(Timestamp::from_millisecond(1_532_001_446_987).unwrap());
        assert_eq!(read(json!(1_532_001_446_987_i64)).unwrap(), there);
        assert_eq!(read(json!("1532001446987")).unwrap(), there);
        for none in [json!(null), json!(0), json!("0"), json!("")] {
            assert_eq!(read(none).unwrap(), None);
        }
        for bad in
            [json!(-1), json!("-1"), json!(1.5), json!("now"), json!(true), json!(u64::MAX), json!([1])]
        {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
        assert!(read(json!(i64::MAX)).is_err());
    }
}
