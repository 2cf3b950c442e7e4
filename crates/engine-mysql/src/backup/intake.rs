//! What a clone brings becomes members: files as they stream, pages over them, the log behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use strongroom_core::engine::BackupSink;
use strongroom_core::limits;
use strongroom_core::member::{Dedupe, Member, MemberKind, MemberPath};
use strongroom_core::overwrite::{ContentJudge, OverwriteWriter};
use strongroom_core::progress::Progress;

use super::names::{self, Placement};
use super::{encrypted, space};
use crate::clone::{DataDescriptor, FileDescriptor, Phase, Receiver, StateDescriptor};
use crate::facts::{KeyringFact, OutsideFile, PageCompressedFile, TransferFacts};
use crate::fault::{Fault, Result};
use crate::keyring::{FileKey, Keyring};
use crate::page::{PageFindings, PageShape, TablespaceJudge};

/// Files of one server. Each takes some hundred bytes of memory.
const FILES_MAX: usize = 1_000_000;
const REDO_FILES_MAX: usize = 10_000;
/// A phase may bring so much more than its files are long: they grow meanwhile.
const EXCESS_BYTES: u64 = 256 << 20;
/// A gap in a file's first reading that is filled by writing zeroes instead of being left for later.
const GAP_BYTES_MAX: u64 = 64 << 10;

const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

/// What is known beforehand.
pub(crate) struct Shape {
    pub(crate) system_files: Vec<Vec<u8>>,
    /// When the backup began, by the server's clock: its files tell no time.
    pub(crate) began_s: i64,
    /// Of the server's InnoDB.
    pub(crate) page_size_bytes: u32,
    pub(crate) findings: Arc<PageFindings>,
    /// For the keys of encrypted files.
    pub(crate) keyring: Keyring,
}

impl Shape {
    /// Who looks at the pages of this file.
    fn judge(&self, state: &FileState) -> Option<Arc<dyn ContentJudge>> {
        if state.is_redo || !state.is_tablespace {
            return None;
        }
        let shape =
            PageShape::of(self.page_size_bytes, state.space_id, state.space_flags, state.is_page_compressed)?;
        Some(Arc::new(TablespaceJudge::new(shape, Arc::clone(&self.findings))))
    }

    /// Opens a file of the sink, whose pages are looked at.
    fn open<'s>(&self, sink: &'s dyn BackupSink, state: &FileState) -> Result<Box<dyn OverwriteWriter + 's>> {
        Ok(sink.overwritable(state.member(self.began_s), self.judge(state))?)
    }
}

/// One file on its way into the sink.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and most of them never change")]
struct FileState {
    path: MemberPath,
    /// As the donor calls it.
    source_name: Vec<u8>,
    space_id: u32,
    space_flags: u32,
    block_bytes: u32,
    chunks: (u32, u32),
    is_tablespace: bool,
    is_page_compressed: bool,
    is_encrypted: bool,
    /// Its key was sent, and is closed.
    has_key: bool,
    is_outside: bool,
    is_shared: bool,
    is_deleted: bool,
    is_open: bool,
    is_redo: bool,
    /// From its descriptor.
    key: Option<FileKey>,
    /// The largest size that was told.
    size: u64,
    /// Up to here it was read in order.
    read: u64,
    /// Behind this nothing was overwritten.
    overwritten: u64,
}

impl FileState {
    fn of(file: &FileDescriptor<'_>, placement: Placement) -> Self {
        Self {
            path: placement.path,
            source_name: file.name.to_vec(),
            space_id: file.space_id,
            space_flags: file.space_flags,
            block_bytes: file.block_bytes,
            chunks: (file.first_chunk, file.last_chunk),
            is_tablespace: file.is_tablespace(),
            is_page_compressed: file.is_page_compressed(),
            is_encrypted: file.is_encrypted(),
            has_key: false,
            is_outside: placement.is_outside,
            is_shared: placement.is_shared,
            is_deleted: false,
            is_open: false,
            is_redo: false,
            key: file.key,
            size: file.size,
            read: 0,
            overwritten: 0,
        }
    }

    fn is_undo(&self) -> bool {
        let name = self.path.below_root();
        name.starts_with(b"undo_") || name.ends_with(b".ibu")
    }

    fn member(&self, mtime_s: i64) -> Member {
        let is_paged = self.is_tablespace && !self.is_redo;
        Member {
            path: self.path.clone(),
            kind: MemberKind::File,
            size: None,
            mode: FILE_MODE,
            mtime_s,
            page_size: if is_paged { space::page_bytes(self.space_flags) } else { 0 },
            dedupe: if self.is_redo { Dedupe::Never } else { Dedupe::Parent },
        }
    }
}

/// Which table of files an index belongs to: the log's files are counted by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    is_redo: bool,
    index: u32,
}

/// Takes a clone apart into members of the sink.
pub(crate) struct Intake<'s> {
    sink: &'s dyn BackupSink,
    progress: &'s Progress,
    shape: Shape,
    files: BTreeMap<u32, FileState>,
    redo: BTreeMap<u32, FileState>,
    /// Who has which name now.
    names: BTreeMap<MemberPath, u32>,
    /// The file whose first reading goes on.
    writer: Option<(Key, Box<dyn OverwriteWriter + 's>)>,
    /// What became of files since the last phase began, in the donor's order of files.
    renamed: BTreeMap<u32, Placement>,
    born: BTreeMap<u32, FileState>,
    /// Bytes that this phase may still bring.
    allowance: u64,
    pub(crate) counts: TransferFacts,
}

impl<'s> Intake<'s> {
    pub(crate) fn new(sink: &'s dyn BackupSink, progress: &'s Progress, shape: Shape) -> Self {
        Self {
            sink,
            progress,
            shape,
            files: BTreeMap::new(),
            redo: BTreeMap::new(),
            names: BTreeMap::new(),
            writer: None,
            renamed: BTreeMap::new(),
            born: BTreeMap::new(),
            allowance: 0,
            counts: TransferFacts::default(),
        }
    }

    fn file_at(&mut self, key: Key) -> Result<&mut FileState> {
        let table = if key.is_redo { &mut self.redo } else { &mut self.files };
        table.get_mut(&key.index).ok_or_else(|| never_told(key.index))
    }

    /// A file of the list that the first phase begins with.
    fn list(&mut self, file: &FileDescriptor<'_>) -> Result<()> {
        let placement = names::place(file, &self.shape.system_files)?;
        let mut state = FileState::of(file, placement);
        self.take_name(&mut state, file.index)?;
        self.files.insert(file.index, state);
        self.counts.files += 1;
        self.allowance = self.allowance.saturating_add(file.size.saturating_mul(2));
        Ok(())
    }

    /// Names are those of one file at a time.
    fn take_name(&mut self, state: &mut FileState, index: u32) -> Result<()> {
        if self.names.contains_key(&state.path) && state.is_outside && state.is_shared {
            let placement = Placement { path: state.path.clone(), is_outside: true, is_shared: true };
            state.path = names::beside(&placement, state.space_id)?;
        }
        match self.names.insert(state.path.clone(), index) {
            None => Ok(()),
            Some(_) => Err(Fault::hostile(format!("two files called {}", names::shown(&state.path)))),
        }
    }

    /// Something became of a file that is known.
    fn change(&mut self, file: &FileDescriptor<'_>) -> Result<()> {
        if file.is_deleted() {
            return self.delete(file.index);
        }
        let placement = names::place(file, &self.shape.system_files)?;
        let state = self.file_at(Key { is_redo: false, index: file.index })?;
        state.space_flags = file.space_flags;
        state.is_page_compressed |= file.is_page_compressed();
        state.is_encrypted = file.is_encrypted();
        if file.block_bytes > 0 {
            state.block_bytes = file.block_bytes;
        }
        state.size = state.size.max(file.size);
        if state.source_name != file.name || file.is_renamed() {
            state.source_name = file.name.to_vec();
            self.renamed.insert(file.index, placement);
        }
        Ok(())
    }

    fn delete(&mut self, index: u32) -> Result<()> {
        self.renamed.remove(&index);
        self.born.remove(&index);
        let key = Key { is_redo: false, index };
        let state = self.file_at(key)?;
        if std::mem::replace(&mut state.is_deleted, true) {
            return Ok(());
        }
        let (path, is_open) = (state.path.clone(), state.is_open);
        self.names.remove(&path);
        if is_open {
            self.sink.discard(&path)?;
        }
        if self.writer.as_ref().is_some_and(|(open, _)| *open == key) {
            self.writer = None;
        }
        Ok(())
    }

    /// Files that were born, or renamed, between two phases get their names: the order in which they
    /// were told says nothing, and names go round.
    fn settle_names(&mut self) -> Result<()> {
        let renamed = std::mem::take(&mut self.renamed);
        for index in renamed.keys() {
            let between = names::between(*index)?;
            let state = self.file_at(Key { is_redo: false, index: *index })?;
            let old = std::mem::replace(&mut state.path, between.clone());
            self.names.remove(&old);
            self.sink.rename(&old, &between)?;
        }
        for (index, placement) in renamed {
            let Some(mut state) = self.files.remove(&index) else { continue };
            let between = std::mem::replace(&mut state.path, placement.path);
            (state.is_outside, state.is_shared) = (placement.is_outside, placement.is_shared);
            self.take_name(&mut state, index)?;
            self.sink.rename(&between, &state.path)?;
            self.files.insert(index, state);
        }
        for (index, mut state) in std::mem::take(&mut self.born) {
            self.take_name(&mut state, index)?;
            self.make(&mut state)?;
            self.counts.files += 1;
            self.files.insert(index, state);
        }
        Ok(())
    }

    /// A file that was not there when the clone began: its first page is known, pages and log bring the
    /// rest.
    fn make(&self, state: &mut FileState) -> Result<()> {
        let mut writer = self.shape.open(self.sink, state)?;
        let key = state.key.as_ref();
        let page = encrypted::first_page(state.space_id, state.space_flags, key, &self.shape.keyring);
        state.has_key = key.is_some();
        writer.write(&page)?;
        writer.stored()?;
        state.is_open = true;
        state.read = page.len() as u64;
        state.size = state.size.max(space::new_file_bytes(state.space_flags, state.is_undo()));
        Ok(())
    }

    fn list_redo(&mut self, file: &FileDescriptor<'_>) -> Result<()> {
        if let Some(known) = self.redo.get_mut(&file.index) {
            known.size = known.size.max(file.size);
            known.is_encrypted |= file.is_encrypted();
            return Ok(());
        }
        let placement = Placement { path: names::redo(file.index)?, is_outside: false, is_shared: false };
        let state = FileState { is_redo: true, ..FileState::of(file, placement) };
        self.redo.insert(file.index, state);
        self.allowance = self.allowance.saturating_add(file.size.saturating_mul(2));
        Ok(())
    }

    fn check_sizes(&self, file: &FileDescriptor<'_>) -> Result<()> {
        let is_new = !self.files.contains_key(&file.index);
        if file.size > limits::MEMBER_SIZE_BYTES_MAX {
            return Err(Fault::hostile(format!("a file that says it has {} bytes", file.size)));
        }
        if is_new && (self.files.len() + self.born.len() >= FILES_MAX || self.redo.len() >= REDO_FILES_MAX) {
            return Err(Fault::hostile("files without an end"));
        }
        Ok(())
    }

    /// The first bytes of a file, or those behind the ones before.
    fn read_on(&mut self, key: Key, offset: u64, bytes: &[u8]) -> Result<()> {
        if self.writer.as_ref().is_none_or(|(open, _)| *open != key) {
            self.end_reading()?;
            let table = if key.is_redo { &mut self.redo } else { &mut self.files };
            let state = table.get_mut(&key.index).ok_or_else(|| never_told(key.index))?;
            if state.is_open {
                return self.overwrite(key, offset, bytes);
            }
            let writer = self.shape.open(self.sink, state)?;
            state.is_open = true;
            self.writer = Some((key, writer));
        }
        let state = self.file_at(key)?;
        let gap = offset.checked_sub(state.read).filter(|gap| *gap <= GAP_BYTES_MAX);
        let Some(gap) = gap.filter(|_| state.overwritten <= state.read) else {
            return self.overwrite(key, offset, bytes);
        };
        state.read = offset + bytes.len() as u64;
        if let Some((_, writer)) = &mut self.writer {
            if gap > 0 {
                writer.write(&vec![0; usize::try_from(gap).unwrap_or(0)])?;
            }
            writer.write(bytes)?;
        }
        Ok(())
    }

    /// No key is stored as it came, whatever was said of its file.
    fn close(&mut self, key: Key, offset: u64, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        let table = if key.is_redo { &mut self.redo } else { &mut self.files };
        let state = table.get_mut(&key.index).ok_or_else(|| never_told(key.index))?;
        let closed = match offset {
            0 if state.is_redo => encrypted::close_log(bytes, &self.shape.keyring),
            0 if state.is_tablespace => encrypted::close(bytes, state.space_flags, &self.shape.keyring),
            _ => None,
        };
        // What came last is what a server will read.
        if offset == 0 && !bytes.is_empty() {
            state.has_key = closed.is_some();
        }
        Ok(closed)
    }

    fn overwrite(&mut self, key: Key, offset: u64, bytes: &[u8]) -> Result<()> {
        let sink = self.sink;
        let state = self.file_at(key)?;
        state.overwritten = state.overwritten.max(offset + bytes.len() as u64);
        Ok(sink.overwrite(&state.path, offset, bytes)?)
    }

    fn end_reading(&mut self) -> Result<()> {
        match self.writer.take() {
            Some((_, writer)) => Ok(writer.stored()?),
            None => Ok(()),
        }
    }

    /// Files of which nothing came are files too.
    fn open_the_rest(&mut self, is_redo: bool) -> Result<()> {
        self.end_reading()?;
        let table = if is_redo { &mut self.redo } else { &mut self.files };
        for state in table.values_mut().filter(|state| !state.is_open && !state.is_deleted) {
            self.shape.open(self.sink, state)?.stored()?;
            state.is_open = true;
        }
        Ok(())
    }

    /// Each encrypted file has a key of its own, the log has one for all of its files.
    fn check_keys(&self) -> Result<()> {
        let lacking = self.living().filter(|state| state.is_encrypted && !state.has_key);
        let mut lacking: Vec<String> = lacking.map(|state| names::shown(&state.path)).collect();
        let is_log_encrypted = self.redo.values().any(|state| state.is_encrypted);
        if is_log_encrypted && !self.redo.values().any(|state| state.has_key) {
            lacking.push("the redo log".to_owned());
        }
        if lacking.is_empty() { Ok(()) } else { Err(encrypted::no_key(&lacking)) }
    }

    /// After the last byte: files get their lengths, folders are told, the sink puts everything together.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.settle_names()?;
        self.check_keys()?;
        let (sink, began_s) = (self.sink, self.shape.began_s);
        let mut folders = BTreeSet::from([b"data".to_vec()]);
        for state in self.files.values().chain(self.redo.values()).filter(|state| !state.is_deleted) {
            sink.extend(&state.path, final_size(state))?;
            let path = state.path.as_bytes();
            let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            folders.insert(path[..end].to_vec());
        }
        for folder in folders {
            sink.open(Member {
                path: MemberPath::parse(&folder)?,
                kind: MemberKind::Directory,
                size: None,
                mode: FOLDER_MODE,
                mtime_s: began_s,
                page_size: 0,
                dedupe: Dedupe::Parent,
            })?;
        }
        Ok(sink.settle()?)
    }

    fn living(&self) -> impl Iterator<Item = &FileState> {
        self.files.values().filter(|state| !state.is_deleted)
    }

    /// What opens the encrypted files, and how many there are.
    pub(crate) fn keyring(&self) -> Option<KeyringFact> {
        let all = self.living().chain(self.redo.values());
        let files = all.filter(|state| state.is_encrypted).count() as u64;
        (files > 0).then(|| KeyringFact { files, keyring: self.shape.keyring.clone() })
    }

    pub(crate) fn outside_files(&self) -> Vec<OutsideFile> {
        self.living()
            .filter(|state| state.is_outside)
            .map(|state| OutsideFile {
                name: String::from_utf8_lossy(state.path.below_root()).into_owned(),
                source_path: String::from_utf8_lossy(&state.source_name).into_owned(),
                space_id: state.space_id,
                shared: state.is_shared,
            })
            .collect()
    }

    pub(crate) fn page_compressed_files(&self) -> Vec<PageCompressedFile> {
        self.living()
            .filter(|state| state.is_page_compressed)
            .map(|state| PageCompressedFile {
                name: String::from_utf8_lossy(state.path.below_root()).into_owned(),
                block_bytes: state.block_bytes,
            })
            .collect()
    }
}

fn never_told(index: u32) -> Fault {
    Fault::hostile(format!("something of file {index} that was never told"))
}

/// Tablespaces that are no small ones any more grow by extents; the log's files have one length.
fn final_size(state: &FileState) -> u64 {
    let size = state.size.max(state.read).max(state.overwritten);
    let extent = space::extent_bytes(state.space_flags);
    if state.is_tablespace && !state.is_redo && size > extent { size.next_multiple_of(extent) } else { size }
}

impl Receiver for Intake<'_> {
    fn begin(&mut self, state: &StateDescriptor) -> Result<()> {
        self.settle_names()?;
        self.progress.set_phase(match state.phase {
            Phase::Page => "pages",
            Phase::Redo => "log",
            Phase::Init | Phase::File | Phase::Done => "copying",
        });
        match state.phase {
            Phase::File => self.progress.set_total(state.transfer_bytes),
            Phase::Page | Phase::Redo => self.progress.add_total(state.transfer_bytes),
            Phase::Init | Phase::Done => {}
        }
        let lengths = self.living().fold(0_u64, |sum, file| sum.saturating_add(file.size));
        self.allowance = if state.phase == Phase::Redo { 0 } else { lengths.saturating_mul(2) };
        self.allowance = self.allowance.saturating_add(EXCESS_BYTES);
        Ok(())
    }

    fn file(&mut self, during: Phase, file: &FileDescriptor<'_>) -> Result<()> {
        self.check_sizes(file)?;
        if during == Phase::Redo {
            return self.list_redo(file);
        }
        if self.files.contains_key(&file.index) {
            return self.change(file);
        }
        if file.is_deleted() {
            // Born and gone between two phases: nobody was told of it.
            self.born.remove(&file.index);
            return Ok(());
        }
        if during == Phase::File && file.phase == during {
            return self.list(file);
        }
        let state = FileState::of(file, names::place(file, &self.shape.system_files)?);
        self.born.insert(file.index, state);
        // Between two phases names are settled when the next one begins.
        if file.phase == during { self.settle_names() } else { Ok(()) }
    }

    fn data(&mut self, data: &DataDescriptor, bytes: &[u8]) -> Result<()> {
        let key = Key { is_redo: data.phase == Phase::Redo, index: data.file };
        let (length, end) = (bytes.len() as u64, data.offset.checked_add(bytes.len() as u64));
        let end = end.filter(|end| (*end).max(data.file_size) <= limits::MEMBER_SIZE_BYTES_MAX);
        let end = end.ok_or_else(|| Fault::hostile("data behind the end of every file"))?;
        let state = self.file_at(key)?;
        // A page may come before the first one, which tells how far its file has grown.
        let grown = if data.phase == Phase::Page { end } else { 0 };
        state.size = state.size.max(data.file_size).max(grown);
        let (first, last) = state.chunks;
        let is_elsewhere = data.phase == Phase::File && last > 0 && !(first..=last).contains(&data.chunk);
        if end > state.size || is_elsewhere {
            return Err(Fault::hostile(format!(
                "data of piece {} up to {end} in a file of {} bytes and the pieces {first} to {last}",
                data.chunk, state.size
            )));
        }
        if state.is_deleted {
            return Ok(());
        }
        self.allowance =
            self.allowance.checked_sub(length).ok_or_else(|| Fault::hostile("data without an end"))?;
        self.progress.add_done(length);
        let closed = self.close(key, data.offset, bytes)?;
        let bytes = closed.as_deref().unwrap_or(bytes);
        match data.phase {
            Phase::Page => {
                self.counts.pages += 1;
                self.overwrite(key, data.offset, bytes)
            }
            Phase::Redo => {
                self.counts.redo_bytes += length;
                self.read_on(key, data.offset, bytes)
            }
            Phase::Init | Phase::File | Phase::Done => {
                self.counts.file_bytes += length;
                self.read_on(key, data.offset, bytes)
            }
        }
    }

    fn end(&mut self, phase: Phase) -> Result<()> {
        match phase {
            Phase::File => self.open_the_rest(false),
            Phase::Redo => self.open_the_rest(true),
            Phase::Init | Phase::Page | Phase::Done => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
