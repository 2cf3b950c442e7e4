//! Texts of people and programs, as the fuzzer calls them: what is accepted is shown in the same
//! words, and keeps to its rule.

use crate::limits;
use crate::member::MemberPath;
use crate::network::SourceNetworks;
use crate::text::{BackupName, Description, InstanceName};

/// A name, and a parser that may be fed anything: it must not panic, nor take more memory than is in
/// proportion.
pub type Target = (&'static str, fn(&[u8]));

/// Every target by its name.
pub const TARGETS: &[Target] =
    &[("core-member-path", member_path), ("core-networks", networks), ("core-texts", texts)];

fn texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = BackupName::parse(text) {
        assert_eq!(name.as_str(), text);
        assert!(text.is_ascii() && text.len() <= limits::NAME_LENGTH_CHARS_MAX, "{text:?}");
    }
    if let Ok(name) = InstanceName::parse(text) {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(description) = Description::parse(text) {
        assert!(description.as_str().chars().count() <= limits::DESCRIPTION_LENGTH_CHARS_MAX);
    }
}

fn networks(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(networks) = text.parse::<SourceNetworks>()
    {
        assert_eq!(networks.to_string().parse::<SourceNetworks>().as_ref(), Ok(&networks));
    }
}

/// A path that is taken stays below its root.
fn member_path(bytes: &[u8]) {
    if let Ok(path) = MemberPath::parse(bytes) {
        let parts = path.as_bytes().split(|byte| *byte == b'/');
        assert!(parts.into_iter().all(|part| !part.is_empty() && part != b"." && part != b".."), "{bytes:?}");
    }
}
