//! Files below the target. Every open is resolved by the kernel beneath a directory we hold, with
//! no link followed (faults.md H02).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use strongroom_core::member::{MemberKind, MemberPath};
use strongroom_core::{Error, ErrorKind, Result};

use super::file::TargetFile;
use super::plan::{RestorePlan, unusable};
use super::{MemberInfo, file, journal};

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// The directories a restore writes to.
pub(crate) struct Target {
    data: Root,
    tablespaces: Vec<(String, Root)>,
    /// More than the page cache should be asked to keep.
    is_big: bool,
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
    /// `bytes` is how much will be written in all.
    pub(crate) fn open(plan: &RestorePlan, bytes: u64) -> Result<Self> {
        let tablespaces = plan
            .tablespaces
            .iter()
            .map(|space| Ok((space.id.clone(), Root::open(&space.target)?)))
            .collect::<Result<_>>()?;
        let is_big = bytes > file::CACHED_BYTES_MAX;
        Ok(Self { data: Root::open(&plan.target)?, tablespaces, is_big })
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
    pub(crate) fn writer(&self, member: &MemberInfo) -> Result<TargetFile> {
        let place = self
            .place(&member.path)?
            .ok_or_else(|| Error::internal("a member that is not written was asked for"))?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let cached = open_beneath(&place, flags, 0)?;
        let is_direct = self.is_big && member.size >= file::DIRECT_FILE_BYTES_MIN;
        // Not every file system can; then it goes through the cache.
        let direct = is_direct.then(|| open_beneath(&place, flags | OFlags::DIRECT, 0).ok()).flatten();
        Ok(TargetFile::new(cached, direct, place.root.path.join(&place.below)))
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
