//! Files below the target. Every open is resolved by the kernel beneath a directory we hold, with
//! no link followed (faults.md H02).

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use strongroom_core::member::{MemberKind, MemberPath};
use strongroom_core::{Error, ErrorKind, Result};

use super::plan::{RestorePlan, unusable};
use super::{MemberInfo, journal};

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// The directories a restore writes to.
pub(crate) struct Target {
    data: Root,
    tablespaces: Vec<(String, Root)>,
}

struct Root {
    path: PathBuf,
    directory: OwnedFd,
}

impl Root {
    fn open(path: &Path) -> Result<Self> {
        match std::fs::DirBuilder::new().mode(0o700).recursive(true).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(unusable(path, &error)),
            _ => {}
        }
        let directory = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| unusable(path, &error.into()))?;
        Ok(Self { path: path.to_owned(), directory })
    }
}

/// Where a member goes: a root and a path below it.
struct Place<'a> {
    root: &'a Root,
    below: PathBuf,
}

impl Target {
    pub(crate) fn open(plan: &RestorePlan) -> Result<Self> {
        let tablespaces = plan
            .tablespaces
            .iter()
            .map(|space| Ok((space.id.clone(), Root::open(&space.target)?)))
            .collect::<Result<_>>()?;
        Ok(Self { data: Root::open(&plan.target)?, tablespaces })
    }

    /// `data/` is the data directory, `wal/` its log directory, `tablespace/<id>/` as mapped;
    /// `meta/` is for engines and people, and never written here.
    fn place(&self, path: &MemberPath) -> Result<Option<Place<'_>>> {
        let below = Path::new(OsStr::from_bytes(path.below_root())).to_owned();
        match path.root() {
            // A source that was itself restored half-way may hold a journal; ours is not to be lost.
            b"data" if below == Path::new(journal::NAME) => Ok(None),
            b"data" => Ok(Some(Place { root: &self.data, below })),
            b"wal" => Ok(Some(Place { root: &self.data, below: Path::new("pg_wal").join(below) })),
            b"tablespace" => {
                let mut parts = below.components();
                let id = parts
                    .next()
                    .map(|part| part.as_os_str().to_string_lossy().into_owned())
                    .unwrap_or_default();
                let below = parts.as_path().to_owned();
                let root = self.tablespaces.iter().find(|(known, _)| *known == id).map(|(_, root)| root);
                let root = root.ok_or_else(|| {
                    Error::new(
                        ErrorKind::Damage,
                        format!("The backup holds files of an unknown tablespace {id}."),
                    )
                })?;
                Ok(Some(Place { root, below }))
            }
            _ => Ok(None),
        }
    }

    /// Whether a member is written here at all. One that has no place is told when it is prepared.
    pub(crate) fn holds(&self, member: &MemberInfo) -> bool {
        !matches!(self.place(&member.path), Ok(None))
    }

    /// Makes a directory, or an empty file of the right size.
    pub(crate) fn prepare(&self, member: &MemberInfo) -> Result<()> {
        let Some(place) = self.place(&member.path)? else { return Ok(()) };
        if place.below.as_os_str().is_empty() {
            return Ok(());
        }
        match member.kind {
            MemberKind::Directory => make_directories(place.root, &place.below)?,
            MemberKind::File => {
                make_directories(place.root, place.below.parent().unwrap_or(Path::new("")))?;
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = open_beneath(&place, flags, 0o600)?;
                file.set_len(member.size)
                    .map_err(|error| unusable(&place.root.path.join(&place.below), &error))?;
            }
        }
        Ok(())
    }

    /// Opens a prepared file for writing at positions.
    pub(crate) fn writer(&self, path: &MemberPath) -> Result<TargetFile> {
        let place =
            self.place(path)?.ok_or_else(|| Error::internal("a member that is not written was asked for"))?;
        let file = open_beneath(&place, OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, 0)?;
        Ok(TargetFile { file, path: place.root.path.join(&place.below), kept_from: Cell::new(None) })
    }

    /// Sets mode and time of a finished member and checks a file's size.
    pub(crate) fn finish(&self, member: &MemberInfo) -> Result<()> {
        let Some(place) = self.place(&member.path)? else { return Ok(()) };
        if place.below.as_os_str().is_empty() {
            return Ok(());
        }
        let path = place.root.path.join(&place.below);
        let file = open_beneath(&place, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, 0)?;
        if member.kind == MemberKind::File {
            let size = file.metadata().map_err(|error| unusable(&path, &error))?.len();
            if size != member.size {
                return Err(Error::new(
                    ErrorKind::Damage,
                    format!("{} has {size} bytes, {} were backed up.", path.display(), member.size),
                )
                .with_hint("something else writes to the target; restore to another directory"));
            }
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(member.mode & 0o777))
            .map_err(|error| unusable(&path, &error.into()))?;
        let at = Timespec { tv_sec: member.mtime_s, tv_nsec: 0 };
        let times = Timestamps { last_access: at, last_modification: at };
        rustix::fs::futimens(&file, &times).map_err(|error| unusable(&path, &error.into()))
    }

    /// Makes all bytes and names durable: one sync of each file system written to.
    pub(crate) fn sync(&self) -> Result<()> {
        for root in std::iter::once(&self.data).chain(self.tablespaces.iter().map(|(_, root)| root)) {
            rustix::fs::syncfs(&root.directory).map_err(|error| unusable(&root.path, &error.into()))?;
        }
        Ok(())
    }
}

/// Makes the directories of a path, each in the one before it: a path of several parts would follow
/// a link in its middle. Their modes come at the end.
fn make_directories(root: &Root, path: &Path) -> Result<()> {
    let mut parent: Option<OwnedFd> = None;
    let mut made = root.path.clone();
    for part in path.components() {
        made.push(part);
        let part = part.as_os_str();
        let within = parent.as_ref().unwrap_or(&root.directory);
        match rustix::fs::mkdirat(within, part, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(unusable(&made, &error.into())),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(within, part, flags, Mode::empty(), BENEATH)
            .map_err(|error| unusable(&made, &error.into()))?;
        parent = Some(opened);
    }
    Ok(())
}

fn open_beneath(place: &Place<'_>, flags: OFlags, mode: u32) -> Result<File> {
    rustix::fs::openat2(&place.root.directory, &place.below, flags, Mode::from_raw_mode(mode), BENEATH)
        .map(File::from)
        .map_err(|error| unusable(&place.root.path.join(&place.below), &error.into()))
}

/// Written bytes are handed to the disk in pieces of this size, so that no sync has much to do.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// One file being written, front to back.
pub(crate) struct TargetFile {
    file: File,
    path: PathBuf,
    /// Where the bytes begin that were not handed to the disk yet.
    kept_from: Cell<Option<u64>>,
}

impl TargetFile {
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| unusable(&self.path, &error))?;
        let (from, end) = (self.kept_from.get().unwrap_or(offset), offset + bytes.len() as u64);
        self.kept_from.set(Some(from));
        if end.saturating_sub(from) >= WRITEBACK_BYTES {
            // A hint only: asks for writing now, waits for nothing. The sync at the end decides.
            let length = std::num::NonZeroU64::new(end.saturating_sub(from));
            let _ = rustix::fs::fadvise(&self.file, from, length, rustix::fs::Advice::DontNeed);
            self.kept_from.set(Some(end));
        }
        Ok(())
    }

    /// Zeroes are holes already: the file was made with its full length.
    pub(crate) fn fill_at(&self, byte: u8, length: u64, offset: u64) -> Result<()> {
        if byte == 0 {
            return Ok(());
        }
        let block = vec![byte; length.min(1 << 20) as usize];
        let mut written = 0;
        while written < length {
            let now = (length - written).min(block.len() as u64);
            self.write_at(&block[..now as usize], offset + written)?;
            written += now;
        }
        Ok(())
    }
}
