//! Small file systems of their own, and a disk that does not confirm: what a full or failing disk
//! does is asked of the kernel, not of a mock.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::skip;

/// A mounted file system, gone on drop.
pub struct SmallDisk {
    at: PathBuf,
    _folder: TempDir,
}

impl SmallDisk {
    /// In memory, of this size. `None`, said loudly, where nothing can be mounted.
    pub fn in_memory(bytes: u64) -> Option<Self> {
        Self::mount(|at| {
            let options = format!("size={bytes}");
            run(
                "mount",
                ["-t".as_ref(), "tmpfs".as_ref(), "-o".as_ref(), options.as_ref(), "tmpfs".as_ref(), at],
            )
        })
    }

    /// In memory, with room for so many names.
    pub fn with_inodes(inodes: u32) -> Option<Self> {
        Self::mount(|at| {
            let options = format!("size=512m,nr_inodes={inodes}");
            run(
                "mount",
                ["-t".as_ref(), "tmpfs".as_ref(), "-o".as_ref(), options.as_ref(), "tmpfs".as_ref(), at],
            )
        })
    }

    /// An ext4 volume in a sparse file, nothing of it reserved for root.
    pub fn volume(bytes: u64) -> Option<Self> {
        Self::mount(|at: &OsStr| {
            let image = Path::new(at).with_file_name("image");
            File::create(&image)?.set_len(bytes)?;
            run("mkfs.ext4", ["-q".as_ref(), "-F".as_ref(), "-m".as_ref(), "0".as_ref(), image.as_os_str()])?;
            run("mount", ["-o".as_ref(), "loop".as_ref(), image.as_os_str(), at])
        })
    }

    fn mount(mount: impl FnOnce(&OsStr) -> anyhow::Result<()>) -> Option<Self> {
        let made = || -> anyhow::Result<Self> {
            let folder = tempfile::Builder::new().prefix("strongroom-disk-").tempdir()?;
            // Servers of an ordinary account come through here.
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
            let at = folder.path().join("disk");
            fs::create_dir(&at)?;
            mount(at.as_os_str())?;
            Ok(Self { at, _folder: folder })
        };
        match made() {
            Ok(disk) => Some(disk),
            Err(error) => {
                skip::missing("mount", &format!("mounting a small disk needs root: {error:#}"));
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Room left for anybody, in bytes.
    pub fn free_bytes(&self) -> anyhow::Result<u64> {
        let stat = rustix::fs::statvfs(&self.at)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Takes all room but `left` bytes, until the ballast is dropped.
    pub fn fill(&self, left: u64) -> anyhow::Result<Ballast> {
        let (folder, mut files) = (self.at.join("ballast"), Vec::new());
        fs::create_dir_all(&folder)?;
        // Metadata takes room as well, and the last blocks go one by one.
        let mut piece = self.free_bytes()?.saturating_sub(left);
        while piece >= 512 {
            let path = folder.join(format!("{}", files.len()));
            let file = File::create(&path)?;
            let taken = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, piece);
            files.push(path);
            piece = if taken.is_ok() { self.free_bytes()?.saturating_sub(left) } else { piece / 2 };
            piece = piece.min(self.free_bytes()?.saturating_sub(left));
            ensure!(files.len() < 200, "the disk does not fill");
        }
        Ok(Ballast { files })
    }

    /// Remounts it read-only, or writable again.
    pub fn read_only(&self, is_read_only: bool) -> anyhow::Result<()> {
        let how = if is_read_only { "remount,ro" } else { "remount,rw" };
        run("mount", ["-o".as_ref(), how.as_ref(), self.at.as_os_str()])
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if run("umount", [self.at.as_os_str()]).is_err() {
            let _ = run("umount", ["-l".as_ref(), self.at.as_os_str()]);
        }
    }
}

/// What takes the room of a small disk.
pub struct Ballast {
    files: Vec<PathBuf>,
}

impl Drop for Ballast {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
    }
}

fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> anyhow::Result<()> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// A library that a program is started with, whose syncs and reads fail on a plan. The kernel is
/// not asked: what is told to the program is what a failing disk tells it.
pub struct FailingDisk {
    folder: TempDir,
}

/// The n-th sync of a file below `SYNC_FAILS_BELOW` answers EIO, once; every one is written down.
/// Reads of files whose path holds `READ_FAILS_ON` answer EIO, always.
const FAILING_DISK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int count;

static int resolved(int fd, char *path, size_t size)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return 1;
}

static int unreadable(int fd)
{
    char path[4096];
    const char *on = getenv("READ_FAILS_ON");
    return on && *on && resolved(fd, path, sizeof path) && strstr(path, on);
}

static int judged(int fd, const char *name)
{
    char path[4096], line[4300];
    const char *below = getenv("SYNC_FAILS_BELOW"), *at = getenv("SYNC_FAILS_AT"), *book = getenv("SYNC_BOOK");
    struct stat found;
    if (!below || !at || !book) return 0;
    if (!resolved(fd, path, sizeof path) || fstat(fd, &found)) return 0;
    if (!strstr(path, below)) return 0;
    int fails = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST) == atoi(at);
    int written = snprintf(line, sizeof line, "%s %s %lu %s\n", fails ? "failed" : "passed", name,
                           (unsigned long)found.st_ino, path);
    int out = open(book, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (out >= 0) { if (write(out, line, written) < 0) {} close(out); }
    return fails;
}

int fsync(int fd)
{
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    if (judged(fd, "fsync")) { errno = EIO; return -1; }
    return real(fd);
}

int fdatasync(int fd)
{
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (judged(fd, "fdatasync")) { errno = EIO; return -1; }
    return real(fd);
}

ssize_t read(int fd, void *to, size_t size)
{
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    if (unreadable(fd)) { errno = EIO; return -1; }
    return real(fd, to, size);
}

ssize_t pread64(int fd, void *to, size_t size, off64_t at)
{
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real) real = (ssize_t (*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
    if (unreadable(fd)) { errno = EIO; return -1; }
    return real(fd, to, size, at);
}
"#;

/// A sync that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    pub has_failed: bool,
    pub inode: u64,
    pub path: String,
}

impl FailingDisk {
    /// `None`, said loudly, where there is no C compiler.
    pub fn build() -> Option<Self> {
        let made = || -> anyhow::Result<Self> {
            let folder = tempfile::Builder::new().prefix("strongroom-shim-").tempdir()?;
            let source = folder.path().join("disk.c");
            fs::write(&source, FAILING_DISK)?;
            let library = folder.path().join("disk.so");
            let options = ["-shared", "-fPIC", "-O1", "-o"].map(OsStr::new);
            run("cc", options.into_iter().chain([library.as_os_str(), source.as_os_str(), "-ldl".as_ref()]))?;
            Ok(Self { folder })
        };
        match made() {
            Ok(made) => Some(made),
            Err(error) => {
                skip::missing("cc", &format!("what fails like a disk is compiled: {error:#}"));
                None
            }
        }
    }

    /// The program's environment when reads of files whose path holds `part` fail.
    pub fn unreadable(&self, part: &str) -> Vec<(String, String)> {
        vec![self.preloaded(), ("READ_FAILS_ON".to_owned(), part.to_owned())]
    }

    fn preloaded(&self) -> (String, String) {
        ("LD_PRELOAD".to_owned(), self.folder.path().join("disk.so").display().to_string())
    }

    /// The program's environment when its n-th sync below a folder fails, counted from 1; 0 fails
    /// none. The book is begun anew.
    pub fn unsynced(&self, below: &Path, at: usize) -> Vec<(String, String)> {
        let _ = fs::remove_file(self.book());
        let text = |path: &Path| path.display().to_string();
        vec![
            self.preloaded(),
            ("SYNC_FAILS_BELOW".to_owned(), text(below)),
            ("SYNC_FAILS_AT".to_owned(), at.to_string()),
            ("SYNC_BOOK".to_owned(), text(&self.book())),
        ]
    }

    fn book(&self) -> PathBuf {
        self.folder.path().join("book")
    }

    /// The syncs since the book was begun.
    pub fn syncs(&self) -> Vec<Sync> {
        let book = fs::read_to_string(self.book()).unwrap_or_default();
        let parse = |line: &str| {
            let mut words = line.splitn(4, ' ');
            let (verdict, _call) = (words.next()?, words.next()?);
            Some(Sync {
                has_failed: verdict == "failed",
                inode: words.next()?.parse().ok()?,
                path: words.next()?.to_owned(),
            })
        };
        book.lines().filter_map(parse).collect()
    }
}
