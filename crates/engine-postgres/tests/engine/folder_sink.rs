//! A sink that lays members out as a restore would, in a folder.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use strongroom_core::engine::{BackupSink, MemberWriter};
use strongroom_core::member::{Dedupe, Member, MemberKind};
use strongroom_core::{Error, ErrorKind, Result};

pub(crate) struct FolderSink {
    root: PathBuf,
    /// Every member that was opened, and whether it was finished.
    members: Mutex<Vec<(Member, bool)>>,
    /// Waits a little at each write.
    is_slow: bool,
    room: AtomicU64,
}

impl FolderSink {
    pub(crate) fn new(root: &Path) -> Self {
        fs::create_dir_all(root.join("data")).unwrap();
        Self {
            root: root.to_owned(),
            members: Mutex::new(Vec::new()),
            is_slow: false,
            room: AtomicU64::new(u64::MAX),
        }
    }

    pub(crate) fn slow_down(&mut self) {
        self.is_slow = true;
    }

    /// Fails once so many bytes were written.
    pub(crate) fn fail_after(&mut self, bytes: u64) {
        self.room = AtomicU64::new(bytes);
    }

    pub(crate) fn members(&self) -> Vec<Member> {
        self.members.lock().unwrap().iter().map(|(member, _)| member.clone()).collect()
    }

    pub(crate) fn unfinished(&self) -> usize {
        let is_open = |(member, finished): &&(Member, bool)| member.kind == MemberKind::File && !finished;
        self.members.lock().unwrap().iter().filter(is_open).count()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn tablespace_dir(&self, id: &str) -> PathBuf {
        self.root.join("tablespace").join(id)
    }

    pub(crate) fn meta(&self, name: &str) -> Vec<u8> {
        fs::read(self.root.join("meta").join(name)).unwrap()
    }

    fn place(&self, member: &Member) -> PathBuf {
        let below = std::ffi::OsStr::from_bytes(member.path.below_root());
        match member.path.root() {
            b"wal" => self.root.join("data/pg_wal").join(below),
            root => self.root.join(std::ffi::OsStr::from_bytes(root)).join(below),
        }
    }
}

impl BackupSink for FolderSink {
    fn open(&self, member: Member) -> Result<Box<dyn MemberWriter + '_>> {
        assert!(member.mode <= 0o777, "{:o}", member.mode);
        assert_eq!(member.dedupe == Dedupe::Never, member.path.root() == b"wal");
        let place = self.place(&member);
        let size = member.size;
        let number = {
            let mut members = self.members.lock().unwrap();
            assert!(members.iter().all(|(known, _)| known.path != member.path), "{} twice", member.path);
            members.push((member.clone(), false));
            members.len() - 1
        };
        fs::create_dir_all(place.parent().unwrap()).map_err(Error::internal)?;
        let file = if member.kind == MemberKind::Directory {
            fs::create_dir_all(&place).map_err(Error::internal)?;
            fs::set_permissions(&place, fs::Permissions::from_mode(member.mode)).map_err(Error::internal)?;
            None
        } else {
            let file = File::create_new(&place).map_err(Error::internal)?;
            file.set_permissions(fs::Permissions::from_mode(member.mode)).map_err(Error::internal)?;
            Some(file)
        };
        Ok(Box::new(FolderWriter { sink: self, number, file, size, written: 0 }))
    }
}

struct FolderWriter<'s> {
    sink: &'s FolderSink,
    number: usize,
    file: Option<File>,
    size: Option<u64>,
    written: u64,
}

impl MemberWriter for FolderWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        if self.sink.is_slow {
            std::thread::park_timeout(Duration::from_millis(2));
        }
        let taken = self
            .sink
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(bytes.len() as u64));
        taken.map_err(|_| Error::new(ErrorKind::DiskFull, "The sink is full."))?;
        self.file.as_mut().expect("directories take no bytes").write_all(bytes).map_err(Error::internal)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        if let Some(size) = self.size {
            assert_eq!(self.written, size, "the announced size is kept");
        }
        self.sink.members.lock().unwrap()[self.number].1 = true;
        Ok(())
    }
}
