//! A second reader, written from `docs/formats/repository.md` alone: plain files, the recovery
//! key's text, and none of the crate's code. What it restores shows that the page is enough.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use room::{Members, Room, database, lineage_id, pages, project, touch};
use strongroom_core::engine::CancelToken;
use strongroom_core::progress::Progress;
use strongroom_repository::{LocalStore, SweepOptions};

/// Front-to-back reading, section 1.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn number(&mut self, bytes: usize) -> u64 {
        self.bytes(bytes).iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn size(&mut self, bytes: usize) -> usize {
        usize::try_from(self.number(bytes)).unwrap()
    }

    fn end(&self) {
        assert!(self.0.is_empty(), "{} bytes are left over", self.0.len());
    }
}

fn derive(context: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut material = Vec::new();
    for part in parts {
        material.extend_from_slice(&(part.len() as u64).to_le_bytes());
        material.extend_from_slice(part);
    }
    blake3::derive_key(context, &material)
}

fn open(key: &[u8; 32], nonce: [u8; 12], associated: &[u8], sealed: &[u8]) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
    let mut buffer = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.open_in_place(nonce, Aad::from(associated), &mut buffer).expect("it is authentic").to_vec()
}

/// Section 9, location.
#[derive(Clone)]
struct Location {
    attempt: Vec<u8>,
    n: u32,
    generation: u32,
    salt: Vec<u8>,
    slot: u16,
    encoding: u8,
    plain_length: usize,
    offset: usize,
    length: usize,
}

type PackTable = Vec<(Vec<u8>, u32, u32, Vec<u8>)>;

fn pack_table(fields: &mut Fields<'_>) -> PackTable {
    let count = fields.size(2);
    (0..count)
        .map(|_| {
            let attempt = fields.bytes(16).to_vec();
            let (n, generation) = (fields.number(4) as u32, fields.number(4) as u32);
            (attempt, n, generation, fields.bytes(16).to_vec())
        })
        .collect()
}

fn location(table: &PackTable, fields: &mut Fields<'_>) -> Location {
    let (attempt, n, generation, salt) = table[fields.size(2)].clone();
    let (slot, encoding) = (fields.number(2) as u16, fields.number(1) as u8);
    let (plain_length, offset, length) = (fields.size(3), fields.size(4), fields.size(3));
    Location { attempt, n, generation, salt, slot, encoding, plain_length, offset, length }
}

struct Decoder {
    root: PathBuf,
    lineage_key: [u8; 32],
    meta_key: [u8; 32],
    id_key: [u8; 32],
    binding: Vec<u8>,
}

impl Decoder {
    fn new(root: &Path, recovery_text: &str) -> Self {
        let digits = hex::decode(recovery_text.strip_prefix("SR1-").unwrap().replace('-', "")).unwrap();
        let recovery: [u8; 32] = digits[..32].try_into().unwrap();
        assert_eq!(digits[32..], blake3::hash(&recovery).as_bytes()[..4]);
        check_format(root, &recovery);
        let (project, lineage) = (project(), lineage_id());
        let wrapping = derive("strongroom v1 wrap project key", &[&recovery]);
        let project_key = unwrap_key(root, &format!("keys/{project}/1.1"), &wrapping);
        let wrapping = derive("strongroom v1 wrap lineage key", &[&project_key]);
        let lineage_key = unwrap_key(root, &format!("keys/{project}/l/{lineage}.1"), &wrapping);
        let raw = [hex::decode(project.as_str()).unwrap(), hex::decode(lineage.as_str()).unwrap()].concat();
        Self {
            root: root.to_owned(),
            lineage_key,
            meta_key: derive("strongroom v1 meta", &[&lineage_key]),
            id_key: derive("strongroom v1 chunk id", &[&lineage_key]),
            binding: raw,
        }
    }

    /// Sections 10 and 9: all members of a sealed backup.
    fn members(&self, attempt: &str) -> Members {
        let name = format!("l/{}/at/{attempt}", lineage_id());
        let payload = unframed(&self.root, &name, 2);
        assert_eq!(payload[0], 1, "it is sealed");
        let attempt = hex::decode(attempt).unwrap();
        let mut header = Fields(&payload[1..101]);
        assert_eq!(header.bytes(32), self.binding);
        assert_eq!(header.number(4), 1, "key epoch");
        assert_eq!(header.bytes(16), attempt);
        let manifest_key = derive("strongroom v1 manifest", &[&self.meta_key, &attempt]);
        let plain = open(&manifest_key, [0; 12], &payload[..101], &payload[101..]);
        let mut root = Fields(&plain);
        let length = root.size(4);
        let document: serde_json::Value = serde_json::from_slice(root.bytes(length)).unwrap();
        let digest = root.bytes(32).to_vec();
        let table = pack_table(&mut root);
        let (mut ids, mut pages) = (Vec::new(), Vec::new());
        for _ in 0..root.size(4) {
            let length = root.size(2);
            let first = root.bytes(length).to_vec();
            let count = root.size(4);
            pages.push((first, count, self.node(&table, &mut root, &mut ids)));
        }
        let mut rosters = Vec::new();
        for _ in 0..root.size(4) {
            rosters.extend(self.node(&table, &mut root, &mut ids));
        }
        root.end();
        assert_eq!(blake3::hash(&ids.concat()).as_bytes()[..], digest);
        let mut members = Members::new();
        for (first, count, page) in pages {
            let before = members.len();
            self.page(&page, &first, &mut members);
            assert_eq!(members.len() - before, count);
        }
        assert_eq!(document["totals"]["members"], members.len());
        self.check_roster(&rosters, &document, &hex::encode(&attempt));
        members
    }

    /// A node reference, followed.
    fn node(&self, table: &PackTable, fields: &mut Fields<'_>, ids: &mut Vec<Vec<u8>>) -> Vec<u8> {
        let id = fields.bytes(32).to_vec();
        let plain = self.record(&location(table, fields), true, None);
        assert_eq!(blake3::keyed_hash(&self.id_key, &plain).as_bytes()[..], id);
        ids.push(id);
        plain
    }

    fn page(&self, page: &[u8], first: &[u8], members: &mut Members) {
        let mut fields = Fields(page);
        let count = fields.size(2);
        let table = pack_table(&mut fields);
        for number in 0..count {
            let length = fields.size(2);
            let path = fields.bytes(length).to_vec();
            assert!(number > 0 || path == first);
            assert!(members.last_key_value().is_none_or(|(last, _)| *last < path), "ascending");
            let (mode, _mtime) = (fields.number(4), fields.number(8));
            assert!(mode <= 0o7777);
            let (size, _page_size) = (fields.size(8), fields.size(4));
            let content = match fields.number(1) {
                0 | 1 => Vec::new(),
                2 => self.leaf(&table, &mut fields),
                3 => {
                    let count = fields.size(4);
                    let mut content = Vec::new();
                    for position in 0..count {
                        let segment = self.node(&table, &mut fields, &mut Vec::new());
                        content.extend(self.segment(&segment, position));
                    }
                    content
                }
                other => panic!("content {other}"),
            };
            assert_eq!(content.len(), size);
            members.insert(path, content);
        }
        fields.end();
    }

    fn segment(&self, segment: &[u8], position: usize) -> Vec<u8> {
        let mut fields = Fields(segment);
        assert_eq!(fields.size(4), position);
        let count = fields.size(2);
        let table = pack_table(&mut fields);
        let content = (0..count).flat_map(|_| self.leaf(&table, &mut fields)).collect();
        fields.end();
        content
    }

    fn leaf(&self, table: &PackTable, fields: &mut Fields<'_>) -> Vec<u8> {
        let (depth, length) = (fields.size(1), fields.size(3));
        if depth == 0 {
            return vec![fields.bytes(1)[0]; length];
        }
        assert!(depth <= 5);
        let id = fields.bytes(32).to_vec();
        let mut plain = None;
        for _ in 0..depth {
            plain = Some(self.record(&location(table, fields), false, plain.as_deref()));
        }
        let plain = plain.unwrap();
        assert_eq!(blake3::keyed_hash(&self.id_key, &plain).as_bytes()[..], id);
        assert_eq!(plain.len(), length);
        plain
    }

    /// Section 8.
    fn record(&self, at: &Location, is_meta: bool, base: Option<&[u8]>) -> Vec<u8> {
        let owner = hex::encode(&at.attempt);
        let generation = self.generation(&owner, at.n, at.generation);
        let name = format!("l/{}/pk/{owner}/{}.{generation}", lineage_id(), at.n);
        let object = std::fs::read(self.root.join(&name)).unwrap();
        let (start, length) = if generation == at.generation {
            (at.offset, at.length)
        } else {
            self.slots(&object).0[usize::from(at.slot)]
        };
        assert_ne!(start, 0, "{name} lacks the slot {}", at.slot);
        assert_eq!(&object[12..14], [u8::from(is_meta), 1], "kind and suite");
        assert_eq!(&object[20..52], self.binding);
        assert_eq!((&object[52..68], &object[76..92]), (&at.attempt[..], &at.salt[..]));
        let n = at.n.to_le_bytes();
        let (context, key) = if is_meta {
            ("strongroom v1 meta pack", &self.meta_key)
        } else {
            ("strongroom v1 pack", &self.lineage_key)
        };
        let key = derive(context, &[key, &at.attempt, &n, &at.salt]);
        let mut nonce = [0; 12];
        nonce[..2].copy_from_slice(&at.slot.to_le_bytes());
        let plain_length = u32::try_from(at.plain_length).unwrap().to_le_bytes();
        let associated = [
            &[1, 0][..],
            &self.binding,
            &at.attempt,
            &n,
            &at.slot.to_le_bytes(),
            &[at.encoding],
            &plain_length[..3],
        ]
        .concat();
        assert_eq!(associated.len(), 60);
        let plain = open(&key, nonce, &associated, &object[start..start + length]);
        let (header, payload) = plain.split_at(16);
        assert_eq!((header[0], &header[1..4]), (at.encoding, &plain_length[..3]));
        let mut out = Vec::with_capacity(at.plain_length);
        match (at.encoding, base) {
            (1, None) => out.extend_from_slice(payload),
            (2, None) => {
                zstd_safe::decompress(&mut out, payload).unwrap();
            }
            (3, Some(base)) => {
                zstd_safe::DCtx::create().decompress_using_dict(&mut out, payload, base).unwrap();
                self.check_base(&object, &header[12..16]);
            }
            other => panic!("encoding {}", other.0),
        }
        assert_eq!(out.len(), at.plain_length);
        out
    }

    /// Section 9: the generation that is named or, when that is gone, the newest.
    fn generation(&self, owner: &str, n: u32, named: u32) -> u32 {
        let folder = std::fs::read_dir(self.root.join(format!("l/{}/pk/{owner}", lineage_id()))).unwrap();
        let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let there: Vec<u32> =
            names.filter_map(|name| name.strip_prefix(&format!("{n}."))?.parse().ok()).collect();
        if there.contains(&named) { named } else { *there.iter().max().unwrap() }
    }

    /// Section 7: the base that a delta names in the slot table of its pack.
    fn check_base(&self, object: &[u8], base: &[u8]) {
        let mut base = Fields(base);
        let (attempt, n) = self.slots(object).1[base.size(2)].clone();
        let owner = hex::encode(attempt);
        let generation = self.generation(&owner, n, 0);
        assert!(self.root.join(format!("l/{}/pk/{owner}/{n}.{generation}", lineage_id())).exists());
    }

    /// Section 7: offset and length of each slot, and the packs of the bases.
    #[allow(clippy::type_complexity, reason = "two lists, as the document has them")]
    fn slots(&self, object: &[u8]) -> (Vec<(usize, usize)>, Vec<(Vec<u8>, u32)>) {
        let trailer = &object[object.len() - 64..];
        let mut fields = Fields(trailer);
        let (offset, length, count) = (fields.size(8), fields.size(4), fields.size(4));
        assert_eq!(fields.bytes(16), [0; 16]);
        assert_eq!(fields.bytes(32), blake3::hash(&object[..object.len() - 32]).as_bytes());
        let parts = [&self.meta_key[..], &object[52..68], &object[68..72], &object[72..76], &object[92..108]];
        let key = derive("strongroom v1 slots", &parts);
        assert!(object[108..160].iter().all(|byte| *byte == 0));
        let plain = open(&key, [0; 12], b"", &object[offset..offset + length]);
        let mut table = Fields(&plain);
        assert_eq!(table.size(4), count);
        let (bases, mut slots) = (table.size(4), Vec::new());
        for _ in 0..count {
            let (start, stored) = (table.size(4), table.size(3));
            let (_plain_length, _encoding) = (table.size(3), table.size(1));
            let digest = table.bytes(16);
            assert!(start == 0 || digest == &blake3::hash(&object[start..start + stored]).as_bytes()[..16]);
            slots.push((start, stored));
        }
        let bases = (0..bases).map(|_| (table.bytes(16).to_vec(), table.number(4) as u32)).collect();
        table.end();
        (slots, bases)
    }

    /// Every pack of the roster is there with its size, and so are the packs of the rosters.
    fn check_roster(&self, roster: &[u8], document: &serde_json::Value, attempt: &str) {
        let mut needed = BTreeMap::new();
        let mut fields = Fields(roster);
        while !fields.0.is_empty() {
            let owner = hex::encode(fields.bytes(16));
            let (n, generation, size) = (fields.size(4), fields.size(4), fields.number(8));
            let length = fields.size(2);
            assert!(fields.bytes(length).iter().any(|bits| *bits != 0));
            needed.insert((owner, n as u32, generation as u32), size);
        }
        for pair in document["roster_packs"].as_array().unwrap() {
            let n = u32::try_from(pair[0].as_u64().unwrap()).unwrap();
            needed.insert((attempt.to_owned(), n, 0), pair[1].as_u64().unwrap());
        }
        for ((owner, n, named), size) in needed {
            let generation = self.generation(&owner, n, named);
            let path = self.root.join(format!("l/{}/pk/{owner}/{n}.{generation}", lineage_id()));
            assert!(generation != named || std::fs::metadata(path).unwrap().len() == size);
        }
    }
}

/// Section 4.
fn check_format(root: &Path, recovery: &[u8; 32]) {
    let text = std::fs::read_to_string(root.join("format")).unwrap();
    let (lines, digest) = text.trim_end().rsplit_once("\nblake3: ").unwrap();
    let lines = format!("{lines}\n");
    assert_eq!(digest, blake3::hash(lines.as_bytes()).to_hex().as_str());
    let check = hex::encode(&derive("strongroom v1 key check", &[recovery])[..16]);
    let wanted = ["strongroom repository", "format: 1", "chunk_log2: 17", &format!("key_check: {check}")];
    assert!(wanted.iter().all(|line| lines.lines().any(|found| found == *line)), "{lines}");
    let document = std::fs::read(root.join("FORMAT.md")).unwrap();
    let digest = std::fs::read_to_string(root.join("FORMAT.md.b3")).unwrap();
    assert_eq!(digest, format!("{}\n", blake3::hash(&document).to_hex()));
    assert_eq!(document, std::fs::read("../../docs/formats/repository.md").unwrap());
}

/// Section 5.
fn unframed(root: &Path, name: &str, kind: u16) -> Vec<u8> {
    let object = std::fs::read(root.join(name)).unwrap();
    let (body, digest) = object.split_at(object.len() - 32);
    assert_eq!(blake3::hash(body).as_bytes(), digest);
    let mut fields = Fields(body);
    assert_eq!(fields.bytes(8), b"STRGROOM");
    assert_eq!((fields.number(2), fields.number(2)), (1, u64::from(kind)));
    let length = fields.size(2);
    assert_eq!(fields.bytes(length), name.as_bytes());
    fields.0.to_vec()
}

/// Section 6.
fn unwrap_key(root: &Path, name: &str, wrapping: &[u8; 32]) -> [u8; 32] {
    let payload = unframed(root, name, 7);
    assert_eq!(payload.len(), 60);
    let nonce = payload[..12].try_into().unwrap();
    open(wrapping, nonce, name.as_bytes(), &payload[12..]).try_into().unwrap()
}

#[test]
fn f26_a_reader_written_from_the_document_restores_everything() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("repository");
    let room = Room::new(Arc::new(LocalStore::open(&root).unwrap()));
    let mut members = database();
    members.insert(b"data/noise".to_vec(), {
        let mut noise = vec![0; 200_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        noise
    });
    let (mut kept, mut parent) = (Vec::new(), None);
    for round in 0..7 {
        let summary = room.back_up(&members, parent).unwrap();
        parent = Some(summary.attempt);
        kept.push((summary.attempt, members.clone()));
        touch(&mut members, round + 1);
        if round == 3 {
            members.insert(b"data/base/2/1".to_vec(), pages(77, 150_000));
            members.remove(&b"data/base/1/16386"[..]);
        }
    }
    let decoder = Decoder::new(&root, &room.key.to_text());
    for (attempt, members) in &kept {
        assert_eq!(&decoder.members(&attempt.to_string()), members);
    }
    // The same after a sweep, which leaves later generations of packs and slots that are empty.
    for (attempt, _) in kept.iter().step_by(2) {
        room.lineage.forget(*attempt).unwrap();
    }
    let tightest = SweepOptions { dead_percent: 1, ..SweepOptions::default() };
    let swept = room.repository.sweep(&tightest, &CancelToken::new(), &Progress::new()).unwrap();
    assert!(swept.packs_rewritten > 0 && swept.packs_removed > 0, "{swept:?}");
    for (attempt, members) in kept.iter().skip(1).step_by(2) {
        assert_eq!(&decoder.members(&attempt.to_string()), members);
    }
}

#[test]
fn marks_are_as_the_document_says() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("repository");
    let room = Room::new(Arc::new(LocalStore::open(&root).unwrap()));
    let parent = room.back_up(&database(), None).unwrap().attempt;
    let (open, lineage) = (room.next_attempt(), lineage_id());
    let begun = room.started(open, Some(parent)).unwrap();
    let payload = unframed(&root, &format!("l/{lineage}/in/{open}"), 3);
    let mut fields = Fields(&payload);
    assert_eq!(fields.bytes(16), parent.as_bytes());
    assert_eq!((fields.number(8), fields.number(8)), (1, 1_790_000_000_000_000));
    let length = fields.size(2);
    assert_eq!(fields.bytes(length), b"test");
    fields.end();
    drop(begun);

    let reader = room.lineage.open_backup(parent).unwrap();
    let listed = room.store.list(&format!("l/{lineage}/in/r-")).unwrap();
    let [intent] = &listed[..] else { panic!("{listed:?}") };
    assert!(intent.key.ends_with(".0") && intent.key.len() == format!("l/{lineage}/in/r-").len() + 34);
    let payload = unframed(&root, &intent.key, 3);
    assert_eq!((&payload[..16], payload.len()), (&parent.as_bytes()[..], 24));
    drop(reader);
    assert!(room.store.list(&format!("l/{lineage}/in/r-")).unwrap().is_empty());

    room.lineage.abandon(open).unwrap();
    assert_eq!(unframed(&root, &format!("l/{lineage}/at/{open}"), 2), [2]);
    room.lineage.forget(parent).unwrap();
    let tombstone = unframed(&root, &format!("l/{lineage}/tb/{parent}.0"), 4);
    assert_eq!(tombstone, 1_790_000_000_000_000_i64.to_le_bytes());
}
