//! The packer: one thread that takes decided chunks in order, seals them into packs and builds
//! segments, directory pages and the roster.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use strongroom_core::id::AttemptId;
use strongroom_core::time::Randomness;
use strongroom_core::{Error, ErrorKind, Result};

use super::Counters;
use super::decide::Decided;
use super::pipeline::{Copied, Event, MemberEnd, Shared};
use super::spool::Spool;
use crate::SEGMENT_CHUNKS;
use crate::keys::LineageKeys;
use crate::pack::{NewRecord, PACK_SIZE_BYTES, PackBuilder, PackClosed, PackId, PackKind};
use crate::reader::Tree;
use crate::record::{Codec, Encoding};
use crate::roster::Roster;
use crate::store::Store;
use crate::tree::{
    Content, DirectoryPage, Entry, Leaf, LeafBody, NodeRef, PageRef, Segment, ends_page, page_overflows,
};

/// zstd level of segments, pages and rosters.
const META_LEVEL: i32 = 3;
/// One new chunk in so many is read back before the seal; fewer when there are very many.
const SAMPLE_EVERY: u64 = 100;
const SAMPLE_MAX: usize = 4096;

/// Everything the seal needs.
pub(crate) struct Packed {
    pub(crate) pages: Vec<PageRef>,
    pub(crate) rosters: Vec<NodeRef>,
    pub(crate) packs: Vec<PackClosed>,
    /// Those of `packs` that hold the rosters.
    pub(crate) roster_packs: Vec<PackClosed>,
    pub(crate) counters: Counters,
    /// New chunks to be read back.
    pub(crate) sample: Vec<Leaf>,
}

/// A member whose end has not come yet.
#[derive(Default)]
struct OpenMember {
    leaves: Vec<Leaf>,
    segments: Vec<NodeRef>,
    /// The parent's segment at the place of the one being filled.
    parent_segment: Option<NodeRef>,
}

/// Makes packs durable beside the packer, at most one waiting.
struct Committer {
    queue: Option<Sender<PackBuilder>>,
    thread: Option<JoinHandle<Result<Vec<PackClosed>>>>,
}

impl Committer {
    fn start(keys: Arc<LineageKeys>, shared: Arc<Shared>) -> Self {
        let (queue, packs) = crossbeam_channel::bounded::<PackBuilder>(1);
        let thread = std::thread::spawn(move || {
            let mut closed = Vec::new();
            for pack in packs {
                match pack.finish(&keys) {
                    Ok(pack) => closed.push(pack),
                    Err(error) => {
                        shared.fail(error.again());
                        return Err(error);
                    }
                }
            }
            Ok(closed)
        });
        Self { queue: Some(queue), thread: Some(thread) }
    }

    fn commit(&self, pack: PackBuilder, shared: &Shared) -> Result<()> {
        let queue = self.queue.as_ref().expect("the queue is open until finish");
        queue.send(pack).map_err(|_| shared.failure())
    }

    fn finish(mut self) -> Result<Vec<PackClosed>> {
        self.queue = None;
        let thread = self.thread.take().expect("finish comes once");
        thread.join().unwrap_or_else(|_| Err(Error::internal("the committing thread panicked")))
    }
}

pub(crate) struct Packer {
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    keys: Arc<LineageKeys>,
    random: Arc<dyn Randomness>,
    attempt: AttemptId,
    next_pack: u32,
    data: Option<PackBuilder>,
    meta: Option<PackBuilder>,
    committer: Committer,
    /// Packs that are durable already.
    closed: Vec<PackClosed>,
    codec: Codec,
    members: HashMap<u32, OpenMember>,
    spool: Spool,
    roster: Roster,
    counters: Counters,
    new_chunks: u64,
    sample_every: u64,
    sample: Vec<Leaf>,
}

impl Packer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        store: Arc<dyn Store>,
        keys: Arc<LineageKeys>,
        random: Arc<dyn Randomness>,
        attempt: AttemptId,
        scratch: &Path,
    ) -> Result<Self> {
        Ok(Self {
            committer: Committer::start(keys.clone(), shared.clone()),
            shared,
            store,
            keys,
            random,
            attempt,
            next_pack: 0,
            data: None,
            meta: None,
            closed: Vec::new(),
            codec: Codec::new(META_LEVEL),
            members: HashMap::new(),
            spool: Spool::create(scratch)?,
            roster: Roster::default(),
            counters: Counters::default(),
            new_chunks: 0,
            sample_every: SAMPLE_EVERY,
            sample: Vec::new(),
        })
    }

    /// Takes events until all senders are gone, then writes the tree.
    pub(crate) fn run(mut self, events: &Receiver<(u64, Event)>) -> Result<Packed> {
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        for (ticket, event) in events {
            waiting.insert(ticket, event);
            while let Some(event) = waiting.remove(&next) {
                next += 1;
                if let Err(error) = self.shared.check().and_then(|()| self.take(event)) {
                    self.shared.fail(error);
                }
            }
        }
        self.shared.check()?;
        if !waiting.is_empty() || !self.members.is_empty() {
            return Err(Error::internal("the pipeline ended with chunks missing"));
        }
        self.finish()
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Chunk { member, bytes, decided, parent_segment } => {
                let length = bytes.len() as u32;
                self.shared.give_back(bytes);
                let leaf = self.place(length, decided)?;
                self.keep(&leaf);
                let open = self.members.entry(member).or_default();
                open.parent_segment = parent_segment;
                open.leaves.push(leaf);
                if open.leaves.len() < SEGMENT_CHUNKS {
                    return Ok(());
                }
                let mut open = self.members.remove(&member).unwrap_or_default();
                self.close_segment(&mut open)?;
                self.members.insert(member, open);
                Ok(())
            }
            Event::Held { member, bytes, decided, is_suspect } => {
                let length = bytes.len() as u32;
                self.shared.give_back(bytes);
                let leaf = self.place(length, decided)?;
                self.shared.overwriting.with_leaves(|leaves| leaves.push(member, leaf, is_suspect))
            }
            Event::HeldEnd { member } => self.shared.overwriting.with_leaves(|leaves| leaves.close(member)),
            Event::Barrier { durable, done } => {
                if durable {
                    self.make_durable()?;
                }
                // Whoever waited may have given up.
                let _ = done.send(());
                Ok(())
            }
            Event::Copied { member, copied } => {
                let count = copied.leaves.len();
                let mut open = self.members.remove(&member).unwrap_or_default();
                let taken = self.take_over(&mut open, copied);
                self.members.insert(member, open);
                self.shared.give_permit_back(count);
                taken
            }
            Event::End { member, end } => self.end_member(member, *end),
        }
    }

    /// Leaves that are there already, and the parent's whole segment where they are all of it.
    /// Nothing is stored, and everything they stand on is needed by this backup too.
    fn take_over(&mut self, open: &mut OpenMember, copied: Copied) -> Result<()> {
        copied.leaves.iter().for_each(|leaf| self.keep(leaf));
        if let Some(node) = copied.whole {
            self.roster.mark(&node.at);
            open.segments.push(node);
            return Ok(());
        }
        open.parent_segment = copied.within;
        for leaf in copied.leaves {
            open.leaves.push(leaf);
            if open.leaves.len() == SEGMENT_CHUNKS {
                self.close_segment(open)?;
            }
        }
        Ok(())
    }

    /// A segment is stored as soon as it is full, so that a large member costs no memory.
    fn close_segment(&mut self, open: &mut OpenMember) -> Result<()> {
        let index = open.segments.len() as u32;
        let segment = Segment { index, leaves: std::mem::take(&mut open.leaves) };
        let node = self.node(&segment.write(), open.parent_segment.take().as_slice())?;
        open.segments.push(node);
        Ok(())
    }

    /// Stores what is new. The leaf may still be overwritten, so that nothing else is noted of it.
    fn place(&mut self, length: u32, decided: Decided) -> Result<Leaf> {
        match decided {
            Decided::Fill(byte) => Ok(Leaf { plain_length: length, body: LeafBody::Fill(byte) }),
            Decided::Equal(leaf) => Ok(leaf),
            Decided::New { id, encoding, payload, below } => {
                self.store_new(length, id, encoding, &payload, below)
            }
        }
    }

    /// The leaf is a part of the backup: it counts, and what it stands on is needed.
    fn keep(&mut self, leaf: &Leaf) {
        self.counters.source_bytes += u64::from(leaf.plain_length);
        let Some(last) = leaf.chain().last() else {
            self.counters.chunks_fill += 1;
            return;
        };
        if last.pack.attempt != self.attempt {
            self.counters.chunks_equal += 1;
        } else if leaf.chain().len() > 1 {
            self.counters.chunks_delta += 1;
            self.sample(leaf);
        } else {
            self.counters.chunks_full += 1;
            self.sample(leaf);
        }
        for at in leaf.chain() {
            self.roster.mark(at);
        }
    }

    /// Remembers some of the new chunks, to be read back.
    fn sample(&mut self, leaf: &Leaf) {
        self.new_chunks += 1;
        if self.new_chunks % self.sample_every == 1 || self.sample_every == 1 {
            if self.sample.len() >= SAMPLE_MAX {
                self.sample_every *= 2;
                let mut keep = false;
                self.sample.retain(|_| {
                    keep = !keep;
                    keep
                });
            }
            self.sample.push(leaf.clone());
        }
    }

    fn store_new(
        &mut self,
        length: u32,
        id: [u8; 32],
        encoding: Encoding,
        payload: &[u8],
        mut chain: Vec<crate::tree::Location>,
    ) -> Result<Leaf> {
        let record = NewRecord {
            encoding: encoding as u8,
            plain_length: length,
            id: &id,
            base: chain.last().map(|at| (at.pack, at.slot)),
            payload,
        };
        let pack = self.data_pack()?;
        let before = pack.written();
        let at = {
            let keys = self.keys.clone();
            self.data.as_mut().expect("it was opened just now").push(&keys, &record)?
        };
        self.shared.progress.add_stored(u64::from(at.length));
        debug_assert_eq!(before, u64::from(at.offset));
        chain.push(at);
        Ok(Leaf { plain_length: length, body: LeafBody::Stored { id, chain } })
    }

    fn begin_pack(&mut self, kind: PackKind) -> Result<PackBuilder> {
        if let Some(free) = self.store.free_bytes()?
            && free < 2 * PACK_SIZE_BYTES
        {
            return Err(Error::new(
                ErrorKind::DiskFull,
                format!(
                    "The repository's disk has {} left, the next pack needs {}. The backup was stopped; what was stored before is safe.",
                    strongroom_core::size::ByteSize::new(free),
                    strongroom_core::size::ByteSize::new(2 * PACK_SIZE_BYTES)
                ),
            )
            .with_hint("free room on the repository's disk, then run the backup again"));
        }
        let id = PackId { attempt: self.attempt, n: self.next_pack };
        self.next_pack += 1;
        PackBuilder::begin(&*self.store, &self.keys, &*self.random, kind, id)
    }

    /// Everything that was placed so far can be read back when this returns.
    fn make_durable(&mut self) -> Result<()> {
        if let Some(pack) = self.data.take() {
            self.committer.commit(pack, &self.shared)?;
        }
        let next = Committer::start(self.keys.clone(), self.shared.clone());
        self.closed.extend(std::mem::replace(&mut self.committer, next).finish()?);
        Ok(())
    }

    fn data_pack(&mut self) -> Result<&mut PackBuilder> {
        if let Some(full) = self.data.take_if(|pack| pack.is_full()) {
            self.committer.commit(full, &self.shared)?;
        }
        if self.data.is_none() {
            self.data = Some(self.begin_pack(PackKind::Data)?);
        }
        Ok(self.data.as_mut().expect("it was opened just now"))
    }

    /// Stores a node, unless a backup that is known has the very same.
    fn node(&mut self, bytes: &[u8], known: &[NodeRef]) -> Result<NodeRef> {
        let id = self.keys.chunk_id(bytes);
        if let Some(known) = known.iter().find(|known| known.id == id) {
            self.roster.mark(&known.at);
            return Ok(*known);
        }
        let node = self.node_new(id, bytes)?;
        self.roster.mark(&node.at);
        Ok(node)
    }

    fn node_new(&mut self, id: [u8; 32], bytes: &[u8]) -> Result<NodeRef> {
        if let Some(full) = self.meta.take_if(|pack| pack.is_full()) {
            self.committer.commit(full, &self.shared)?;
        }
        if self.meta.is_none() {
            self.meta = Some(self.begin_pack(PackKind::Meta)?);
        }
        let mut payload = Vec::new();
        let encoding = self.codec.encode_full(bytes, &mut payload);
        let record = NewRecord {
            encoding: encoding as u8,
            plain_length: u32::try_from(bytes.len()).map_err(Error::internal)?,
            id: &id,
            base: None,
            payload: &payload,
        };
        let keys = self.keys.clone();
        let at = self.meta.as_mut().expect("it was opened just now").push(&keys, &record)?;
        Ok(NodeRef { id, at })
    }

    fn end_member(&mut self, member: u32, end: MemberEnd) -> Result<()> {
        let mut open = self.members.remove(&member).unwrap_or_default();
        self.counters.members += 1;
        let content = if end.directory {
            Content::Directory
        } else if end.size == 0 {
            Content::Empty
        } else if open.segments.is_empty() && open.leaves.len() == 1 {
            Content::Inline(open.leaves.remove(0))
        } else {
            if !open.leaves.is_empty() {
                self.close_segment(&mut open)?;
            }
            Content::Segments(open.segments)
        };
        self.spool.push(Entry {
            path: end.path,
            mode: end.mode,
            mtime_s: end.mtime_s,
            size: end.size,
            page_size: end.page_size,
            content,
        })
    }

    fn finish(mut self) -> Result<Packed> {
        let pages = self.write_pages()?;
        for pack in [self.data.take(), self.meta.take()].into_iter().flatten() {
            self.committer.commit(pack, &self.shared)?;
        }
        self.make_durable()?;
        let mut packs = std::mem::take(&mut self.closed);
        self.fill_sizes(&packs)?;
        // The pack of the rosters is not in a roster: the root alone names it.
        let parts = self.roster.write();
        let mut rosters = Vec::with_capacity(parts.len());
        for part in parts {
            let id = self.keys.chunk_id(&part);
            rosters.push(self.node_new(id, &part)?);
        }
        if let Some(pack) = self.meta.take() {
            self.committer.commit(pack, &self.shared)?;
        }
        let roster_packs = self.committer.finish()?;
        packs.extend(&roster_packs);
        self.counters.packs = packs.len() as u64;
        self.counters.stored_bytes = packs.iter().map(|pack| pack.size).sum();
        Ok(Packed { pages, rosters, packs, roster_packs, counters: self.counters, sample: self.sample })
    }

    fn write_pages(&mut self) -> Result<Vec<PageRef>> {
        let scratch = std::mem::replace(&mut self.spool, Spool::create(&std::env::temp_dir())?);
        let (mut page, mut bytes, mut refs) = (DirectoryPage::default(), 0, Vec::new());
        scratch.sorted(&mut |entry, length| {
            bytes += length;
            let ends = ends_page(&entry.path, page.entries.len() + 1);
            page.entries.push(entry);
            if ends || page_overflows(bytes) {
                refs.push(self.write_page(&std::mem::take(&mut page))?);
                bytes = 0;
            }
            Ok(())
        })?;
        if !page.entries.is_empty() {
            refs.push(self.write_page(&page)?);
        }
        Ok(refs)
    }

    fn write_page(&mut self, page: &DirectoryPage) -> Result<PageRef> {
        let first_path = page.entries[0].path.as_bytes().to_vec();
        let pages_of = |tree: &Arc<Tree>| {
            let mut pages = tree.root.pages.iter();
            pages.find(|known| known.first_path == first_path).map(|known| known.node)
        };
        let known: Vec<NodeRef> = self.shared.known().filter_map(pages_of).collect();
        let node = self.node(&page.write(), &known)?;
        Ok(PageRef { first_path, members: page.entries.len() as u32, node })
    }

    /// Notes the size of each pack needed: own ones as written, others as the rosters say that know them.
    fn fill_sizes(&mut self, own: &[PackClosed]) -> Result<()> {
        let own: HashMap<PackId, u64> = own.iter().map(|pack| (pack.id, pack.size)).collect();
        let known = self.shared.known().map(|tree| tree.roster()).collect::<Result<Vec<Roster>>>()?;
        for (pack, needed) in &mut self.roster.packs {
            let others = || known.iter().find_map(|roster| roster.packs.get(pack).map(|known| known.size));
            needed.size = own
                .get(pack)
                .copied()
                .or_else(others)
                .ok_or_else(|| Error::internal(format!("pack {pack:?} is in no roster of the parent")))?;
        }
        Ok(())
    }
}
