//! A backup opened for reading. While it lives, its intents keep the packs from the sweep.

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use strongroom_core::id::AttemptId;
use strongroom_core::member::{MemberKind, MemberPath};
use strongroom_core::{Error, ErrorKind, Field, Result};

use super::chunks::ReadAhead;
use super::{ChunkReader, Tree};
use crate::lineage::Lineage;
use crate::tree::{Content, Entry, Leaf, LeafBody, Location};
use crate::verdict::{self, Opened, SealedSummary};
use crate::{SEGMENT_SIZE_BYTES, layout, marks};

/// A reader says again that it reads, this often.
const RENEW_AFTER: Duration = Duration::from_mins(10);
/// Chunks decoded from one planned read.
pub(super) const WINDOW_CHUNKS: usize = 32;
/// Records of one pack that lie this near each other are read together …
const GAP_BYTES_MAX: u32 = 256 << 10;
/// … up to this much at once.
const RANGE_BYTES_MAX: u32 = 8 << 20;

/// A member as a restore sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberEntry {
    /// Position in the order of paths.
    pub index: u64,
    pub path: MemberPath,
    pub kind: MemberKind,
    pub size: u64,
    pub mode: u32,
    pub mtime_s: i64,
    pub page_size: u32,
    /// Pieces of up to 128 MiB in which the content is read.
    pub segments: u32,
}

/// A run of bytes of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub member: u64,
    pub segment: u32,
    pub offset: u64,
    pub body: FrameBody,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameBody {
    Data(Vec<u8>),
    Fill { byte: u8, length: u64 },
}

/// A sealed backup.
pub struct BackupReader {
    pub(super) lineage: Lineage,
    pub(super) tree: Tree,
    summary: SealedSummary,
    /// Members before each page.
    pub(super) page_starts: Vec<u64>,
    intents: Mutex<Intents>,
    /// Readers that nobody uses at present; as many as ever read at once.
    spare: Mutex<Vec<ChunkReader>>,
}

struct Intents {
    reader: String,
    /// None when the store is read-only.
    written: u32,
    last: Instant,
}

impl BackupReader {
    pub(crate) fn open(lineage: &Lineage, attempt: AttemptId) -> Result<Self> {
        Self::open_as(lineage, attempt, false)
    }

    /// As [`BackupReader::open`]; a forgotten backup may be read as long as its packs are there.
    pub(crate) fn open_as(lineage: &Lineage, attempt: AttemptId, may_be_forgotten: bool) -> Result<Self> {
        let shared = &lineage.shared;
        let reader = shared.random.uuid(shared.clock.now()).simple().to_string();
        let key = layout::reader_intent(lineage.id(), &reader, 0);
        let put =
            marks::put_reader_intent(&*shared.store, &key, attempt, shared.clock.now().as_microsecond());
        let written = match put {
            Ok(()) => 1,
            // Where nobody can write nobody can sweep: there is nothing to be kept from.
            Err(error) if shared.store.is_read_only() => {
                tracing::warn!("Reading without an intent, the store is read-only: {}", error.chain());
                0
            }
            Err(error) => return Err(error),
        };
        let intents = Mutex::new(Intents { reader, written, last: Instant::now() });
        match Self::load(lineage, attempt, may_be_forgotten) {
            Ok((tree, summary)) => {
                let mut page_starts = Vec::with_capacity(tree.root.pages.len());
                let mut members = 0;
                for page in &tree.root.pages {
                    page_starts.push(members);
                    members += u64::from(page.members);
                }
                Ok(Self {
                    lineage: lineage.clone(),
                    tree,
                    summary,
                    page_starts,
                    intents,
                    spare: Mutex::new(Vec::new()),
                })
            }
            Err(error) => {
                let _ = shared.store.delete(&key);
                Err(error)
            }
        }
    }

    fn load(lineage: &Lineage, attempt: AttemptId, may_be_forgotten: bool) -> Result<(Tree, SealedSummary)> {
        let is_forgotten = lineage.is_forgotten(attempt)?;
        if is_forgotten && !may_be_forgotten {
            return Err(Lineage::not_found(attempt));
        }
        match lineage.open_verdict(attempt)? {
            Some((Opened::Sealed { header, root }, object)) => {
                let summary = verdict::summarise(&header, &root, &object, is_forgotten)?;
                Ok((Tree::new(lineage.shared.store.clone(), lineage.keys.clone(), *root), summary))
            }
            Some((Opened::Abandoned, _)) | None => Err(Lineage::not_found(attempt)),
        }
    }

    pub fn summary(&self) -> &SealedSummary {
        &self.summary
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Every member, in the order of paths.
    pub fn members(&self, out: &mut dyn FnMut(MemberEntry) -> Result<()>) -> Result<()> {
        for (number, start) in self.page_starts.iter().enumerate() {
            let page = self.tree.page(number).map_err(|error| self.explained(error))?;
            for (at, entry) in page.entries.iter().enumerate() {
                out(member_entry(start + at as u64, entry))?;
            }
        }
        Ok(())
    }

    /// Members from one on, in the order of paths, until `out` has enough.
    pub fn members_from(
        &self,
        first: u64,
        out: &mut dyn FnMut(MemberEntry) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let page = self.page_starts.partition_point(|start| *start <= first).saturating_sub(1);
        for (number, start) in self.page_starts.iter().enumerate().skip(page) {
            let page = self.tree.page(number).map_err(|error| self.explained(error))?;
            let skipped = usize::try_from(first.saturating_sub(*start)).unwrap_or(usize::MAX);
            for (at, entry) in page.entries.iter().enumerate().skip(skipped) {
                if out(member_entry(start + at as u64, entry))?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The member at a path.
    pub fn find(&self, path: &MemberPath) -> Result<Option<MemberEntry>> {
        let Some((index, entry)) = self.tree.find_at(path)? else { return Ok(None) };
        let before = self.page_starts.get(index.0).copied().unwrap_or_default();
        Ok(Some(member_entry(before + index.1 as u64, &entry)))
    }

    /// Reads segments, given as (member index, segment number), in the order asked for.
    pub fn read_segments(
        &self,
        wanted: &[(u64, u32)],
        out: &mut dyn FnMut(Frame) -> Result<()>,
    ) -> Result<()> {
        let mut reader = self.chunk_reader();
        for (member, segment) in wanted {
            self.read_segment(&mut reader, (*member, *segment), out)
                .map_err(|error| self.explained(error))?;
        }
        self.keep(reader);
        Ok(())
    }

    fn read_segment(
        &self,
        reader: &mut ChunkReader,
        (member, segment): (u64, u32),
        out: &mut dyn FnMut(Frame) -> Result<()>,
    ) -> Result<()> {
        self.renew_intent()?;
        let entry = self.entry(member)?;
        let leaves = self.leaves(&entry, segment)?;
        let base = u64::from(segment) * SEGMENT_SIZE_BYTES;
        read_leaves(reader, &leaves, &mut |offset, body| {
            out(Frame { member, segment, offset: base + offset, body })
        })
    }

    /// Many calls ask for one small file each: what a reader has set up serves all of them.
    pub(super) fn chunk_reader(&self) -> ChunkReader {
        let spare = self.spare().pop();
        spare
            .unwrap_or_else(|| ChunkReader::new(self.lineage.shared.store.clone(), self.lineage.keys.clone()))
    }

    pub(super) fn keep(&self, reader: ChunkReader) {
        self.spare().push(reader);
    }

    fn spare(&self) -> MutexGuard<'_, Vec<ChunkReader>> {
        self.spare.lock().expect("no thread panics while it holds the spare readers")
    }

    pub(super) fn entry(&self, member: u64) -> Result<Entry> {
        let unknown = || Error::parameter(Field::Other, "segments: names a member that the backup lacks");
        let number = self.page_starts.partition_point(|start| *start <= member).checked_sub(1);
        let number = number.ok_or_else(unknown)?;
        let page = self.tree.page(number)?;
        page.entries.get((member - self.page_starts[number]) as usize).cloned().ok_or_else(unknown)
    }

    pub(crate) fn leaves(&self, entry: &Entry, segment: u32) -> Result<Vec<Leaf>> {
        let unknown = || Error::parameter(Field::Other, "segments: names a segment that the member lacks");
        match &entry.content {
            Content::Inline(leaf) if segment == 0 => Ok(vec![leaf.clone()]),
            Content::Segments(refs) => {
                let node = refs.get(segment as usize).ok_or_else(unknown)?;
                let found = self.tree.segment(node)?;
                if found.index != segment {
                    return Err(crate::frame::damage("segment", "it belongs to another place of its member"));
                }
                Ok(found.leaves)
            }
            Content::Inline(_) | Content::Directory | Content::Empty => Err(unknown()),
        }
    }

    /// Adds an intent every ten minutes, so that no listing can miss all of them.
    pub(super) fn renew_intent(&self) -> Result<()> {
        let mut intents = self.intents.lock().expect("no thread panics while it renews");
        if intents.written == 0 || intents.last.elapsed() < RENEW_AFTER {
            return Ok(());
        }
        let shared = &self.lineage.shared;
        let first = layout::reader_intent(self.lineage.id(), &intents.reader, 0);
        if shared.store.head(&first)?.is_none() {
            return Err(lost());
        }
        let key = layout::reader_intent(self.lineage.id(), &intents.reader, intents.written);
        marks::put_reader_intent(
            &*shared.store,
            &key,
            self.summary.attempt,
            shared.clock.now().as_microsecond(),
        )?;
        intents.written += 1;
        intents.last = Instant::now();
        Ok(())
    }
}

impl BackupReader {
    /// What is missing after the sweep has taken the intent away is no rot: the reader came too late.
    pub(super) fn explained(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::Damage {
            return error;
        }
        let first = {
            let intents = self.intents.lock().expect("no thread panics while it renews");
            (intents.written > 0).then(|| layout::reader_intent(self.lineage.id(), &intents.reader, 0))
        };
        let is_lost = first.is_some_and(|key| matches!(self.lineage.shared.store.head(&key), Ok(None)));
        if is_lost { lost().with_source(error) } else { error }
    }
}

fn lost() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "Reading took so long that the sweep no longer knew of it; what was read so far is right.",
    )
    .with_hint("run the same command again; it goes on where it stopped")
}

impl Drop for BackupReader {
    fn drop(&mut self) {
        let intents = self.intents.get_mut().expect("no thread panics while it renews");
        for number in 0..intents.written {
            let key = layout::reader_intent(self.lineage.id(), &intents.reader, number);
            // Left behind, it only keeps packs from the sweep for an hour.
            let _ = self.lineage.shared.store.delete(&key);
        }
    }
}

pub(crate) fn member_entry(index: u64, entry: &Entry) -> MemberEntry {
    MemberEntry {
        index,
        path: entry.path.clone(),
        kind: entry.kind(),
        size: entry.size,
        mode: entry.mode,
        mtime_s: entry.mtime_s,
        page_size: entry.page_size,
        segments: entry.segment_count(),
    }
}

/// Decodes leaves in order. Plans each window's reads at once: the records grouped by pack, sorted
/// by offset, neighbours merged. Runs of fill become one frame.
pub(crate) fn read_leaves(
    reader: &mut ChunkReader,
    leaves: &[Leaf],
    out: &mut dyn FnMut(u64, FrameBody) -> Result<()>,
) -> Result<()> {
    let mut offset = 0;
    let mut fill: Option<(u64, u8, u64)> = None;
    let mut ahead = ReadAhead::new();
    for window in leaves.chunks(WINDOW_CHUNKS) {
        plan_window(reader, window, &mut ahead)?;
        for leaf in window {
            let length = u64::from(leaf.plain_length);
            match (&leaf.body, &mut fill) {
                (LeafBody::Fill(byte), Some((_, run_byte, run))) if run_byte == byte => *run += length,
                (body, _) => {
                    if let Some((start, byte, length)) = fill.take() {
                        out(start, FrameBody::Fill { byte, length })?;
                    }
                    if let LeafBody::Fill(byte) = body {
                        fill = Some((offset, *byte, length));
                    } else {
                        out(offset, FrameBody::Data(reader.chunk(leaf, &mut ahead)?))?;
                    }
                }
            }
            offset += length;
        }
    }
    match fill {
        Some((start, byte, length)) => out(start, FrameBody::Fill { byte, length }),
        None => Ok(()),
    }
}

pub(super) fn plan_window(reader: &mut ChunkReader, window: &[Leaf], ahead: &mut ReadAhead) -> Result<()> {
    let mut wanted: Vec<Location> = window.iter().flat_map(Leaf::chain).copied().collect();
    wanted.sort_by_key(|at| (at.pack, at.generation, at.offset));
    wanted.dedup();
    ahead.clear();
    let near = |a: &Location, b: &Location| {
        (a.pack, a.generation) == (b.pack, b.generation)
            && b.offset.saturating_sub(a.offset.saturating_add(a.length)) < GAP_BYTES_MAX
    };
    for neighbours in wanted.chunk_by(near) {
        let mut start = 0;
        for at in 1..=neighbours.len() {
            let too_long = at < neighbours.len()
                && neighbours[at].offset + neighbours[at].length - neighbours[start].offset > RANGE_BYTES_MAX;
            if too_long || at == neighbours.len() {
                reader.read_run(&neighbours[start..at], ahead)?;
                start = at;
            }
        }
    }
    Ok(())
}
