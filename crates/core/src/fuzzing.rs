//! Texts of people and programs, as the fuzzer calls them: what is accepted is shown in the same
//! words, and keeps to its rule.

use crate::limits;
use crate::member::MemberPath;
use crate::network::SourceNetworks;
use crate::policy::{StartWindow, Weekdays};
use crate::tag::{TagKey, TagValue, TagsWanted};
use crate::text::{BackupName, Description, InstanceName};

/// A name, and a parser that may be fed anything: it must not panic, nor take more memory than is in
/// proportion. It answers whether the bytes were taken: a target whose kept inputs are all refused
/// looks at nothing but the way to its parser.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// A target, the name of one of its kept inputs, and how that is made.
pub type Seed = (&'static str, &'static str, fn() -> Vec<u8>);

/// Every target by its name.
pub const TARGETS: &[Target] = &[
    ("core-member-path", member_path),
    ("core-networks", networks),
    ("core-policies", policies),
    ("core-tags", tags),
    ("core-texts", texts),
];

/// What is taken of a policy is shown in words that are taken as the same.
fn policies(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let (window, start) = (StartWindow::parse(text), StartWindow::parse_start(text));
    let days = Weekdays::parse(text);
    for window in [&window, &start].into_iter().flatten() {
        assert_eq!(StartWindow::parse(&window.to_string()).as_ref().ok(), Some(window), "{text:?}");
    }
    if let Ok(days) = &days {
        assert_eq!(Weekdays::parse(&days.to_string()).as_ref().ok(), Some(days), "{text:?}");
    }
    window.is_ok() || start.is_ok() || days.is_ok()
}

/// A filter that is taken admits what it names, and a key that is taken can be asked for.
fn tags(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let (key, value) = (TagKey::parse(text), TagValue::parse(text));
    if let (Ok(key), Ok(value)) = (&key, &value) {
        let held = [(key.clone(), value.clone())].into();
        for filter in [text.to_owned(), format!("{text}="), format!("{text}={text}")] {
            assert!(TagsWanted::parse(&filter).is_ok_and(|wanted| wanted.admits(&held)), "{filter:?}");
        }
    }
    let is_filter = TagsWanted::parse(text).is_ok_and(|wanted| {
        assert_eq!(wanted.is_empty(), text.is_empty());
        true
    });
    key.is_ok() || value.is_ok() || is_filter
}

fn texts(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let (backup, instance) = (BackupName::parse(text), InstanceName::parse(text));
    let description = Description::parse(text);
    if let Ok(name) = &backup {
        assert_eq!(name.as_str(), text);
        assert!(text.is_ascii() && text.len() <= limits::NAME_LENGTH_CHARS_MAX, "{text:?}");
    }
    if let Ok(name) = &instance {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(description) = &description {
        assert!(description.as_str().chars().count() <= limits::DESCRIPTION_LENGTH_CHARS_MAX);
    }
    backup.is_ok() || instance.is_ok() || description.is_ok()
}

fn networks(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(networks) = text.parse::<SourceNetworks>() else { return false };
    assert_eq!(networks.to_string().parse::<SourceNetworks>().as_ref(), Ok(&networks));
    true
}

/// A path that is taken stays below its root.
fn member_path(bytes: &[u8]) -> bool {
    let Ok(path) = MemberPath::parse(bytes) else { return false };
    let parts = path.as_bytes().split(|byte| *byte == b'/');
    assert!(parts.into_iter().all(|part| !part.is_empty() && part != b"." && part != b".."), "{bytes:?}");
    true
}
