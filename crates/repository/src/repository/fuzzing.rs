//! The `format` file, as the fuzzer calls it.

use super::{FORMAT, FORMAT_DIGEST, FormatFile};
use crate::keys::fuzzing::recovery;

/// As it is, and with the right digest behind it. What is taken says the same when it is written
/// again, and is sound no more when a bit of it flips.
pub(crate) fn format_file(bytes: &[u8]) -> bool {
    let is_whole = FormatFile::parse(bytes).is_ok();
    let mut text = bytes.to_vec();
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    let digest = blake3::hash(&text).to_hex();
    text.extend_from_slice(format!("{FORMAT_DIGEST}{digest}\n").as_bytes());
    assert!(FormatFile::is_sound(&text));
    let Ok(found) = FormatFile::parse(&text) else { return is_whole };
    let _ = found.judge(&recovery());
    // The end of a line swallows one.
    if !text.contains(&b'\r') {
        let again = FormatFile::parse(found.write(jiff::Timestamp::UNIX_EPOCH).as_bytes())
            .expect("what was taken is taken again");
        assert_eq!((again.format, again.id, again.key_check), (found.format, found.id, found.key_check));
    }
    for share in 0..16 {
        let mut flipped = text.clone();
        flipped[text.len() * share / 16] ^= 1 << (share % 8);
        assert!(!FormatFile::is_sound(&flipped), "{share}");
    }
    true
}

pub(crate) fn written() -> Vec<u8> {
    let id = uuid::Uuid::from_u128(3).simple().to_string();
    let format = FormatFile { format: FORMAT, id, key_check: recovery().check_value() };
    format.write(jiff::Timestamp::UNIX_EPOCH).into_bytes()
}
