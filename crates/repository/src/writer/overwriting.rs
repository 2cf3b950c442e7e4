//! Files that are overwritten while they are read (repository.md section 4.5 of the design): which
//! there are, what they are called by now, how long they are, and what came over them.
//!
//! What is kept in memory for a file is its name and a few dozen bytes.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use strongroom_core::member::{Dedupe, Member, MemberKind, MemberPath};
use strongroom_core::overwrite::ContentJudge;
use strongroom_core::time::Randomness;
use strongroom_core::{Error, ErrorKind, Result, limits};

use super::leaves::HeldLeaves;
use super::page_spool::PageSpool;
use super::work_file::WorkFile;

/// What a file is beside its bytes and its name.
pub(super) struct HeldFile {
    /// The name it was begun with, where it has another one by now.
    pub(super) begun_as: Option<Box<MemberPath>>,
    pub(super) mode: u32,
    pub(super) mtime_s: i64,
    pub(super) page_size: u32,
    pub(super) dedupe: Dedupe,
    pub(super) size: u64,
    pub(super) judge: Option<Arc<dyn ContentJudge>>,
    is_stored: bool,
}

/// Everything that is needed to put the files together.
pub(super) struct Held {
    /// In the order in which they were begun.
    pub(super) files: Vec<(u32, MemberPath, HeldFile)>,
    pub(super) pages: PageSpool,
}

#[derive(Default)]
enum State {
    /// No such file was begun.
    #[default]
    Unused,
    Open(Box<Open>),
    Settled,
}

struct Open {
    names: HashMap<MemberPath, u32>,
    files: HashMap<u32, HeldFile>,
    pages: PageSpool,
}

/// The overwritable files of one attempt.
pub(super) struct Overwriting {
    scratch: PathBuf,
    random: Arc<dyn Randomness>,
    state: Mutex<State>,
    /// Filled by the packer.
    leaves: Mutex<Option<HeldLeaves>>,
}

impl Overwriting {
    pub(super) fn new(scratch: PathBuf, random: Arc<dyn Randomness>) -> Self {
        Self { scratch, random, state: Mutex::default(), leaves: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it changes the files")
    }

    fn leaves(&self) -> MutexGuard<'_, Option<HeldLeaves>> {
        self.leaves.lock().expect("no thread panics while it changes the leaves")
    }

    /// Notes a file that begins under this number.
    pub(super) fn begin(
        &self,
        member: &Member,
        number: u32,
        judge: Option<Arc<dyn ContentJudge>>,
    ) -> Result<()> {
        if member.kind != MemberKind::File {
            return Err(Error::internal("only files are overwritten"));
        }
        let mut state = self.state();
        if matches!(*state, State::Unused) {
            let random = &*self.random;
            *self.leaves() = Some(HeldLeaves::new(WorkFile::create(&self.scratch, random)?));
            let pages = PageSpool::create(&self.scratch, random)?;
            *state = State::Open(Box::new(Open { names: HashMap::new(), files: HashMap::new(), pages }));
        }
        let open = state.open()?;
        match open.names.entry(member.path.clone()) {
            MapEntry::Occupied(_) => return Err(twice(&member.path)),
            MapEntry::Vacant(name) => name.insert(number),
        };
        let file = HeldFile {
            begun_as: None,
            mode: member.mode,
            mtime_s: member.mtime_s,
            page_size: member.page_size,
            dedupe: member.dedupe,
            size: 0,
            judge,
            is_stored: false,
        };
        open.files.insert(number, file);
        Ok(())
    }

    /// The first reading of a file has come to its end, with so many bytes.
    pub(super) fn stored(&self, number: u32, size: u64) -> Result<()> {
        let mut state = self.state();
        // One that was discarded meanwhile is not there any more.
        if let Some(file) = state.open()?.files.get_mut(&number) {
            file.size = file.size.max(size);
            file.is_stored = true;
        }
        Ok(())
    }

    /// Whether a file is still part of the backup.
    pub(super) fn is_there(&self, number: u32) -> bool {
        matches!(&*self.state(), State::Open(open) if open.files.contains_key(&number))
    }

    pub(super) fn overwrite(&self, path: &MemberPath, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut state = self.state();
        let open = state.open()?;
        let (number, file) = open.find(path)?;
        file.reach(path, offset.saturating_add(bytes.len() as u64))?;
        open.pages.push(number, offset, bytes)
    }

    pub(super) fn extend(&self, path: &MemberPath, size: u64) -> Result<()> {
        let mut state = self.state();
        let (_, file) = state.open()?.find(path)?;
        file.reach(path, size)
    }

    pub(super) fn rename(&self, from: &MemberPath, to: &MemberPath) -> Result<()> {
        let mut state = self.state();
        let open = state.open()?;
        if open.names.contains_key(to) {
            return Err(twice(to));
        }
        let (number, file) = open.find(from)?;
        file.begun_as.get_or_insert_with(|| Box::new(from.clone()));
        open.names.remove(from);
        open.names.insert(to.clone(), number);
        Ok(())
    }

    pub(super) fn discard(&self, path: &MemberPath) -> Result<()> {
        let mut state = self.state();
        let open = state.open()?;
        let (number, _) = open.find(path)?;
        open.names.remove(path);
        open.files.remove(&number);
        Ok(())
    }

    /// Ends the time of overwrites.
    pub(super) fn settle(&self) -> Result<Option<Held>> {
        let mut state = self.state();
        let open = match std::mem::replace(&mut *state, State::Settled) {
            State::Unused => return Ok(None),
            State::Settled => return Err(settled_already()),
            State::Open(open) => open,
        };
        let Open { names, mut files, pages } = *open;
        let mut held = Vec::with_capacity(names.len());
        for (path, number) in names {
            let Some(file) = files.remove(&number).filter(|file| file.is_stored) else {
                return Err(Error::internal(format!("the file {path} was not read to its end")));
            };
            held.push((number, path, file));
        }
        held.sort_unstable_by_key(|(number, ..)| *number);
        Ok(Some(Held { files: held, pages }))
    }

    /// Gives the local disk back at once, whoever else still knows of the attempt.
    pub(super) fn close(&self) {
        // Also called while a thread panics.
        if let Ok(mut state) = self.state.lock() {
            *state = State::Settled;
        }
        if let Ok(mut leaves) = self.leaves.lock() {
            *leaves = None;
        }
    }

    /// Whether files wait that nobody has settled.
    pub(super) fn is_unsettled(&self) -> bool {
        matches!(&*self.state(), State::Open(open) if !open.files.is_empty())
    }

    /// The leaves, for the packer that adds some.
    pub(super) fn with_leaves(&self, act: impl FnOnce(&mut HeldLeaves) -> Result<()>) -> Result<()> {
        match &mut *self.leaves() {
            Some(leaves) => act(leaves),
            None => Err(settled_already()),
        }
    }

    /// The leaves, for whoever settles. None come any more.
    pub(super) fn take_leaves(&self) -> Result<HeldLeaves> {
        self.leaves().take().ok_or_else(settled_already)
    }
}

impl State {
    fn open(&mut self) -> Result<&mut Open> {
        match self {
            Self::Open(open) => Ok(open),
            Self::Unused => Err(Error::internal("no overwritable file was begun")),
            Self::Settled => Err(settled_already()),
        }
    }
}

impl Open {
    fn find(&mut self, path: &MemberPath) -> Result<(u32, &mut HeldFile)> {
        let number = self.names.get(path).copied();
        let file = number.and_then(|number| Some((number, self.files.get_mut(&number)?)));
        file.ok_or_else(|| Error::internal(format!("there is no overwritable file {path}")))
    }
}

impl HeldFile {
    /// The file has at least so many bytes.
    fn reach(&mut self, path: &MemberPath, size: u64) -> Result<()> {
        if size > limits::MEMBER_SIZE_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::SourceHostile,
                format!("The file {path} grew beyond 16 TiB; the backup was stopped."),
            ));
        }
        self.size = self.size.max(size);
        Ok(())
    }
}

fn twice(path: &MemberPath) -> Error {
    Error::new(
        ErrorKind::SourceHostile,
        format!("The file {path} came twice in one backup; the backup was stopped."),
    )
}

fn settled_already() -> Error {
    Error::internal("the overwritable files were settled already")
}
