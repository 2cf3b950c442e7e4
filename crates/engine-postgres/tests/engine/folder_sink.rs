//! A sink that lays members out as a restore would, in a folder.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use strongroom_core::engine::{BackupFacts, BackupSink, MemberWriter, PatchWriter};
use strongroom_core::member::{Dedupe, Member, MemberKind, MemberPath};
use strongroom_core::parent::{MemberReader, ParentBackup, parent_unusable};
use strongroom_core::{Error, ErrorKind, Result};

pub(crate) struct FolderSink {
    root: PathBuf,
    /// Every member that was opened, and whether it was finished.
    members: Mutex<Vec<(Member, bool)>>,
    /// Waits a little at each write.
    is_slow: bool,
    room: AtomicU64,
    /// The folder whose files are patched.
    parent: Option<PathBuf>,
    patched: Mutex<Vec<Vec<u8>>>,
}

impl FolderSink {
    pub(crate) fn new(root: &Path) -> Self {
        fs::create_dir_all(root.join("data")).unwrap();
        Self {
            root: root.to_owned(),
            members: Mutex::new(Vec::new()),
            is_slow: false,
            room: AtomicU64::new(u64::MAX),
            parent: None,
            patched: Mutex::default(),
        }
    }

    /// Changes are those of the files in this folder.
    pub(crate) fn build_on(&mut self, parent: &Path) {
        self.parent = Some(parent.to_owned());
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Paths of members of which only changes came.
    pub(crate) fn patched(&self) -> Vec<String> {
        let patched = self.patched.lock().unwrap();
        patched.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
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
}

fn place(root: &Path, path: &MemberPath) -> PathBuf {
    let below = std::ffi::OsStr::from_bytes(path.below_root());
    match path.root() {
        b"wal" => root.join("data/pg_wal").join(below),
        folder => root.join(std::ffi::OsStr::from_bytes(folder)).join(below),
    }
}

impl BackupSink for FolderSink {
    fn open(&self, member: Member) -> Result<Box<dyn MemberWriter + '_>> {
        assert!(member.mode <= 0o777, "{:o}", member.mode);
        assert_eq!(member.dedupe == Dedupe::Never, member.path.root() == b"wal");
        let place = place(&self.root, &member.path);
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

    fn patch(&self, member: Member, kept: u64) -> Result<Box<dyn PatchWriter + '_>> {
        let parent = self.parent.as_ref().ok_or_else(|| parent_unusable("there is no folder"))?;
        let parent = File::open(place(parent, &member.path))
            .map_err(|_| parent_unusable("the folder has no such file"))?;
        assert_eq!(member.dedupe, Dedupe::Parent);
        let (size, target) = (member.size.unwrap(), place(&self.root, &member.path));
        let mut members = self.members.lock().unwrap();
        assert!(members.iter().all(|(known, _)| known.path != member.path), "{} twice", member.path);
        self.patched.lock().unwrap().push(member.path.as_bytes().to_vec());
        fs::create_dir_all(target.parent().unwrap()).map_err(Error::internal)?;
        let mut file = File::create_new(&target).map_err(Error::internal)?;
        file.set_permissions(fs::Permissions::from_mode(member.mode)).map_err(Error::internal)?;
        std::io::copy(&mut parent.take(kept.min(size)), &mut file).map_err(Error::internal)?;
        file.set_len(size).map_err(Error::internal)?;
        members.push((member, false));
        Ok(Box::new(FolderPatch { sink: self, number: members.len() - 1, file, size, position: 0 }))
    }
}

struct FolderPatch<'s> {
    sink: &'s FolderSink,
    number: usize,
    file: File,
    size: u64,
    position: u64,
}

impl PatchWriter for FolderPatch<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        assert!(offset >= self.position && offset + bytes.len() as u64 <= self.size);
        self.position = offset + bytes.len() as u64;
        self.file.seek(SeekFrom::Start(offset)).map_err(Error::internal)?;
        self.file.write_all(bytes).map_err(Error::internal)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.sink.members.lock().unwrap()[self.number].1 = true;
        Ok(())
    }
}

/// An earlier backup in a folder.
pub(crate) struct FolderParent {
    root: PathBuf,
    facts: BackupFacts,
    distrusted: Mutex<Option<String>>,
}

impl FolderParent {
    pub(crate) fn new(root: &Path, facts: &BackupFacts) -> Self {
        Self { root: root.to_owned(), facts: facts.clone(), distrusted: Mutex::default() }
    }

    pub(crate) fn distrusted(&self) -> Option<String> {
        self.distrusted.lock().unwrap().clone()
    }
}

impl ParentBackup for FolderParent {
    fn facts(&self) -> &BackupFacts {
        &self.facts
    }

    fn open(&self, path: &MemberPath) -> Result<Option<Box<dyn MemberReader + '_>>> {
        match File::open(place(&self.root, path)) {
            Ok(file) => Ok(Some(Box::new(FolderFile(file)))),
            Err(_) => Ok(None),
        }
    }

    fn distrust(&self, reason: &str) -> Error {
        *self.distrusted.lock().unwrap() = Some(reason.to_owned());
        parent_unusable(reason)
    }
}

struct FolderFile(File);

impl MemberReader for FolderFile {
    fn next_piece(&mut self) -> Result<Option<Vec<u8>>> {
        let mut piece = vec![0; 100_000];
        let count = self.0.read(&mut piece).map_err(Error::internal)?;
        piece.truncate(count);
        Ok((count > 0).then_some(piece))
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
