//! Objects as files of one directory tree.
//!
//! Durability is ours to prove here: a file is written under `tmp/`, synced, linked to its name
//! (a link never overwrites, a rename would), its directory is synced, and only then is the
//! temporary name taken away. A failed sync is never tried again on the same file: the kernel may
//! have dropped the pages (faults.md D05).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};
use strongroom_core::size::ByteSize;
use strongroom_core::{Error, ErrorKind, Result, Retry};

use super::{Listed, Put, PutStream, Store};
use crate::frame;

const TMP: &str = "tmp";
/// Written files are handed to the disk in pieces of this size, so that the final sync is short
/// and the page cache holds no more dirty bytes than that.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// A directory as a store. Directories are 0700, files 0600.
#[derive(Debug)]
pub struct LocalStore {
    root: PathBuf,
    read_only: bool,
    /// Distinguishes temporary names within the process.
    counter: AtomicU64,
}

impl LocalStore {
    /// Opens an existing directory or makes it (one level), and empties its `tmp/`.
    pub fn open(root: &Path) -> Result<Self> {
        make_directory(root).map_err(|error| refused(root, &error))?;
        let tmp = root.join(TMP);
        make_directory(&tmp).map_err(|error| refused(&tmp, &error))?;
        let store = Self { root: root.to_owned(), read_only: false, counter: AtomicU64::new(0) };
        store.clear_tmp();
        Ok(store)
    }

    /// Opens an existing directory and will never write below it: a copy on a read-only disk, or
    /// the repository of an account whose files must not get another owner.
    pub fn open_read_only(root: &Path) -> Result<Self> {
        let metadata = fs::metadata(root).map_err(|error| refused(root, &error))?;
        if !metadata.is_dir() {
            return Err(refused(root, &io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self { root: root.to_owned(), read_only: true, counter: AtomicU64::new(0) })
    }

    fn check_writable(&self) -> Result<()> {
        if self.read_only {
            return Err(refused(&self.root, &io::ErrorKind::ReadOnlyFilesystem.into()));
        }
        Ok(())
    }

    /// Takes away what killed processes left. A file that is being written is locked by its
    /// writer, whichever process, container or store of this process that is.
    fn clear_tmp(&self) {
        let Ok(entries) = fs::read_dir(self.root.join(TMP)) else { return };
        for entry in entries.flatten() {
            let is_left = File::open(entry.path())
                .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
            if is_left {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        debug_assert!(!key.split('/').any(|part| part.is_empty() || part == ".." || part == "."));
        self.root.join(key)
    }

    fn stream(&self, key: &str) -> Result<LocalPut> {
        self.check_writable()?;
        let (file, temporary) = self.temporary()?;
        let target = self.path(key);
        Ok(LocalPut { root: self.root.clone(), file, temporary, target, written: 0, handed_over: 0 })
    }

    /// A new file under `tmp/`, locked as long as it is open.
    fn temporary(&self) -> Result<(File, PathBuf)> {
        loop {
            let number = self.counter.fetch_add(1, Ordering::Relaxed);
            let path = self.root.join(TMP).join(format!("{}.{number}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    // A file system without locks has nobody who clears up either.
                    let _ = flock(&file, FlockOperation::LockExclusive);
                    // Whoever clears up may have come between the two calls.
                    if file.metadata().map_err(|error| refused(&path, &error))?.nlink() > 0 {
                        return Ok((file, path));
                    }
                }
                // Another container counts its processes as we do.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(refused(&path, &error)),
            }
        }
    }

    fn read<T>(&self, key: &str, read: impl FnOnce(File) -> io::Result<T>) -> Result<Option<T>> {
        let path = self.path(key);
        match File::open(&path).and_then(read) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // The object is lost as far as this disk is concerned: to be told as damage, by name,
            // and not as a store that is away.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                Err(frame::damage(key, "the disk cannot read it").with_source(error))
            }
            Err(error) => Err(refused(&path, &error)),
        }
    }
}

impl Store for LocalStore {
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        let mut put = self.stream(key)?;
        put.append(bytes)?;
        Box::new(put).commit()
    }

    fn begin_put(&self, key: &str) -> Result<Box<dyn PutStream>> {
        Ok(Box::new(self.stream(key)?))
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.read(key, |mut file| {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        })
    }

    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        Ok(self.get_range_into(key, offset, length, &mut bytes)?.then_some(bytes))
    }

    fn get_range_into(&self, key: &str, offset: u64, length: usize, bytes: &mut Vec<u8>) -> Result<bool> {
        let read = self.read(key, |file| {
            let size = file.metadata()?.len();
            let length = length.min(usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX));
            // Only what the buffer never held before is zeroed.
            bytes.resize(length, 0);
            file.read_exact_at(bytes, offset)
        });
        Ok(read?.is_some())
    }

    fn head(&self, key: &str) -> Result<Option<u64>> {
        self.read(key, |file| Ok(file.metadata()?.len()))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let mut found = Vec::new();
        let directory = prefix.rsplit_once('/').map_or("", |(directory, _)| directory);
        walk(&self.root, &self.root.join(directory), &mut found)
            .map_err(|error| refused(&self.root.join(directory), &error))?;
        found.retain(|listed| listed.key.starts_with(prefix));
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.check_writable()?;
        let path = self.path(key);
        match fs::remove_file(&path) {
            Ok(()) => sync_directory(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(refused(&path, &error)),
        }
    }

    fn free_bytes(&self) -> Result<Option<u64>> {
        let stat = rustix::fs::statvfs(&self.root).map_err(|error| refused(&self.root, &error.into()))?;
        Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    fn is_read_only(&self) -> bool {
        self.read_only
            || rustix::fs::statvfs(&self.root)
                .is_ok_and(|stat| stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
    }
}

/// A file under `tmp/` that has no name yet.
struct LocalPut {
    root: PathBuf,
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    written: u64,
    handed_over: u64,
}

impl PutStream for LocalPut {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| {
            if is_full(&error) {
                full(&self.root, bytes.len() as u64)
            } else {
                refused(&self.temporary, &error)
            }
        })?;
        self.written += bytes.len() as u64;
        if self.written - self.handed_over >= WRITEBACK_BYTES {
            // A hint only: asks for writing now, waits for nothing. The sync at the end decides.
            let _ = rustix::fs::fadvise(
                &self.file,
                self.handed_over,
                std::num::NonZeroU64::new(self.written - self.handed_over),
                rustix::fs::Advice::DontNeed,
            );
            self.handed_over = self.written;
        }
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<Put> {
        self.file.sync_data().map_err(|error| not_synced(&self.temporary, &error))?;
        if let Some(directory) = self.target.parent() {
            make_directories_durably(&self.root, directory)?;
        }
        let put = match fs::hard_link(&self.temporary, &self.target) {
            Ok(()) => Put::Created,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Put::AlreadyThere,
            Err(error) => return Err(refused(&self.target, &error)),
        };
        if put == Put::Created {
            sync_directory(&self.target)?;
        }
        Ok(put)
    }
}

impl Drop for LocalPut {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Makes what is missing between the root and `directory`, each name synced in its parent.
fn make_directories_durably(root: &Path, directory: &Path) -> Result<()> {
    if directory == root || directory.exists() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make_directories_durably(root, parent)?;
    }
    make_directory(directory).map_err(|error| refused(directory, &error))?;
    sync_directory(directory)
}

/// Makes the name of `path` durable in the directory that holds it.
fn sync_directory(path: &Path) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| not_synced(directory, &error))
}

fn walk(root: &Path, directory: &Path, found: &mut Vec<Listed>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if path.parent() != Some(root) || entry.file_name() != TMP {
                walk(root, &path, found)?;
            }
        } else if let Some(key) = path.strip_prefix(root).ok().and_then(Path::to_str) {
            match entry.metadata() {
                Ok(metadata) => found.push(Listed { key: key.to_owned(), size: metadata.len() }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn refused(path: &Path, error: &io::Error) -> Error {
    if is_full(error) {
        return full(path.parent().unwrap_or(path), 0);
    }
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "The repository cannot be used: {} ({error}). What was stored before is safe.",
            path.display()
        ),
    )
    .with_hint("see that the repository's disk is mounted, readable and writable")
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// No room for `needed` bytes, or for another name, on the disk of `directory`.
fn full(directory: &Path, needed: u64) -> Error {
    let stat = rustix::fs::statvfs(directory).ok();
    let what = match stat {
        Some(stat) if stat.f_files > 0 && stat.f_favail == 0 => {
            "has no room for another file: all its inodes are taken".to_owned()
        }
        Some(stat) => format!(
            "is full: {} are left, at least {} had to be written",
            ByteSize::new(stat.f_bavail.saturating_mul(stat.f_frsize)),
            ByteSize::new(needed.max(stat.f_frsize))
        ),
        None => "is full".to_owned(),
    };
    Error::new(
        ErrorKind::DiskFull,
        format!("The repository's disk ({}) {what}. What was stored before is safe.", directory.display()),
    )
    .with_hint("free room on the repository's disk, then run the backup again")
}

/// Not to be tried again on this file: what the kernel could not write it may have forgotten.
fn not_synced(path: &Path, error: &io::Error) -> Error {
    if is_full(error) {
        return full(path.parent().unwrap_or(path), 0);
    }
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "The disk did not confirm what was written to {} ({error}); it is treated as lost.",
            path.display()
        ),
    )
    .with_hint("look at the kernel's log for the disk's errors before the next backup")
    .with_retry(Retry::Later)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_behind(root: &Path) -> usize {
        fs::read_dir(root.join(TMP)).unwrap().count()
    }

    #[test]
    fn m04_another_store_at_the_same_place_takes_nothing_away() {
        let directory = tempfile::tempdir().unwrap();
        let first = LocalStore::open(directory.path()).unwrap();
        let mut put = first.begin_put("l/a/pk/1/0.0").unwrap();
        put.append(b"first half, ").unwrap();
        // The same process id and the same numbers, as two containers have them.
        let second = LocalStore::open(directory.path()).unwrap();
        assert_eq!(second.put_new("l/a/at/1", b"verdict").unwrap(), Put::Created);
        put.append(b"second half").unwrap();
        assert_eq!(put.commit().unwrap(), Put::Created);
        assert_eq!(first.get("l/a/pk/1/0.0").unwrap().unwrap(), b"first half, second half");
        assert_eq!(left_behind(directory.path()), 0);
    }

    #[test]
    fn p03_what_a_killed_process_left_goes_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::open(directory.path()).unwrap();
        fs::write(directory.path().join("tmp/1.0"), b"half a pack").unwrap();
        fs::write(directory.path().join(format!("tmp/{}.0", std::process::id())), b"another").unwrap();
        // In the way of the next name, until somebody opens the store anew.
        assert_eq!(store.put_new("x", b"1").unwrap(), Put::Created);
        LocalStore::open(directory.path()).unwrap();
        assert_eq!(left_behind(directory.path()), 0);
        assert_eq!(store.get("x").unwrap().unwrap(), b"1");
    }

    #[test]
    fn nothing_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::open(directory.path()).unwrap();
        assert_eq!(store.put_new("l/a/at/1", b"first").unwrap(), Put::Created);
        assert_eq!(store.put_new("l/a/at/1", b"second").unwrap(), Put::AlreadyThere);
        assert_eq!(store.get("l/a/at/1").unwrap().unwrap(), b"first");
        drop(store.begin_put("l/a/at/2").unwrap());
        assert_eq!(store.head("l/a/at/2").unwrap(), None);
        assert_eq!(left_behind(directory.path()), 0);
    }
}
