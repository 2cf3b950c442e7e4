//! Decodes chunks from their chain of records. Every chunk's id is checked on every read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use strongroom_core::Result;

use crate::aead::SealingKey;
use crate::frame;
use crate::generations::newest;
use crate::keys::LineageKeys;
use crate::layout;
use crate::pack::{PackId, PackKind, SlotTable, open_record, read_table};
use crate::record::{Codec, FULL_LEVEL};
use crate::store::Store;
use crate::tree::{Leaf, LeafBody, Location, NodeRef};

/// Pack keys kept by one reader.
const PACK_KEYS_MAX: usize = 256;
/// Slot tables kept by one reader, of up to 2 MiB each.
const TABLES_MAX: usize = 8;
/// How often the newest generation of a pack is looked for.
const GENERATIONS_TRIED: usize = 4;

/// One thread's reader of records.
pub(crate) struct ChunkReader {
    store: Arc<dyn Store>,
    keys: Arc<LineageKeys>,
    codec: Codec,
    pack_keys: HashMap<(PackId, bool), SealingKey>,
    /// Packs whose generation a tree names is gone: the newest one, and where it has its records.
    moved: HashMap<PackId, (u32, SlotTable)>,
}

/// Records that were read ahead, by location, in buffers that are used again.
#[derive(Default)]
pub(crate) struct ReadAhead {
    /// The first `used` hold what was read.
    runs: Vec<Vec<u8>>,
    used: usize,
    records: HashMap<(PackId, u16), (usize, Range<usize>)>,
}

/// Buffers beyond this are given back before the next reads.
const RUNS_KEPT_BYTES: usize = 16 << 20;

impl ReadAhead {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Forgets what was read, not the buffers.
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.used = 0;
        if self.runs.iter().map(Vec::capacity).sum::<usize>() > RUNS_KEPT_BYTES {
            self.runs.clear();
        }
    }

    /// The ciphertext of a record, to be opened in place; once, because opening destroys it.
    fn take(&mut self, at: &Location) -> Option<&mut [u8]> {
        let (run, range) = self.records.remove(&(at.pack, at.slot))?;
        self.runs.get_mut(run)?.get_mut(range)
    }

    fn next_buffer(&mut self) -> (usize, &mut Vec<u8>) {
        if self.used == self.runs.len() {
            self.runs.push(Vec::new());
        }
        self.used += 1;
        (self.used - 1, &mut self.runs[self.used - 1])
    }
}

impl ChunkReader {
    pub(crate) fn new(store: Arc<dyn Store>, keys: Arc<LineageKeys>) -> Self {
        Self { store, keys, codec: Codec::new(FULL_LEVEL), pack_keys: HashMap::new(), moved: HashMap::new() }
    }

    /// The plaintext of a chunk. Damage names the pack and slot.
    pub(crate) fn chunk(&mut self, leaf: &Leaf, ahead: &mut ReadAhead) -> Result<Vec<u8>> {
        self.decode(leaf, ahead, &mut None)
    }

    /// A chunk, and the payload of its only record as it is stored. The plaintext was checked.
    pub(crate) fn chunk_and_payload(
        &mut self,
        leaf: &Leaf,
        ahead: &mut ReadAhead,
    ) -> Result<(Vec<u8>, Vec<u8>)> {
        let mut payload = Some(Vec::new());
        let plain = self.decode(leaf, ahead, &mut payload)?;
        Ok((plain, payload.unwrap_or_default()))
    }

    /// `kept` takes the payload of the record that was opened last, where it is wanted.
    fn decode(&mut self, leaf: &Leaf, ahead: &mut ReadAhead, kept: &mut Option<Vec<u8>>) -> Result<Vec<u8>> {
        let (id, chain) = match &leaf.body {
            LeafBody::Fill(byte) => return Ok(vec![*byte; leaf.plain_length as usize]),
            LeafBody::Stored { id, chain } => (id, chain),
        };
        let mut plain: Option<Vec<u8>> = None;
        for at in chain {
            let opened = if let Some(bytes) = ahead.take(at) {
                self.open(PackKind::Data, at, bytes, plain.as_deref(), kept)
            } else {
                let mut ciphertext = self.read(at)?;
                self.open(PackKind::Data, at, &mut ciphertext, plain.as_deref(), kept)
            };
            plain = Some(opened?);
        }
        let plain = plain.unwrap_or_default();
        if self.keys.chunk_id(&plain) != *id {
            return Err(self.damaged(chain.last(), "a chunk decodes to other content than was written"));
        }
        Ok(plain)
    }

    /// The plaintext of the full record at the root of a chain. Its own id is not known here; the
    /// record is authentic, and what is stored on top of it is checked by its own id.
    pub(crate) fn root_of(&mut self, chain: &[Location]) -> Result<Vec<u8>> {
        let Some(root) = chain.first() else { return Ok(Vec::new()) };
        let mut ciphertext = self.read(root)?;
        self.open(PackKind::Data, root, &mut ciphertext, None, &mut None)
    }

    /// The plaintext of a segment, directory page or roster part.
    pub(crate) fn node(&mut self, node: &NodeRef) -> Result<Vec<u8>> {
        let mut ciphertext = self.read(&node.at)?;
        let plain = self.open(PackKind::Meta, &node.at, &mut ciphertext, None, &mut None)?;
        if self.keys.chunk_id(&plain) != node.id {
            return Err(self.damaged(Some(&node.at), "a part of the manifest is not what was written"));
        }
        Ok(plain)
    }

    /// The ciphertext of one record.
    pub(crate) fn read(&mut self, at: &Location) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_there(std::slice::from_ref(at), &mut bytes)?;
        Ok(bytes)
    }

    /// Several neighbouring records with one read.
    pub(crate) fn read_run(&mut self, run: &[Location], ahead: &mut ReadAhead) -> Result<()> {
        let (number, bytes) = ahead.next_buffer();
        let run = self.read_there(run, bytes)?;
        let Some(first) = run.first() else { return Ok(()) };
        for at in run.iter() {
            let start = (at.offset - first.offset) as usize;
            ahead.records.insert((at.pack, at.slot), (number, start..start + at.length as usize));
        }
        Ok(())
    }

    /// Reads from the first record to the end of the last one, all of one pack, wherever the pack
    /// has them by now; answers where that is.
    fn read_there<'a>(&mut self, run: &'a [Location], bytes: &mut Vec<u8>) -> Result<Cow<'a, [Location]>> {
        let Some(named) = run.first() else { return Ok(Cow::Borrowed(run)) };
        if !self.moved.contains_key(&named.pack) && self.read_range(run, bytes)? {
            return Ok(Cow::Borrowed(run));
        }
        // A sweep may write the next generation while this one is looked for.
        for _ in 0..GENERATIONS_TRIED {
            if let Some(moved) = self.moved(run)?
                && self.read_range(&moved, bytes)?
            {
                return Ok(Cow::Owned(moved));
            }
            self.moved.remove(&named.pack);
        }
        Err(frame::missing(&layout::pack(&self.keys.lineage, named.pack, named.generation)))
    }

    /// Where the newest generation of the pack has these records; `None` when that one is gone
    /// again.
    fn moved(&mut self, run: &[Location]) -> Result<Option<Vec<Location>>> {
        let Some(named) = run.first() else { return Ok(None) };
        let lineage = &self.keys.lineage;
        if !self.moved.contains_key(&named.pack) {
            let missing = || frame::missing(&layout::pack(lineage, named.pack, named.generation));
            let newest = newest(&*self.store, lineage, named.pack)?.ok_or_else(missing)?;
            let Some(table) = read_table(&*self.store, &self.keys, named.pack, newest)? else {
                return Ok(None);
            };
            if self.moved.len() >= TABLES_MAX {
                self.moved.clear();
            }
            self.moved.insert(named.pack, (newest, table));
        }
        let (generation, table) = &self.moved[&named.pack];
        let mut moved = Vec::with_capacity(run.len());
        for at in run {
            let Some(entry) = table.slots.get(usize::from(at.slot)).filter(|entry| entry.offset != 0) else {
                let key = layout::pack(lineage, at.pack, *generation);
                self.moved.remove(&named.pack);
                return Err(frame::damage(&key, &format!("it lacks the slot {}", at.slot)));
            };
            moved.push(Location {
                generation: *generation,
                offset: entry.offset,
                length: entry.stored_length,
                ..*at
            });
        }
        Ok(Some(moved))
    }

    /// `false` when the object is not there.
    fn read_range(&self, run: &[Location], bytes: &mut Vec<u8>) -> Result<bool> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(true) };
        let key = layout::pack(&self.keys.lineage, first.pack, first.generation);
        let end = u64::from(last.offset) + u64::from(last.length);
        let length = end.saturating_sub(u64::from(first.offset)) as usize;
        if !self.store.get_range_into(&key, u64::from(first.offset), length, bytes)? {
            return Ok(false);
        }
        if bytes.len() < length {
            return Err(frame::damage(&key, "it is shorter than what was written"));
        }
        bytes.truncate(length);
        Ok(true)
    }

    fn open(
        &mut self,
        kind: PackKind,
        at: &Location,
        ciphertext: &mut [u8],
        base: Option<&[u8]>,
        kept: &mut Option<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        if self.pack_keys.len() >= PACK_KEYS_MAX {
            self.pack_keys.clear();
        }
        let keys = &self.keys;
        let key = self
            .pack_keys
            .entry((at.pack, kind == PackKind::Meta))
            .or_insert_with(|| keys.pack_key(kind, at.pack, &at.salt));
        let opened = open_record(keys, key, at, ciphertext);
        let plain = opened.and_then(|(encoding, payload)| {
            if let Some(kept) = kept {
                payload.clone_into(kept);
            }
            self.codec.decode(encoding, payload, base, at.plain_length as usize)
        });
        plain.ok_or_else(|| self.damaged(Some(at), "a record is not authentic or does not decode"))
    }

    fn damaged(&self, at: Option<&Location>, what: &str) -> strongroom_core::Error {
        let Some(at) = at else { return frame::damage("(no object)", what) };
        let key = layout::pack(&self.keys.lineage, at.pack, at.generation);
        frame::damage(&key, &format!("{what} (slot {})", at.slot))
    }
}

#[cfg(test)]
mod tests {
    use strongroom_core::ErrorKind;
    use strongroom_core::id::{AttemptId, LineageId, ProjectId};
    use strongroom_core::time::Randomness;

    use super::*;
    use crate::keys::{RecoveryKey, open_or_create};
    use crate::pack::{NewRecord, PackBuilder};
    use crate::store::MemoryStore;

    struct Counting(std::sync::atomic::AtomicU8);

    impl Randomness for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    /// Records are authentic, yet together not what was written: a tree that leads to another
    /// record, or a delta over another base. The id of the chunk tells.
    #[test]
    fn f12_authentic_records_that_do_not_belong_together_are_found() {
        let (store, random) = (Arc::new(MemoryStore::new()), Counting(1.into()));
        let raw = uuid::Uuid::from_u128(5);
        let recovery = RecoveryKey::generate(&random);
        let (project, lineage) = (ProjectId::issue(raw), LineageId::issue(raw));
        let keys = Arc::new(open_or_create(&*store, &recovery, &random, &project, &lineage).unwrap());
        let id = PackId { attempt: AttemptId::new(raw), n: 0 };
        let mut pack = PackBuilder::begin(&*store, &keys, &random, PackKind::Data, id).unwrap();
        let noise = |seed: u8| {
            let mut noise = vec![0; 4000];
            blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut noise);
            noise
        };
        let (first, second) = (noise(1), noise(2));
        let mut changed = first.clone();
        changed[100] = 1;
        let mut delta = Vec::new();
        assert!(Codec::encode_delta(&changed, &first, &mut delta));
        let mut push = |encoding, plain: &[u8], payload: &[u8]| {
            let id = keys.chunk_id(plain);
            let record = NewRecord { encoding, plain_length: 4000, id: &id, base: None, payload };
            pack.push(&keys, &record).unwrap()
        };
        let at = [push(1, &first, &first), push(1, &second, &second), push(3, &changed, &delta)];
        pack.finish(&keys).unwrap();

        let mut reader = ChunkReader::new(store, keys.clone());
        let mut read = |plain: &[u8], chain: &[Location]| {
            let body = LeafBody::Stored { id: keys.chunk_id(plain), chain: chain.to_vec() };
            reader.chunk(&Leaf { plain_length: 4000, body }, &mut ReadAhead::new())
        };
        assert_eq!(read(&first, &at[..1]).unwrap(), first);
        assert_eq!(read(&changed, &[at[0], at[2]]).unwrap(), changed);
        for chain in [vec![at[1]], vec![at[1], at[2]], vec![at[2]], vec![at[0]]] {
            assert_eq!(read(&changed, &chain).unwrap_err().kind(), ErrorKind::Damage, "{chain:?}");
        }
        let mut node = |plain: &[u8]| reader.node(&NodeRef { id: keys.chunk_id(plain), at: at[0] });
        assert_eq!(node(&first).unwrap_err().kind(), ErrorKind::Damage, "data is no part of the tree");
    }
}
