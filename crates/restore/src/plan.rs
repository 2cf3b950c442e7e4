//! The plan of a restore: what will be written where, and whether it may.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use strongroom_core::engine::Tablespace;
use strongroom_core::size::ByteSize;
use strongroom_core::{Error, ErrorKind, Field, Result};

use super::journal;

/// What the caller wants.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    pub target: PathBuf,
    /// Pairs of a tablespace's id or source path, and its new directory.
    pub tablespace_map: Vec<(String, PathBuf)>,
    pub port: Option<u16>,
    /// Connections at once.
    pub streams: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    Absent,
    Empty,
    /// Holds the journal of the same restore, which goes on there.
    Resumable,
}

/// A tablespace and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablespaceTarget {
    pub id: String,
    pub source_path: String,
    pub target: PathBuf,
    /// Nobody mapped it: it goes beside the target.
    pub by_default: bool,
}

/// What would be done. Nothing was written yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlan {
    pub target: PathBuf,
    pub state: TargetState,
    pub bytes: u64,
    /// Room where the target is, or will be.
    pub free_bytes: u64,
    pub tablespaces: Vec<TablespaceTarget>,
}

impl RestorePlan {
    /// Tablespace id → directory, as engines take it.
    pub fn tablespace_dirs(&self) -> BTreeMap<String, PathBuf> {
        self.tablespaces.iter().map(|space| (space.id.clone(), space.target.clone())).collect()
    }
}

/// Looks at the target and resolves the tablespaces. Writes nothing.
pub fn plan(
    options: &RestoreOptions,
    manifest_digest: &str,
    bytes: u64,
    tablespaces: &[Tablespace],
) -> Result<RestorePlan> {
    let target = std::path::absolute(&options.target).map_err(|error| unusable(&options.target, &error))?;
    let state = target_state(&target, manifest_digest)?;
    let tablespaces = map_tablespaces(options, &target, tablespaces)?;
    for space in &tablespaces {
        let found = target_state_plain(&space.target)?;
        if found == Plain::Occupied && state != TargetState::Resumable {
            return Err(not_empty(&space.target));
        }
    }
    let free_bytes = free_bytes(&target)?;
    Ok(RestorePlan { target, state, bytes, free_bytes, tablespaces })
}

/// Refuses a restore that cannot fit (faults.md D03). `needed` says how many bytes go where; what
/// goes to one file system is counted together.
pub(crate) fn check_room(needed: &[(&Path, u64)]) -> Result<()> {
    let mut disks: BTreeMap<u64, (&Path, u64)> = BTreeMap::new();
    for (path, bytes) in needed {
        let existing = existing_part(path);
        let disk = fs::metadata(existing).map_err(|error| unusable(existing, &error))?.dev();
        disks.entry(disk).or_insert((path, 0)).1 += bytes;
    }
    for (path, bytes) in disks.into_values() {
        let free = free_bytes(path)?;
        if free < bytes {
            return Err(Error::new(
                ErrorKind::DiskFull,
                format!(
                    "The restore needs {}, {} are free at {}. Nothing was written.",
                    ByteSize::new(bytes),
                    ByteSize::new(free),
                    path.display()
                ),
            )
            .with_hint("free room there, or restore to another disk"));
        }
    }
    Ok(())
}

fn map_tablespaces(
    options: &RestoreOptions,
    target: &Path,
    tablespaces: &[Tablespace],
) -> Result<Vec<TablespaceTarget>> {
    for (old, _) in &options.tablespace_map {
        if !tablespaces.iter().any(|space| space.id == *old || space.source_path == *old) {
            return Err(Error::parameter(
                Field::Other,
                format!("tablespace-map: the backup has no tablespace {old}"),
            )
            .with_hint("`strongroom restore … --plan` lists the tablespaces"));
        }
    }
    for space in tablespaces {
        let is_meant = |old: &String| space.id == *old || space.source_path == *old;
        if options.tablespace_map.iter().filter(|(old, _)| is_meant(old)).count() > 1 {
            return Err(Error::parameter(
                Field::Other,
                format!("tablespace-map: tablespace {} is mapped twice", space.id),
            ));
        }
    }
    let mut beside = target.as_os_str().to_owned();
    beside.push(".tablespaces");
    let mut out: Vec<TablespaceTarget> = Vec::new();
    for space in tablespaces {
        let mapped =
            options.tablespace_map.iter().find(|(old, _)| *old == space.id || *old == space.source_path);
        let directory = mapped.map_or_else(|| Path::new(&beside).join(&space.id), |(_, new)| new.clone());
        if !directory.is_absolute() || directory.starts_with(target) || target.starts_with(&directory) {
            return Err(Error::parameter(
                Field::Other,
                format!(
                    "tablespace-map: {} must be an absolute path outside the target",
                    directory.display()
                ),
            ));
        }
        let shares = |other: &TablespaceTarget| {
            directory.starts_with(&other.target) || other.target.starts_with(&directory)
        };
        if let Some(other) = out.iter().find(|other| shares(other)) {
            return Err(Error::parameter(
                Field::Other,
                format!(
                    "tablespace-map: {} and {} would hold files of two tablespaces",
                    other.target.display(),
                    directory.display()
                ),
            ));
        }
        out.push(TablespaceTarget {
            id: space.id.clone(),
            source_path: space.source_path.clone(),
            target: directory,
            by_default: mapped.is_none(),
        });
    }
    Ok(out)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plain {
    Absent,
    Empty,
    Occupied,
}

fn target_state_plain(path: &Path) -> Result<Plain> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Plain::Absent),
        Err(error) => Err(unusable(path, &error)),
        Ok(metadata) if !metadata.is_dir() => Ok(Plain::Occupied),
        Ok(_) => {
            let mut entries = fs::read_dir(path).map_err(|error| unusable(path, &error))?;
            Ok(if entries.next().is_none() { Plain::Empty } else { Plain::Occupied })
        }
    }
}

fn target_state(target: &Path, manifest_digest: &str) -> Result<TargetState> {
    match target_state_plain(target)? {
        Plain::Absent => Ok(TargetState::Absent),
        Plain::Empty => Ok(TargetState::Empty),
        Plain::Occupied if journal::belongs_to(target, manifest_digest) => Ok(TargetState::Resumable),
        Plain::Occupied if journal::is_stillborn(target) => Ok(TargetState::Empty),
        Plain::Occupied => Err(not_empty(target)),
    }
}

/// Room where the target is, or will be.
fn free_bytes(target: &Path) -> Result<u64> {
    let existing = existing_part(target);
    let stat = rustix::fs::statvfs(existing).map_err(|error| unusable(existing, &error.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn existing_part(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

fn not_empty(path: &Path) -> Error {
    Error::new(
        ErrorKind::TargetNotEmpty,
        format!("The directory {} is not empty; nothing was written.", path.display()),
    )
    .with_hint("give a directory that is absent or empty")
}

pub(crate) fn unusable(path: &Path, error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::DiskFull,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("{} cannot be used: {error}.", path.display()))
        .with_hint("mend that and run the same command again; what was restored so far is kept")
}
