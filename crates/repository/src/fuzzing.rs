//! Parsers of stored bytes, as the fuzzer calls them. Whatever comes in, nothing panics, memory stays
//! in proportion, and what is accepted means one thing only: written again it is read as the same.

use strongroom_core::id::{AttemptId, LineageId};
use strongroom_core::member::MemberPath;

use crate::binary::Cursor;
use crate::frame::HEADER_BYTES;
use crate::keys::RecoveryKey;
use crate::pack::{PackHeader, PackId, SlotTable};
use crate::record::{Codec, Encoding, FULL_LEVEL};
use crate::roster::Roster;
use crate::tree::{Content, DirectoryPage, Entry, Leaf, LeafBody, Location, NodeRef, Root, Segment};
use crate::{CHUNK_SIZE_BYTES, layout};

/// Every target by its name.
pub const TARGETS: &[strongroom_core::fuzzing::Target] = &[
    ("repository-directory-page", directory_page),
    ("repository-format-file", crate::repository::fuzzing::format_file),
    ("repository-marks", crate::marks::fuzzing::marks),
    ("repository-object-key", object_key),
    ("repository-pack", crate::pack::fuzzing::pack),
    ("repository-pack-header", pack_header),
    ("repository-record", record),
    ("repository-recovery-key", recovery_key),
    ("repository-root", root),
    ("repository-roster", roster),
    ("repository-sealed-record", crate::pack::fuzzing::sealed_record),
    ("repository-segment", segment),
    ("repository-slot-table", slot_table),
    ("repository-verdict", crate::verdict::fuzzing::verdict),
    ("repository-wrapped-key", crate::keys::fuzzing::wrapped_key),
];

/// Kept inputs that are made.
pub const SEEDS: &[strongroom_core::fuzzing::Seed] = &[
    ("repository-directory-page", "four", page_of_four),
    ("repository-format-file", "written", crate::repository::fuzzing::written),
    ("repository-marks", "end", crate::marks::fuzzing::end),
    ("repository-marks", "last-tombstone", crate::marks::fuzzing::last_tombstone),
    ("repository-marks", "reader", crate::marks::fuzzing::reader),
    ("repository-marks", "writer", crate::marks::fuzzing::writer),
    ("repository-object-key", "pack", pack_key),
    ("repository-object-key", "tombstone", tombstone_key),
    ("repository-pack", "parts", crate::pack::fuzzing::parts_of_one),
    ("repository-pack", "whole", crate::pack::fuzzing::whole_one),
    ("repository-record", "zstd", zstd_record),
    ("repository-recovery-key", "kit", crate::keys::fuzzing::kit),
    ("repository-root", "one", crate::verdict::fuzzing::root_of_one),
    ("repository-sealed-record", "raw", crate::pack::fuzzing::raw_record),
    ("repository-segment", "two", segment_of_two),
    ("repository-verdict", "abandoned", crate::verdict::fuzzing::abandoned),
    ("repository-verdict", "sealed", crate::verdict::fuzzing::sealed),
    ("repository-wrapped-key", "secret", crate::keys::fuzzing::secret),
];

fn segment(bytes: &[u8]) -> bool {
    let Ok(parsed) = Segment::parse(bytes) else { return false };
    assert_eq!(Segment::parse(&parsed.write()).as_ref(), Ok(&parsed));
    true
}

fn directory_page(bytes: &[u8]) -> bool {
    let Ok(parsed) = DirectoryPage::parse(bytes) else { return false };
    assert_eq!(DirectoryPage::parse(&parsed.write()).as_ref(), Ok(&parsed));
    true
}

/// A fraction among the engine's facts may lose its last digit when it is written again.
fn root(bytes: &[u8]) -> bool {
    let Ok(mut root) = Root::parse(bytes) else { return false };
    let mut again = Root::parse(&root.write()).expect("a root that was taken is taken again");
    for root in [&mut root, &mut again] {
        root.document.facts.engine = serde_json::Value::Null;
    }
    assert_eq!(again, root);
    true
}

fn slot_table(bytes: &[u8]) -> bool {
    let Ok(parsed) = SlotTable::parse(bytes) else { return false };
    assert_eq!(SlotTable::parse(&parsed.write()).as_ref(), Ok(&parsed));
    true
}

fn pack_header(bytes: &[u8]) -> bool {
    let Ok(header) = PackHeader::parse(&mut Cursor::new(bytes)) else { return false };
    // The object's own header comes before it.
    let mut written = vec![0; HEADER_BYTES];
    header.write(&mut written);
    assert_eq!(PackHeader::parse(&mut Cursor::new(&written[HEADER_BYTES..])), Ok(header));
    true
}

fn roster(bytes: &[u8]) -> bool {
    let mut roster = Roster::default();
    if roster.read(bytes).is_err() {
        return false;
    }
    let mut again = Roster::default();
    for part in roster.write() {
        assert_eq!(again.read(&part), Ok(()));
    }
    assert_eq!(again, roster);
    true
}

/// A key that is found is found again in its own text.
fn recovery_key(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(key) = RecoveryKey::find(text) else { return false };
    let again = RecoveryKey::parse(&key.to_text()).expect("a key's own text is a key");
    assert_eq!(again.to_text(), key.to_text());
    true
}

/// A key of an object that is understood has one spelling.
fn object_key(bytes: &[u8]) -> bool {
    let Ok(key) = std::str::from_utf8(bytes) else { return false };
    let lineage = lineage();
    let pack = layout::parse_pack(&lineage, key);
    if let Some((pack, generation)) = pack {
        assert_eq!(layout::pack(&lineage, pack, generation), key);
    }
    let attempt = layout::parse_verdict(&lineage, key);
    if let Some(attempt) = attempt {
        assert_eq!(layout::verdict(&lineage, attempt), key);
    }
    let tombstone = layout::parse_tombstone(&lineage, key);
    if let Some((attempt, number, false)) = tombstone {
        assert_eq!(layout::tombstone(&lineage, attempt, number), key);
    }
    let marks = (layout::parse_intent(&lineage, key), layout::parse_hold(&lineage, key));
    let is_mark = tombstone.is_some() || marks.0.is_some() || marks.1.is_some();
    pack.is_some() || attempt.is_some() || is_mark || layout::parse_lineage_key(key).is_some()
}

/// As payload of each encoding, against a base of the same bytes: decoded to the length that was
/// asked for, or not at all. As plaintext: what is encoded decodes to it.
fn record(bytes: &[u8]) -> bool {
    let Some(([how, low, high], rest)) = bytes.split_first_chunk() else { return false };
    let mut is_taken = false;
    let (base, payload) = rest.split_at(rest.len() * usize::from(*high) / 256);
    let mut codec = Codec::new(FULL_LEVEL);
    let length = CHUNK_SIZE_BYTES.min(usize::from(u16::from_le_bytes([*low, *high])) * 2);
    if let Some(encoding) = Encoding::parse(how % 4) {
        for base in [None, Some(base)] {
            if let Some(plain) = codec.decode(encoding, payload, base, length) {
                assert_eq!(plain.len(), length);
                is_taken = true;
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
    is_taken
}

fn lineage() -> LineageId {
    LineageId::issue(uuid::Uuid::from_u128(1))
}

fn pack_key() -> Vec<u8> {
    layout::pack(&lineage(), location().pack, 1).into_bytes()
}

fn tombstone_key() -> Vec<u8> {
    (layout::tombstone(&lineage(), location().pack.attempt, u32::MAX) + ".end").into_bytes()
}

fn location() -> Location {
    Location {
        pack: PackId { attempt: AttemptId::from_bytes([9; 16]), n: 0 },
        generation: 0,
        salt: [2; 16],
        slot: 3,
        encoding: Encoding::Raw as u8,
        plain_length: 64,
        offset: 160,
        length: 96,
    }
}

fn leaf() -> Leaf {
    Leaf { plain_length: 64, body: LeafBody::Stored { id: [4; 32], chain: vec![location(); 2] } }
}

fn segment_of_two() -> Vec<u8> {
    let fill = Leaf { plain_length: 1 << 17, body: LeafBody::Fill(0) };
    Segment { index: 1, leaves: vec![fill, leaf()] }.write()
}

fn page_of_four() -> Vec<u8> {
    let contents = [
        ("data/a", Content::Directory),
        ("data/b", Content::Empty),
        ("data/c", Content::Inline(leaf())),
        ("data/d", Content::Segments(vec![NodeRef { id: [5; 32], at: location() }])),
    ];
    let entry = |(path, content): (&str, Content)| Entry {
        path: MemberPath::parse(path.as_bytes()).expect("a plain path"),
        mode: 0o600,
        mtime_s: 1,
        size: 64,
        page_size: 8192,
        content,
    };
    DirectoryPage { entries: contents.into_iter().map(entry).collect() }.write()
}

/// 200 bytes, without a base.
fn zstd_record() -> Vec<u8> {
    let (chunk, mut encoded) = (b"strongroom".repeat(20), Vec::new());
    let encoding = Codec::new(FULL_LEVEL).encode_full(&chunk, &mut encoded);
    [&[encoding as u8, 100, 0][..], &encoded].concat()
}
