//! Files below the target. Every open is resolved by the kernel beneath a directory we hold, with
//! no link followed (faults.md H02).

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

use super::MemberInfo;
use super::plan::{RestorePlan, unusable};

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// The directories a restore writes to.
pub(super) struct Target {
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
    pub(super) fn open(plan: &RestorePlan) -> Result<Self> {
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

    /// Makes a directory or an empty file of the right size. Answers whether the member is written
    /// here at all.
    pub(super) fn prepare(&self, member: &MemberInfo) -> Result<bool> {
        let Some(place) = self.place(&member.path)? else { return Ok(false) };
        if place.below.as_os_str().is_empty() {
            return Ok(true);
        }
        match member.kind {
            MemberKind::Directory => self.make_directories(&place, true, member.mode)?,
            MemberKind::File => {
                self.make_directories(&place, false, 0o700)?;
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = open_beneath(&place, flags, 0o600)?;
                file.set_len(member.size)
                    .map_err(|error| unusable(&place.root.path.join(&place.below), &error))?;
            }
        }
        Ok(true)
    }

    fn make_directories(&self, place: &Place<'_>, whole: bool, mode: u32) -> Result<()> {
        let last = if whole { Some(place.below.as_path()) } else { place.below.parent() };
        let Some(last) = last.filter(|path| !path.as_os_str().is_empty()) else { return Ok(()) };
        let mut made = PathBuf::new();
        for part in last.components() {
            made.push(part);
            let is_last = whole && made == last;
            let mode = if is_last { mode | 0o700 } else { 0o700 };
            match rustix::fs::mkdirat(&place.root.directory, &made, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(unusable(&place.root.path.join(&made), &error.into())),
            }
        }
        Ok(())
    }

    /// Opens a prepared file for writing at positions.
    pub(super) fn writer(&self, path: &MemberPath) -> Result<TargetFile> {
        let place =
            self.place(path)?.ok_or_else(|| Error::internal("a member that is not written was asked for"))?;
        let file = open_beneath(&place, OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, 0)?;
        Ok(TargetFile { file, path: place.root.path.join(&place.below) })
    }

    /// Sets mode and time of a finished member and checks a file's size.
    pub(super) fn finish(&self, member: &MemberInfo) -> Result<()> {
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
    pub(super) fn sync(&self) -> Result<()> {
        for root in std::iter::once(&self.data).chain(self.tablespaces.iter().map(|(_, root)| root)) {
            rustix::fs::syncfs(&root.directory).map_err(|error| unusable(&root.path, &error.into()))?;
        }
        Ok(())
    }
}

fn open_beneath(place: &Place<'_>, flags: OFlags, mode: u32) -> Result<File> {
    rustix::fs::openat2(&place.root.directory, &place.below, flags, Mode::from_raw_mode(mode), BENEATH)
        .map(File::from)
        .map_err(|error| unusable(&place.root.path.join(&place.below), &error.into()))
}

/// One file being written.
pub(super) struct TargetFile {
    file: File,
    path: PathBuf,
}

impl TargetFile {
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| unusable(&self.path, &error))
    }

    /// Zeroes are holes already: the file was made with its full length.
    pub(super) fn fill_at(&self, byte: u8, length: u64, offset: u64) -> Result<()> {
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
