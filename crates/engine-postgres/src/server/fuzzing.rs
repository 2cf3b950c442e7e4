//! Values that a server shows, as the fuzzer calls them.

use super::{Version, parse_size};

/// What is taken is one number, however it was spelled.
pub(crate) fn values(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let (version, size) = (Version::parse(text), parse_size(text));
    if let Ok(version) = &version {
        assert!(version.text().split('.').all(|part| part.parse::<u32>().is_ok()), "{text:?}");
        assert!(version.obstacle().is_some() || (13..=18).contains(&version.major()), "{text:?}");
        assert_eq!(Version::parse(&version.0.to_string()).ok(), Some(*version));
    }
    if let Ok(bytes) = &size {
        assert_eq!(parse_size(&bytes.to_string()).ok(), Some(*bytes));
    }
    version.is_ok() || size.is_ok()
}
