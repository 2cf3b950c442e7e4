//! A sink that lays members out as a restore would, in a folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strongroom_core::engine::{BackupSink, MemberWriter, PatchWriter};
use strongroom_core::member::{Dedupe, Member, MemberKind, MemberPath};
use strongroom_core::overwrite::{ContentJudge, OverwriteWriter};
use strongroom_core::{Error, ErrorKind, Result};

/// What the repository hands to a judge at once.
const PIECE_BYTES: usize = 128 << 10;

pub(crate) struct FolderSink {
    root: PathBuf,
    files: Mutex<BTreeMap<Vec<u8>, Arc<Entry>>>,
    folders: Mutex<Vec<Member>>,
    is_settled: Mutex<bool>,
    pause: Duration,
    room: AtomicU64,
}

struct Entry {
    member: Member,
    judge: Option<Arc<dyn ContentJudge>>,
    file: File,
    is_stored: Mutex<bool>,
    /// Behind this nothing was overwritten.
    overwritten: AtomicU64,
}

impl FolderSink {
    pub(crate) fn new(root: &Path) -> Self {
        fs::create_dir_all(root.join("data")).unwrap();
        Self {
            root: root.to_owned(),
            files: Mutex::default(),
            folders: Mutex::default(),
            is_settled: Mutex::default(),
            pause: Duration::ZERO,
            room: AtomicU64::new(u64::MAX),
        }
    }

    /// Waits so long for each mebibyte: single pages cost their share.
    pub(crate) fn slow_down(&mut self, pause: Duration) {
        self.pause = pause;
    }

    /// Fails once so many bytes were written.
    pub(crate) fn fail_after(&mut self, bytes: u64) {
        self.room = AtomicU64::new(bytes);
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn is_settled(&self) -> bool {
        *self.is_settled.lock().unwrap()
    }

    /// The files as they are called at the end.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.files.lock().unwrap().keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    fn place(&self, path: &MemberPath) -> PathBuf {
        self.root.join(std::ffi::OsStr::from_bytes(path.as_bytes()))
    }

    fn entry(&self, path: &MemberPath) -> Arc<Entry> {
        let files = self.files.lock().unwrap();
        Arc::clone(files.get(path.as_bytes()).unwrap_or_else(|| panic!("{path} was never opened")))
    }

    fn take_room(&self, bytes: usize) -> Result<()> {
        if !self.pause.is_zero() {
            let share = u32::try_from(bytes).unwrap_or(u32::MAX) >> 10;
            std::thread::park_timeout(self.pause * share / 1024);
        }
        let taken = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(bytes as u64));
        taken.map(|_| ()).map_err(|_| Error::new(ErrorKind::DiskFull, "The sink is full."))
    }
}

struct Folder;

impl MemberWriter for Folder {
    fn write(&mut self, _bytes: &[u8]) -> Result<()> {
        panic!("folders take no bytes")
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct FirstReading<'s> {
    sink: &'s FolderSink,
    entry: Arc<Entry>,
    written: u64,
}

impl OverwriteWriter for FirstReading<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.sink.take_room(bytes.len())?;
        assert!(
            self.entry.overwritten.load(Ordering::Relaxed) <= self.written,
            "what came later would be lost"
        );
        self.entry.file.write_all_at(bytes, self.written).map_err(Error::internal)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn stored(self: Box<Self>) -> Result<()> {
        *self.entry.is_stored.lock().unwrap() = true;
        Ok(())
    }
}

impl BackupSink for FolderSink {
    fn open(&self, member: Member) -> Result<Box<dyn MemberWriter + '_>> {
        assert_eq!(member.kind, MemberKind::Directory, "{}", member.path);
        fs::create_dir_all(self.place(&member.path)).map_err(Error::internal)?;
        self.folders.lock().unwrap().push(member);
        Ok(Box::new(Folder))
    }

    fn patch(&self, _member: Member, _kept: u64) -> Result<Box<dyn PatchWriter + '_>> {
        panic!("nothing is patched")
    }

    fn overwritable(
        &self,
        member: Member,
        judge: Option<Arc<dyn ContentJudge>>,
    ) -> Result<Box<dyn OverwriteWriter + '_>> {
        let is_redo = member.path.below_root().starts_with(b"#innodb_redo/");
        assert_eq!(member.dedupe == Dedupe::Never, is_redo);
        let place = self.place(&member.path);
        fs::create_dir_all(place.parent().unwrap()).map_err(Error::internal)?;
        let file = File::options().read(true).write(true).create_new(true).open(&place);
        let path = member.path.as_bytes().to_vec();
        let entry = Arc::new(Entry {
            member,
            judge,
            file: file.map_err(Error::internal)?,
            is_stored: Mutex::default(),
            overwritten: AtomicU64::new(0),
        });
        assert!(self.files.lock().unwrap().insert(path, Arc::clone(&entry)).is_none());
        Ok(Box::new(FirstReading { sink: self, entry, written: 0 }))
    }

    fn overwrite(&self, path: &MemberPath, offset: u64, bytes: &[u8]) -> Result<()> {
        self.take_room(bytes.len())?;
        let entry = self.entry(path);
        entry.overwritten.fetch_max(offset + bytes.len() as u64, Ordering::Relaxed);
        entry.file.write_all_at(bytes, offset).map_err(Error::internal)
    }

    fn extend(&self, path: &MemberPath, size: u64) -> Result<()> {
        let entry = self.entry(path);
        let length = entry.file.metadata().map_err(Error::internal)?.len();
        entry.file.set_len(length.max(size)).map_err(Error::internal)
    }

    fn rename(&self, from: &MemberPath, to: &MemberPath) -> Result<()> {
        let mut files = self.files.lock().unwrap();
        let entry = files.remove(from.as_bytes()).unwrap_or_else(|| panic!("{from} was never opened"));
        assert!(files.insert(to.as_bytes().to_vec(), entry).is_none(), "{to} twice");
        let place = self.place(to);
        fs::create_dir_all(place.parent().unwrap()).map_err(Error::internal)?;
        fs::rename(self.place(from), place).map_err(Error::internal)
    }

    fn discard(&self, path: &MemberPath) -> Result<()> {
        self.files
            .lock()
            .unwrap()
            .remove(path.as_bytes())
            .unwrap_or_else(|| panic!("{path} was never opened"));
        fs::remove_file(self.place(path)).map_err(Error::internal)
    }

    fn settle(&self) -> Result<()> {
        for (path, entry) in self.files.lock().unwrap().iter() {
            assert!(*entry.is_stored.lock().unwrap(), "{} was never stored", entry.member.path);
            let Some(judge) = &entry.judge else { continue };
            let path = MemberPath::parse(path)?;
            let length = usize::try_from(entry.file.metadata().map_err(Error::internal)?.len()).unwrap();
            for offset in (0..length).step_by(PIECE_BYTES) {
                let mut piece = vec![0; PIECE_BYTES.min(length - offset)];
                entry.file.read_exact_at(&mut piece, offset as u64).map_err(Error::internal)?;
                judge.judge(&path, offset as u64, &piece);
            }
        }
        *self.is_settled.lock().unwrap() = true;
        Ok(())
    }
}
