//! Parsers of stored bytes, as the fuzzer calls them. Whatever comes in, nothing panics, memory stays
//! in proportion, and what is accepted means one thing only: written again it is read as the same.

use crate::binary::Cursor;
use crate::frame::HEADER_BYTES;
use crate::keys::RecoveryKey;
use crate::pack::{PackHeader, SlotTable};
use crate::record::{Codec, Encoding, FULL_LEVEL};
use crate::roster::Roster;
use crate::tree::{DirectoryPage, Root, Segment};
use crate::{CHUNK_SIZE_BYTES, layout};

/// Every target by its name.
pub const TARGETS: &[strongroom_core::fuzzing::Target] = &[
    ("repository-directory-page", directory_page),
    ("repository-object-key", object_key),
    ("repository-pack-header", pack_header),
    ("repository-record", record),
    ("repository-recovery-key", recovery_key),
    ("repository-root", root),
    ("repository-roster", roster),
    ("repository-segment", segment),
    ("repository-slot-table", slot_table),
];

fn segment(bytes: &[u8]) {
    if let Ok(segment) = Segment::parse(bytes) {
        assert_eq!(Segment::parse(&segment.write()), Ok(segment));
    }
}

fn directory_page(bytes: &[u8]) {
    if let Ok(page) = DirectoryPage::parse(bytes) {
        assert_eq!(DirectoryPage::parse(&page.write()), Ok(page));
    }
}

fn root(bytes: &[u8]) {
    if let Ok(root) = Root::parse(bytes) {
        assert_eq!(Root::parse(&root.write()), Ok(root));
    }
}

fn slot_table(bytes: &[u8]) {
    if let Ok(table) = SlotTable::parse(bytes) {
        assert_eq!(SlotTable::parse(&table.write()), Ok(table));
    }
}

fn pack_header(bytes: &[u8]) {
    if let Ok(header) = PackHeader::parse(&mut Cursor::new(bytes)) {
        // The object's own header comes before it.
        let mut written = vec![0; HEADER_BYTES];
        header.write(&mut written);
        assert_eq!(PackHeader::parse(&mut Cursor::new(&written[HEADER_BYTES..])), Ok(header));
    }
}

fn roster(bytes: &[u8]) {
    let mut roster = Roster::default();
    if roster.read(bytes).is_ok() {
        let mut again = Roster::default();
        for part in roster.write() {
            assert_eq!(again.read(&part), Ok(()));
        }
        assert_eq!(again, roster);
    }
}

/// A key that is found is found again in its own text.
fn recovery_key(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(key) = RecoveryKey::find(text)
    {
        let again = RecoveryKey::parse(&key.to_text()).expect("a key's own text is a key");
        assert_eq!(again.to_text(), key.to_text());
    }
}

/// A key of an object that is understood has one spelling.
fn object_key(bytes: &[u8]) {
    let Ok(key) = std::str::from_utf8(bytes) else { return };
    let lineage = strongroom_core::id::LineageId::issue(uuid::Uuid::from_u128(1));
    if let Some((pack, generation)) = layout::parse_pack(&lineage, key) {
        assert_eq!(layout::pack(&lineage, pack, generation), key);
    }
    if let Some(attempt) = layout::parse_verdict(&lineage, key) {
        assert_eq!(layout::verdict(&lineage, attempt), key);
    }
    if let Some((attempt, number, false)) = layout::parse_tombstone(&lineage, key) {
        assert_eq!(layout::tombstone(&lineage, attempt, number), key);
    }
    let _ = (layout::parse_lineage_key(key), layout::parse_intent(&lineage, key));
    let _ = layout::parse_hold(&lineage, key);
}

/// As payload of each encoding, against a base of the same bytes: decoded to the length that was
/// asked for, or not at all. As plaintext: what is encoded decodes to it.
fn record(bytes: &[u8]) {
    let Some(([how, low, high], rest)) = bytes.split_first_chunk() else { return };
    let (base, payload) = rest.split_at(rest.len() * usize::from(*high) / 256);
    let mut codec = Codec::new(FULL_LEVEL);
    let length = CHUNK_SIZE_BYTES.min(usize::from(u16::from_le_bytes([*low, *high])) * 2);
    if let Some(encoding) = Encoding::parse(how % 4) {
        for base in [None, Some(base)] {
            if let Some(plain) = codec.decode(encoding, payload, base, length) {
                assert_eq!(plain.len(), length);
            }
        }
    }
    let chunk = &payload[..payload.len().min(CHUNK_SIZE_BYTES)];
    let mut encoded = Vec::new();
    let encoding = codec.encode_full(chunk, &mut encoded);
    assert_eq!(codec.decode(encoding, &encoded, None, chunk.len()).as_deref(), Some(chunk));
    if Codec::encode_delta(chunk, base, &mut encoded) {
        let plain = codec.decode(Encoding::Delta, &encoded, Some(base), chunk.len());
        assert_eq!(plain.as_deref(), Some(chunk));
    }
}
