//! Small durable writes into a restored directory.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use strongroom_core::{Error, ErrorKind, Result};

use crate::facts::PostgresFacts;

/// Ending of a file that is being written.
const UNFINISHED: &str = "strongroom-unfinished";

/// A data directory that is being finished. What is made in it belongs to whom the directory
/// belongs to, so that root can prepare a directory for the server's account.
pub(super) struct Folder<'a> {
    path: &'a Path,
    owner: (u32, u32),
    directory_mode: u32,
}

impl<'a> Folder<'a> {
    /// The server refuses a directory that others can read; a group may when it could at the source.
    pub(super) fn open(path: &'a Path, facts: &PostgresFacts) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(|error| io_failed(path, &error))?;
        let has_group = facts.data_directory_mode.ends_with("50");
        let directory_mode = if has_group { 0o750 } else { 0o700 };
        fs::set_permissions(path, Permissions::from_mode(directory_mode))
            .map_err(|error| io_failed(path, &error))?;
        Ok(Self { path, owner: (metadata.uid(), metadata.gid()), directory_mode })
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a directory, and those above it, unless it is there.
    pub(super) fn make_directory(&self, name: &str) -> Result<()> {
        let mut path = self.path.to_owned();
        for part in name.split('/') {
            path.push(part);
            match DirBuilder::new().mode(self.directory_mode).create(&path) {
                Ok(()) => self.hand_over(&path)?,
                Err(_) if path.is_dir() => {}
                Err(error) => return Err(io_failed(&path, &error)),
            }
        }
        Ok(())
    }

    /// Replaces a file: after a crash it is the old one or the new one.
    pub(super) fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.join(name);
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(OsStr::new("."));
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        // The group reads what it may list.
        let mode = (self.directory_mode & 0o640) | 0o600;
        let write = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
            file.write_all(content)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()
        };
        write().map_err(|error| io_failed(&unfinished, &error))?;
        self.hand_over(&unfinished)?;
        fs::rename(&unfinished, &path).map_err(|error| io_failed(&path, &error))
    }

    /// A file's content, `None` when it is not there.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match fs::read(self.join(name)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_failed(&self.join(name), &error)),
        }
    }

    pub(super) fn remove(&self, name: &str) -> Result<()> {
        match fs::remove_file(self.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_failed(&self.join(name), &error)),
            _ => Ok(()),
        }
    }

    /// Makes the names durable that were made, replaced or removed.
    pub(super) fn close(self) -> Result<()> {
        for name in ["pg_wal", "pg_logical", "pg_multixact", ""] {
            let path = self.path.join(name);
            File::open(&path)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| io_failed(&path, &error))?;
        }
        Ok(())
    }

    fn hand_over(&self, path: &Path) -> Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        chown(path, Some(self.owner.0), Some(self.owner.1)).map_err(|error| io_failed(path, &error))
    }
}

pub(crate) fn io_failed(path: &Path, error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::DiskFull,
        _ => ErrorKind::Unavailable,
    };
    Error::new(
        kind,
        format!(
            "{} could not be written or read ({}). The backup itself was not touched.",
            path.display(),
            error.kind()
        ),
    )
    .with_source(error.to_string())
}
