//! The sandbox: where drills restore to, and who runs what is restored there.
//!
//! Owns a folder for each drill, the lock beside it that tells whether its worker lives, and the
//! processes that work in it. Must never touch a folder whose lock somebody holds, nor anything in
//! the sandbox that it did not make.

mod account;
mod processes;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use strongroom_core::engine::Account;
use strongroom_core::{Error, ErrorKind, Result};

pub(crate) use account::account_of;

/// Ending of the files that are locked while a drill runs.
const LOCK: &str = "lock";
/// How often a lock may be swept away between making and taking it.
const LOCKS_MAX: u32 = 10;

/// One drill's folder. Dropped, it ends the processes that work in it and goes.
pub(crate) struct Sandbox {
    folder: PathBuf,
    account: Option<Account>,
    lock_path: PathBuf,
    _lock: File,
}

impl Sandbox {
    /// Makes a folder of this name in the sandbox directory, which is made when it is not there.
    pub(crate) fn make(directory: &Path, name: &str, account: Option<Account>) -> Result<Self> {
        let directory = ready(directory, account)?;
        let lock_path = directory.join(name).with_extension(LOCK);
        let lock = take_lock(&lock_path)?;
        let folder = directory.join(name);
        let sandbox = Self { folder, account, lock_path, _lock: lock };
        for folder in [sandbox.folder.clone(), sandbox.run_dir()] {
            DirBuilder::new().mode(0o700).create(&folder).map_err(|error| unusable(&folder, &error))?;
        }
        Ok(sandbox)
    }

    /// What is restored goes here. Tablespaces go beside it, which is inside the folder too.
    pub(crate) fn target(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.folder.join("run")
    }

    pub(crate) fn account(&self) -> Option<Account> {
        self.account
    }

    /// Hands everything over to the account that the server runs as. Nobody but us has been inside
    /// so far, and links are handed over themselves.
    pub(crate) fn hand_over(&self) -> Result<()> {
        let Some(account) = self.account else { return Ok(()) };
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            let give = |path: &Path| {
                lchown(path, Some(account.uid), Some(account.gid)).map_err(|error| unusable(path, &error))
            };
            give(&folder)?;
            for entry in fs::read_dir(&folder).map_err(|error| unusable(&folder, &error))? {
                let entry = entry.map_err(|error| unusable(&folder, &error))?;
                let path = entry.path();
                if entry.file_type().map_err(|error| unusable(&path, &error))?.is_dir() {
                    folders.push(path);
                } else {
                    give(&path)?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Err(error) = clear(&self.folder, &self.lock_path) {
            tracing::warn!(
                "{} could not be removed and is tried again later: {error}",
                self.folder.display()
            );
        }
    }
}

/// Removes what killed workers have left. Folders of workers that live are left alone.
pub(crate) fn sweep(directory: &Path) {
    let Ok(directory) = fs::canonicalize(directory) else { return };
    let Ok(entries) = fs::read_dir(&directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension() != Some(OsStr::new(LOCK)) {
            continue;
        }
        let Ok(lock) = open_lock(OpenOptions::new().write(true), &path) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let folder = path.with_extension("");
        tracing::info!("Removing what an earlier drill has left at {}.", folder.display());
        if let Err(error) = clear(&folder, &path) {
            tracing::warn!("{} could not be removed and is tried again later: {error}", folder.display());
        }
    }
}

/// Ends what works in the folder, removes it, and its lock last: a folder without one is nobody's.
fn clear(folder: &Path, lock: &Path) -> io::Result<()> {
    processes::end_all_in(folder)?;
    for removed in [fs::remove_dir_all(folder), fs::remove_file(lock)] {
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The sandbox directory, ours alone to change, and reachable for the account.
fn ready(directory: &Path, account: Option<Account>) -> Result<PathBuf> {
    // The server's account has to come through, and needs to see nothing else.
    let mode = if account.is_some() { 0o711 } else { 0o700 };
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(directory)
        .map_err(|error| unusable(directory, &error))?;
    let path = fs::canonicalize(directory).map_err(|error| unusable(directory, &error))?;
    let metadata = fs::metadata(&path).map_err(|error| unusable(&path, &error))?;
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.permissions().mode() & 0o022 != 0 {
        return Err(Error::new(
            ErrorKind::NotAllowed,
            format!("Others than this account may change the sandbox directory {}.", path.display()),
        )
        .with_hint("give it to the account of the worker, without write permission for others"));
    }
    if let Some(account) = account
        && let Some(closed) = path.ancestors().find(|path| !lets_through(path, account))
    {
        return Err(Error::new(
            ErrorKind::NotAllowed,
            format!(
                "The server's account (uid {}) cannot reach the sandbox directory {}: {} is closed to it.",
                account.uid,
                path.display(),
                closed.display()
            ),
        )
        .with_hint("name another place with --sandbox-dir"));
    }
    Ok(path)
}

fn lets_through(directory: &Path, account: Account) -> bool {
    let Ok(metadata) = fs::metadata(directory) else { return false };
    let bit = if metadata.uid() == account.uid {
        0o100
    } else if metadata.gid() == account.gid {
        0o010
    } else {
        0o001
    };
    metadata.permissions().mode() & bit != 0
}

fn open_lock(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}

/// Makes and takes the lock. One that was swept away in between is made again.
fn take_lock(path: &Path) -> Result<File> {
    for _ in 0..LOCKS_MAX {
        let lock = open_lock(OpenOptions::new().create(true).truncate(false).write(true), path)
            .map_err(|error| unusable(path, &error))?;
        let is_taken = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        let is_there = lock.metadata().is_ok_and(|metadata| metadata.nlink() > 0);
        if is_taken && is_there {
            return Ok(lock);
        }
    }
    Err(Error::new(ErrorKind::Unavailable, "A drill of the same job holds its folder in the sandbox."))
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::DiskFull,
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory => ErrorKind::NotAllowed,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("{} cannot be used: {error}.", path.display()))
        .with_hint("see that the sandbox directory can be written to, or name another with --sandbox-dir")
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn working_in(folder: &Path) -> Child {
        let mut command = Command::new("sleep");
        command.arg("600").current_dir(folder).stdin(Stdio::null());
        command.spawn().unwrap()
    }

    #[test]
    fn v06_a_drill_leaves_neither_folder_nor_process() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("sandbox");
        let sandbox = Sandbox::make(&directory, "abc-1", None).unwrap();
        fs::create_dir(sandbox.target()).unwrap();
        let mut left = working_in(&sandbox.target());
        let mut elsewhere = working_in(home.path());
        drop(sandbox);
        assert!(!left.wait().unwrap().success(), "it was killed");
        assert!(elsewhere.try_wait().unwrap().is_none(), "it works somewhere else");
        elsewhere.kill().unwrap();
        elsewhere.wait().unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }

    #[test]
    fn v06_what_a_killed_worker_left_goes_and_what_lives_stays() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("sandbox");
        let live = Sandbox::make(&directory, "live-1", None).unwrap();
        fs::create_dir(live.target()).unwrap();
        // A kill leaves folder, file and process; the lock goes with the process that held it.
        let dead = directory.join("dead-1");
        fs::create_dir_all(dead.join("data")).unwrap();
        fs::write(dead.with_extension(LOCK), b"").unwrap();
        let mut orphan = working_in(&dead.join("data"));
        fs::create_dir(directory.join("somebody's")).unwrap();
        sweep(&directory);
        assert!(!orphan.wait().unwrap().success());
        assert!(!dead.exists() && !dead.with_extension(LOCK).exists());
        assert!(live.target().exists() && directory.join("somebody's").exists());
        // A second claim of the job has a folder of its own; the same one is refused.
        assert!(Sandbox::make(&directory, "live-1", None).is_err());
        drop(live);
        Sandbox::make(&directory, "live-1", None).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_change_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("sandbox");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        let Err(error) = Sandbox::make(&directory, "abc-1", None) else { panic!("it is not ours alone") };
        assert_eq!(error.kind(), ErrorKind::NotAllowed);
        let stranger = Account { uid: 12_345, gid: 12_345 };
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let Err(error) = Sandbox::make(&directory, "abc-1", Some(stranger)) else { panic!("it is closed") };
        assert!(error.public().contains("cannot reach"), "{error}");
    }
}
