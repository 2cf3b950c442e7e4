//! Small durable writes into a restored directory.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use strongroom_core::engine::RestoredTree;
use strongroom_core::{Error, ErrorKind, Result};

/// Ending of a file that is being written.
const UNFINISHED: &str = "strongroom-unfinished";

/// A data directory on this machine. What is made in it belongs to whom the directory belongs to, so
/// that root can prepare a directory for the server's account.
pub struct Directory<'a> {
    path: &'a Path,
    owner: (u32, u32),
}

impl<'a> Directory<'a> {
    pub fn open(path: &'a Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(|error| io_failed(path, &error))?;
        Ok(Self { path, owner: (metadata.uid(), metadata.gid()) })
    }

    /// Makes the names durable that were made, replaced or removed in these folders and in the
    /// directory itself.
    pub fn close(self, folders: &[&str]) -> Result<()> {
        for name in folders.iter().copied().chain([""]) {
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

/// What is there, or `None` when nothing is.
fn found<T>(path: &Path, outcome: io::Result<T>) -> Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_failed(path, &error)),
    }
}

impl RestoredTree for Directory<'_> {
    fn size_of(&mut self, name: &str) -> Result<Option<u64>> {
        let path = self.path.join(name);
        Ok(found(&path, fs::metadata(&path))?.map(|metadata| metadata.len()))
    }

    fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        found(&path, fs::read(&path))
    }

    fn replace(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(OsStr::new("."));
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
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

    fn remove(&mut self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        found(&path, fs::remove_file(&path)).map(|_| ())
    }

    fn make_directory(&mut self, name: &str, mode: u32) -> Result<()> {
        let path = self.path.join(name);
        match DirBuilder::new().mode(mode).create(&path) {
            Ok(()) => self.hand_over(&path),
            Err(_) if path.is_dir() => Ok(()),
            Err(error) => Err(io_failed(&path, &error)),
        }
    }

    fn set_mode(&mut self, mode: u32) -> Result<()> {
        fs::set_permissions(self.path, Permissions::from_mode(mode))
            .map_err(|error| io_failed(self.path, &error))
    }
}

/// A file of a restored directory could not be used.
pub fn io_failed(path: &Path, error: &io::Error) -> Error {
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
