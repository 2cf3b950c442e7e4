//! The frame of every stored object: magic, format, kind … BLAKE3-256 of all before.
//! The digest is unkeyed: it finds damage without any key, and proves nothing else.
//!
//! Objects that are read whole also carry their own name, so that a sound object under another's
//! name is found, whatever little it says. Packs say it in their header.

use strongroom_core::{Error, ErrorKind, Result};

use crate::FORMAT;
use crate::binary::{Cursor, Malformed, Put};

pub(crate) const MAGIC: [u8; 8] = *b"STRGROOM";
pub(crate) const HEADER_BYTES: usize = 12;
pub(crate) const DIGEST_BYTES: usize = 32;

/// What an object is. Numbers are for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Kind {
    Pack = 1,
    Verdict = 2,
    Intent = 3,
    Tombstone = 4,
    TombstoneEnd = 5,
    Hold = 6,
    WrappedKey = 7,
    Log = 8,
    LogStream = 9,
    LogOpen = 10,
}

/// Magic, format and kind, as every object begins.
pub(crate) fn header(kind: Kind) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&MAGIC);
    out.put_u16(FORMAT);
    out.put_u16(kind as u16);
    out
}

/// Frames a payload that will lie under `key`.
pub(crate) fn wrap(kind: Kind, key: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = header(kind);
    out.put_u16(u16::try_from(key.len()).expect("the layout makes no name of 64 KiB"));
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(payload);
    let digest = blake3::hash(&out);
    out.extend_from_slice(digest.as_bytes());
    out
}

/// The payload of a framed object, after its digest, format, kind and name were checked.
pub(crate) fn unwrap<'a>(key: &str, kind: Kind, object: &'a [u8]) -> Result<&'a [u8]> {
    check_digest(key, object)?;
    let body = &object[..object.len() - DIGEST_BYTES];
    check_header(key, kind, body)?;
    let mut cursor = Cursor::new(&body[HEADER_BYTES..]);
    let name = cursor.u16().and_then(|length| cursor.take(usize::from(length))).map_err(malformed(key))?;
    if name != key.as_bytes() {
        let name = name.escape_ascii();
        return Err(damage(key, &format!("it is the object {name} under another name")));
    }
    Ok(cursor.rest())
}

/// Whether the object ends with the digest of what precedes.
pub(crate) fn check_digest(key: &str, object: &[u8]) -> Result<()> {
    if object.len() < HEADER_BYTES + DIGEST_BYTES {
        return Err(damage(key, "it is too short to be one of ours"));
    }
    let (body, digest) = object.split_at(object.len() - DIGEST_BYTES);
    if blake3::hash(body).as_bytes() != digest {
        return Err(damage(key, "its digest does not match its content"));
    }
    Ok(())
}

pub(crate) fn check_header(key: &str, kind: Kind, body: &[u8]) -> Result<()> {
    let mut cursor = Cursor::new(body);
    let parse = |cursor: &mut Cursor<'_>| -> Result<([u8; 8], u16, u16), Malformed> {
        Ok((cursor.array()?, cursor.u16()?, cursor.u16()?))
    };
    let (magic, format, found) =
        parse(&mut cursor).map_err(|_| damage(key, "it is too short to be one of ours"))?;
    if magic != MAGIC {
        return Err(damage(key, "it does not begin as one of our objects"));
    }
    if format != FORMAT {
        return Err(Error::new(
            ErrorKind::Unavailable,
            format!("The object {key} has format {format}; this program reads format {FORMAT}. Nothing was touched."),
        )
        .with_hint("use the strongroom release that wrote it, or a newer one")
        .with_retry(strongroom_core::Retry::Never));
    }
    if found != kind as u16 {
        return Err(damage(key, "it is an object of another kind"));
    }
    Ok(())
}

/// A stored byte is not what was written.
pub(crate) fn damage(key: &str, what: &str) -> Error {
    Error::new(ErrorKind::Damage, format!("The object {key} is damaged: {what}. No byte of it was used."))
        .with_hint("run `strongroom repository check --level decode` to see which backups are touched")
}

/// Damage found by a parser.
pub(crate) fn malformed(key: &str) -> impl Fn(Malformed) -> Error + '_ {
    move |Malformed(what)| damage(key, what)
}

/// An object that must be there is not.
pub(crate) fn missing(key: &str) -> Error {
    damage(key, "it is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f11_any_flipped_bit_of_a_frame_is_found() {
        let object = wrap(Kind::Intent, "k", b"payload");
        assert_eq!(unwrap("k", Kind::Intent, &object).unwrap(), b"payload");
        for at in 0..object.len() {
            let mut broken = object.clone();
            broken[at] ^= 1;
            assert!(unwrap("k", Kind::Intent, &broken).is_err(), "byte {at}");
        }
        for length in 0..object.len() {
            assert!(unwrap("k", Kind::Intent, &object[..length]).is_err(), "length {length}");
        }
        assert!(unwrap("k", Kind::Verdict, &object).is_err());
    }

    #[test]
    fn f12_a_sound_object_under_another_name_is_found() {
        let object = wrap(Kind::Intent, "l/a/in/1", b"payload");
        let error = unwrap("l/a/in/2", Kind::Intent, &object).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damage);
        assert!(error.public().contains("l/a/in/1"), "{error}");
    }
}
