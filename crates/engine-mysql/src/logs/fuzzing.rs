//! A binary log as it comes, and one that is made.

use super::checksum::Checksum;
use super::event::{HEAD_SIZE_BYTES, MAGIC, kind};
use super::gtid::GtidSet;
use super::walk::Walk;

/// A file from its first byte on. The sets of its transactions go into statements and requests.
#[cfg(feature = "fuzzing")]
pub(crate) fn log(bytes: &[u8]) -> bool {
    let mut walk = Walk::new();
    let is_taken = walk.take(bytes).is_ok();
    let held = walk.end();
    let text = held.set.text();
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-:,_".contains(c);
    assert!(text.chars().all(is_plain), "{text}");
    let mut again = GtidSet::default();
    assert!(again.add_encoded(&held.set.encode()).is_ok() && again.text() == text);
    is_taken && held.format.is_some()
}

/// An event with a right checksum, as it would stand at this place of a file.
pub(crate) fn made(kind: u8, body: &[u8], at: u64) -> Vec<u8> {
    let size = u32::try_from(HEAD_SIZE_BYTES + body.len() + 4).unwrap_or(0);
    // The place stands in four bytes.
    let end = (at + u64::from(size)).to_le_bytes();
    let mut event = vec![7, 0, 0, 0, kind, 1, 0, 0, 0];
    event.extend_from_slice(&size.to_le_bytes());
    event.extend_from_slice(&end[..4]);
    event.extend_from_slice(&[0, 0]);
    event.extend_from_slice(body);
    event.extend_from_slice(&Checksum::of(&event).to_le_bytes());
    event
}

/// The events of a file, one behind the other.
pub(crate) fn events() -> Vec<Vec<u8>> {
    let uuid = [0xab; 16];
    let gtid = |number: u64| [&[0][..], &uuid, &number.to_le_bytes(), &[2; 17]].concat();
    let before =
        [&1_u64.to_le_bytes()[..], &uuid, &1_u64.to_le_bytes(), &1_u64.to_le_bytes(), &5_u64.to_le_bytes()];
    // Number 3 of a tag: numbered fields of numbers of varying length.
    let mut tagged = vec![2, 0x76, 0, 0, 0, 2];
    (0..16).for_each(|_| tagged.extend_from_slice(&[0xad, 2]));
    tagged.extend_from_slice(b"\x04\x0c\x06\x06tag");
    let bodies: [(u8, Vec<u8>); 7] = [
        (kind::FORMAT, [&[4, 0][..], &[b'9'; 90], &[1]].concat()),
        (kind::PREVIOUS_GTIDS, before.concat()),
        (kind::GTID, gtid(5)),
        (30, vec![9; 600]),
        (kind::GTID, gtid(7)),
        (16, vec![8; 8]),
        (kind::TAGGED_GTID, tagged),
    ];
    let mut at = MAGIC.len() as u64;
    let events = bodies.into_iter().map(|(kind, body)| {
        let event = made(kind, &body, at);
        at += event.len() as u64;
        event
    });
    events.collect()
}

#[cfg(feature = "fuzzing")]
pub(crate) fn whole_log() -> Vec<u8> {
    [MAGIC.to_vec(), events().concat()].concat()
}
