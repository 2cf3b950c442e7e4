//! The order and the length of everything in an archive, without its content.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;

use strongroom_core::Result;
use strongroom_core::backup::Backup;
use strongroom_core::engine::{Engine, RestoredTree as _, each_once};
use strongroom_core::member::{MemberKind, MemberPath};
use strongroom_repository::{BackupReader, ChunkShape, MemberEntry, Shape};

use super::tree::{ArchiveTree, Own};
use super::{NOTES, TABLESPACES, tar, zstd};

/// Marks are this far apart at first, counted in chunks; each member counts for one as well …
const MARK_CHUNKS: u64 = 4096;
/// … and no more of them are kept: then every second one goes.
const MARKS_MAX: usize = 8192;

/// Where a part begins: a member's header and first segment, or a later segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) at: u64,
    pub(super) member: u64,
    pub(super) segment: u32,
}

/// Everything about an archive that must be known to send any range of it. Its size is bounded,
/// whatever the backup's is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// What is no member, as frames.
    pub(super) own: Vec<u8>,
    pub(super) left_out: BTreeSet<String>,
    pub(super) owner: &'static str,
    pub(super) marks: Vec<Mark>,
    /// Where the members end.
    pub(super) members_end: u64,
    /// Tells one archive from every other, whichever release made it.
    digest: String,
}

impl Layout {
    /// Reads the whole manifest and the few files that the engine looks into. Blocks.
    pub(crate) fn of(reader: &BackupReader, backup: &Backup, engine: &dyn Engine) -> Result<Self> {
        let owner = engine.usual_account();
        let (own, left_out) = own_part(reader, backup, engine)?;
        let mut layout = Self {
            members_end: own.len() as u64,
            own,
            left_out,
            owner,
            marks: Vec::new(),
            digest: String::new(),
        };
        let mut marks = Marks { list: Vec::new(), chunks: MARK_CHUNKS, apart: MARK_CHUNKS };
        let mut at = layout.members_end;
        reader.members(&mut |member| {
            let Some(name) = layout.name(&member) else { return Ok(()) };
            for segment in 0..member.segments.max(1) {
                let shapes = shapes(reader, &member, segment)?;
                marks.note(Mark { at, member: member.index, segment }, shapes.len() as u64);
                at += part_bytes(&member, &name, segment, &shapes);
            }
            Ok(())
        })?;
        (layout.members_end, layout.marks) = (at, marks.list);
        layout.digest = layout.digest_of(&reader.summary().manifest_digest);
        Ok(layout)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.members_end + zstd::run_bytes(tar::END_BYTES)
    }

    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    fn digest_of(&self, manifest: &str) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("strongroom v1 archive");
        hasher.update(manifest.as_bytes()).update(&self.bytes().to_le_bytes()).update(&self.own);
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// The last mark at or before a position.
    pub(super) fn mark_before(&self, at: u64) -> Option<Mark> {
        let after = self.marks.partition_point(|mark| mark.at <= at);
        self.marks.get(after.saturating_sub(1)).copied()
    }

    /// The name of a member in the archive, if it is in it. What is written for people and engines
    /// (`meta`) is not, nor what a restore needs for itself.
    pub(super) fn name(&self, member: &MemberEntry) -> Option<Vec<u8>> {
        let mut name = name_of(&member.path)?.into_owned();
        let is_left_out = std::str::from_utf8(&name).is_ok_and(|name| self.left_out.contains(name));
        if is_left_out || name == strongroom_restore::JOURNAL_NAME.as_bytes() {
            return None;
        }
        if member.kind == MemberKind::Directory {
            name.push(b'/');
        }
        Some(name)
    }
}

fn name_of(path: &MemberPath) -> Option<Cow<'_, [u8]>> {
    let below = path.below_root();
    let inside = |folder: &str| Some(Cow::Owned([folder.as_bytes(), b"/", below].concat()));
    match path.root() {
        _ if below.is_empty() => None,
        b"data" => Some(Cow::Borrowed(below)),
        b"wal" => inside("pg_wal"),
        b"tablespace" => inside(TABLESPACES),
        _ => None,
    }
}

/// The shapes of a segment; none where a member has no content.
pub(super) fn shapes(reader: &BackupReader, member: &MemberEntry, segment: u32) -> Result<Vec<ChunkShape>> {
    if member.segments == 0 { Ok(Vec::new()) } else { reader.chunk_shapes(member.index, segment) }
}

/// Bytes of a chunk's frame.
pub(super) fn chunk_bytes(chunk: ChunkShape) -> u64 {
    let length = chunk.plain_length as usize;
    match chunk.shape {
        Shape::Fill(_) => zstd::run_bytes(length),
        Shape::Frame(frame) => zstd::checked_bytes(frame),
        Shape::Plain => zstd::plain_bytes(length),
    }
}

/// Bytes of the header's frame, which the first part of a member begins with.
pub(super) fn head_bytes(name: &[u8], segment: u32) -> u64 {
    if segment == 0 { zstd::plain_bytes(tar::header_bytes(name.len())) } else { 0 }
}

/// Zeroes behind a member's content, which its last part ends with.
pub(super) fn padding(member: &MemberEntry, segment: u32) -> usize {
    let is_last = segment + 1 >= member.segments;
    if is_last && member.kind == MemberKind::File { tar::padding(member.size) } else { 0 }
}

pub(super) fn part_bytes(member: &MemberEntry, name: &[u8], segment: u32, shapes: &[ChunkShape]) -> u64 {
    let padding = padding(member, segment);
    let tail = if padding == 0 { 0 } else { zstd::run_bytes(padding) };
    head_bytes(name, segment) + shapes.iter().map(|chunk| chunk_bytes(*chunk)).sum::<u64>() + tail
}

struct Marks {
    list: Vec<Mark>,
    /// Since the last mark.
    chunks: u64,
    apart: u64,
}

impl Marks {
    fn note(&mut self, mark: Mark, chunks: u64) {
        if self.chunks >= self.apart {
            if self.list.len() == MARKS_MAX {
                let mut number = 0_usize;
                self.list.retain(|_| {
                    number += 1;
                    number % 2 == 1
                });
                self.apart *= 2;
            }
            self.list.push(mark);
            self.chunks = 0;
        }
        self.chunks += chunks + 1;
    }
}

/// What is no member, as frames: the data directory itself first, directories before what is in them.
fn own_part(
    reader: &BackupReader,
    backup: &Backup,
    engine: &dyn Engine,
) -> Result<(Vec<u8>, BTreeSet<String>)> {
    let facts = &reader.summary().facts;
    let mut tree = ArchiveTree::new(reader);
    let spaces: BTreeMap<String, PathBuf> = engine
        .tablespaces(facts)?
        .into_iter()
        .map(|space| (space.id.clone(), PathBuf::from(TABLESPACES).join(space.id)))
        .collect();
    let notes = engine.finish_archive(facts, &spaces, &mut tree)?;
    if !spaces.is_empty() {
        tree.make_directory(TABLESPACES, tree.mode)?;
    }
    for id in spaces.keys() {
        tree.make_directory(&format!("{TABLESPACES}/{id}"), tree.mode)?;
    }
    tree.replace(NOTES, 0o600, notes_text(backup, &notes).as_bytes())?;
    let mut out = Vec::new();
    let itself = [(".".to_owned(), Own { mode: tree.mode, content: None })];
    for (name, own) in itself.into_iter().chain(tree.own) {
        let mtime_s = backup.created.as_second();
        push_own(&mut out, &name, &own, mtime_s, engine.usual_account());
    }
    Ok((out, tree.left_out))
}

fn push_own(out: &mut Vec<u8>, name: &str, own: &Own, mtime_s: i64, owner: &'static str) {
    let content = own.content.as_deref().unwrap_or_default();
    let name = if own.content.is_some() { name.to_owned() } else { format!("{name}/") };
    let size = content.len() as u64;
    let entry = tar::Entry { name: name.as_bytes(), size, mode: own.mode, mtime_s, owner };
    let mut bytes = entry.write();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + tar::padding(size), 0);
    bytes.chunks(zstd::BLOCK_BYTES_MAX).for_each(|part| out.extend_from_slice(&zstd::plain(part)));
}

fn notes_text(backup: &Backup, notes: &[String]) -> String {
    let mut text = format!(
        "Backup {} ({}), {} {}, asked for at {}.\n\
         The folder that this file is in is the data directory; it must belong to the account that the server runs as.\n",
        backup.name.as_str(),
        backup.id,
        backup.engine,
        backup.engine_version,
        backup.created
    );
    for note in each_once(notes, &backup.warnings) {
        let _ = write!(text, "\n- {note}\n");
    }
    text
}

/// Asks for members until a range is complete.
pub(super) type More = ControlFlow<()>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_stay_few_and_evenly_apart() {
        let mut marks = Marks { list: Vec::new(), chunks: MARK_CHUNKS, apart: MARK_CHUNKS };
        let members = 5 * MARK_CHUNKS * MARKS_MAX as u64;
        for member in (0..members).step_by(1024) {
            marks.note(Mark { at: member, member, segment: 0 }, 1023);
        }
        assert!((MARKS_MAX / 2..=MARKS_MAX).contains(&marks.list.len()), "{}", marks.list.len());
        assert_eq!(marks.list[0].member, 0, "a range may begin with the first member");
        let gaps = marks.list.windows(2).map(|pair| pair[1].member - pair[0].member);
        assert_eq!(gaps.max(), Some(8 * MARK_CHUNKS));
    }
}
