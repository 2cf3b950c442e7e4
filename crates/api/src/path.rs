//! The shape of a path, judged before anybody looks at what it names.

use strongroom_core::{Error, ErrorKind, Field, Result};

/// The path without its one trailing slash (contract section 1); the root stays as it is.
pub(crate) fn trimmed(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some(shorter) if shorter.len() > 1 => shorter,
        _ => path,
    }
}

/// Every unusual shape is no route of ours: empty and dot segments, plain or escaped, and slashes
/// that hide in an escape. What is judged here is what the handlers will see.
pub(crate) fn check(trimmed: &str) -> Result<()> {
    if trimmed == "/" {
        return Ok(());
    }
    let unknown = || Error::new(ErrorKind::RouteUnknown, "There is no such path.");
    let segments = trimmed.strip_prefix('/').ok_or_else(unknown)?;
    for segment in segments.split('/') {
        let plain = unescape(segment).ok_or_else(unknown)?;
        if matches!(plain.as_slice(), b"" | b"." | b"..") || plain.contains(&b'/') || plain.contains(&b'\\') {
            return Err(unknown());
        }
        if std::str::from_utf8(&plain).is_err() {
            return Err(Error::parameter(Field::Other, "path: must be UTF-8"));
        }
    }
    Ok(())
}

/// The bytes that a segment's escapes stand for; nothing when an escape is broken.
fn unescape(segment: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut out = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        let plain = match byte {
            b'%' => u8::try_from(digit(rest.next()?)? * 16 + digit(rest.next()?)?).ok()?,
            other => other,
        };
        out.push(plain);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a20_only_plain_paths_are_routes() {
        for (path, plain) in [
            ("/rds/v1/p/backups", true),
            ("/rds/v1/p/backups/", true),
            ("/rds/v1/p/backups/a%20b", true),
            ("/", true),
            ("", false),
            ("*", false),
            ("//", false),
            ("/rds//v1", false),
            ("/rds/v1/p/backups//", false),
            ("/rds/../etc", false),
            ("/rds/./v1", false),
            ("/rds/%2e%2e/x", false),
            ("/rds/%2E/x", false),
            ("/rds%2fv1", false),
            ("/rds/a%5Cb", false),
            ("/rds/%", false),
            ("/rds/%4", false),
            ("/rds/%zz", false),
        ] {
            assert_eq!(check(trimmed(path)).is_ok(), plain, "{path}");
        }
    }

    #[test]
    fn a_path_that_is_no_text_is_a_parameter_error() {
        assert_eq!(check("/rds/%ff").unwrap_err().kind(), ErrorKind::Parameter(Field::Other));
    }
}
