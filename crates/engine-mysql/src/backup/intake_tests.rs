//! Files that grow, go, come and exchange their names, in a sink that keeps everything in memory.

use std::sync::Mutex;

use strongroom_core::engine::{MemberWriter, PatchWriter};
use strongroom_core::overwrite::ContentJudge;

use super::*;
use crate::clone::{Descriptor, made};
use crate::keyring::made as keyring_made;
use crate::page::PageState;

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// Files as they are at the end.
#[derive(Default)]
struct Memory {
    files: Mutex<Content>,
    folders: Mutex<Vec<Vec<u8>>>,
}

struct MemoryWriter<'m> {
    memory: &'m Memory,
    path: Vec<u8>,
    written: usize,
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    file.resize(file.len().max(end), 0);
    file[offset..end].copy_from_slice(bytes);
}

impl OverwriteWriter for MemoryWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> strongroom_core::Result<()> {
        put(self.memory.files.lock().unwrap().get_mut(&self.path).unwrap(), self.written, bytes);
        self.written += bytes.len();
        Ok(())
    }

    fn stored(self: Box<Self>) -> strongroom_core::Result<()> {
        Ok(())
    }
}

struct Folder;

struct Counting;

impl strongroom_core::time::Randomness for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for (byte, number) in bytes.iter_mut().zip(1..) {
            *byte = number;
        }
    }
}

impl MemberWriter for Folder {
    fn write(&mut self, _bytes: &[u8]) -> strongroom_core::Result<()> {
        panic!("folders take no bytes")
    }

    fn finish(self: Box<Self>) -> strongroom_core::Result<()> {
        Ok(())
    }
}

impl BackupSink for Memory {
    fn open(&self, member: Member) -> strongroom_core::Result<Box<dyn MemberWriter + '_>> {
        assert_eq!(member.kind, MemberKind::Directory);
        self.folders.lock().unwrap().push(member.path.as_bytes().to_vec());
        Ok(Box::new(Folder))
    }

    fn patch(&self, _member: Member, _kept: u64) -> strongroom_core::Result<Box<dyn PatchWriter + '_>> {
        panic!("nothing is patched")
    }

    fn overwritable(
        &self,
        member: Member,
        _judge: Option<std::sync::Arc<dyn ContentJudge>>,
    ) -> strongroom_core::Result<Box<dyn OverwriteWriter + '_>> {
        let path = member.path.as_bytes().to_vec();
        assert!(self.files.lock().unwrap().insert(path.clone(), Vec::new()).is_none(), "{}", member.path);
        Ok(Box::new(MemoryWriter { memory: self, path, written: 0 }))
    }

    fn overwrite(&self, path: &MemberPath, offset: u64, bytes: &[u8]) -> strongroom_core::Result<()> {
        let mut files = self.files.lock().unwrap();
        put(files.get_mut(path.as_bytes()).unwrap(), usize::try_from(offset).unwrap(), bytes);
        Ok(())
    }

    fn extend(&self, path: &MemberPath, size: u64) -> strongroom_core::Result<()> {
        let mut files = self.files.lock().unwrap();
        let file = files.get_mut(path.as_bytes()).unwrap();
        file.resize(file.len().max(usize::try_from(size).unwrap()), 0);
        Ok(())
    }

    fn rename(&self, from: &MemberPath, to: &MemberPath) -> strongroom_core::Result<()> {
        let mut files = self.files.lock().unwrap();
        let content = files.remove(from.as_bytes()).unwrap();
        assert!(files.insert(to.as_bytes().to_vec(), content).is_none(), "{to} twice");
        Ok(())
    }

    fn discard(&self, path: &MemberPath) -> strongroom_core::Result<()> {
        assert!(self.files.lock().unwrap().remove(path.as_bytes()).is_some(), "{path}");
        Ok(())
    }

    fn settle(&self) -> strongroom_core::Result<()> {
        Ok(())
    }
}

const RENAMED: u16 = 1 << 3;
const DELETED: u16 = 1 << 4;

fn with_intake(act: impl FnOnce(&mut Intake<'_>)) -> Content {
    let (memory, progress) = (Memory::default(), Progress::new());
    let shape = Shape {
        system_files: vec![b"ibdata1".to_vec()],
        began_s: 7,
        page_size_bytes: 16_384,
        findings: Arc::default(),
        keyring: Keyring::generate(&Counting),
    };
    act(&mut Intake::new(&memory, &progress, shape));
    memory.files.into_inner().unwrap()
}

fn tell(intake: &mut Intake<'_>, during: Phase, file: made::File<'_>) -> Result<()> {
    let bytes = made::file(file);
    let Descriptor::File(file) = Descriptor::parse(&bytes).unwrap() else { panic!("no file") };
    intake.file(during, &file)
}

fn begin(intake: &mut Intake<'_>, phase: Phase) {
    let bytes = made::state(phase, 1, 2, 1, 100);
    let Descriptor::State(state) = Descriptor::parse(&bytes).unwrap() else { panic!("no state") };
    intake.begin(&state).unwrap();
}

fn bring(intake: &mut Intake<'_>, phase: Phase, file: u32, offset: u64, bytes: &[u8]) -> Result<()> {
    let data = DataDescriptor {
        phase,
        chunk: file + 1,
        block: 1,
        file,
        length: u32::try_from(bytes.len()).unwrap(),
        offset,
        file_size: 0,
    };
    intake.data(&data, bytes)
}

fn table(index: u32, name: &'static str) -> made::File<'static> {
    made::File {
        phase: Phase::File,
        size: 100,
        space_flags: 0x4021,
        flags: 0,
        space_id: index + 10,
        index,
        chunks: (index + 1, index + 1),
        name,
    }
}

#[test]
fn b06_files_that_go_come_and_exchange_their_names_while_they_are_copied() {
    let files = with_intake(|intake| {
        begin(intake, Phase::File);
        for (index, name) in
            ["./a/one.ibd", "./a/two.ibd", "./a/gone.ibd", "./a/early.ibd"].into_iter().enumerate()
        {
            tell(intake, Phase::File, table(u32::try_from(index).unwrap(), name)).unwrap();
        }
        bring(intake, Phase::File, 0, 0, b"one").unwrap();
        // One goes before anything of it came, one in its middle, and is told once more at the end.
        tell(intake, Phase::File, made::File { flags: DELETED, ..table(3, "./a/early.ibd") }).unwrap();
        bring(intake, Phase::File, 3, 0, b"late").unwrap();
        bring(intake, Phase::File, 1, 0, b"two").unwrap();
        bring(intake, Phase::File, 2, 0, b"go").unwrap();
        tell(intake, Phase::File, made::File { flags: DELETED, ..table(2, "./a/gone.ibd") }).unwrap();
        bring(intake, Phase::File, 2, 2, b"ne").unwrap();
        intake.end(Phase::File).unwrap();
        let next = |index, name, flags| made::File { phase: Phase::Page, flags, ..table(index, name) };
        tell(intake, Phase::File, next(2, "./a/gone.ibd", DELETED)).unwrap();
        tell(intake, Phase::File, next(0, "./a/two.ibd", RENAMED)).unwrap();
        tell(intake, Phase::File, next(1, "./b/one.ibd", RENAMED)).unwrap();
        tell(intake, Phase::File, next(4, "./a/one.ibd", 0)).unwrap();
        begin(intake, Phase::Page);
        bring(intake, Phase::Page, 0, 1, b"N").unwrap();
        bring(intake, Phase::Page, 2, 0, b"x").unwrap();
        intake.end(Phase::Page).unwrap();
        begin(intake, Phase::Redo);
        intake.finish().unwrap();
        assert_eq!(intake.counts.files, 5);
    });
    let names: Vec<&[u8]> = files.keys().map(Vec::as_slice).collect();
    assert_eq!(names, [&b"data/a/one.ibd"[..], b"data/a/two.ibd", b"data/b/one.ibd"]);
    assert_eq!(
        (&files[&b"data/a/two.ibd"[..]][..4], &files[&b"data/b/one.ibd"[..]][..4]),
        (&b"oNe\0"[..], &b"two\0"[..])
    );
    let born = &files[&b"data/a/one.ibd"[..]];
    assert_eq!((born.len(), &born[34..38]), (7 * 16_384, &[0, 0, 0, 14][..]));
}

#[test]
fn the_log_comes_in_any_order_and_has_its_length() {
    let files = with_intake(|intake| {
        begin(intake, Phase::File);
        begin(intake, Phase::Page);
        begin(intake, Phase::Redo);
        let log = made::File { phase: Phase::Redo, size: 100_000, ..table(0, "") };
        tell(intake, Phase::Redo, log).unwrap();
        tell(intake, Phase::Redo, log).unwrap();
        bring(intake, Phase::Redo, 0, 2048, b"log").unwrap();
        bring(intake, Phase::Redo, 0, 2051, b"more").unwrap();
        bring(intake, Phase::Redo, 0, 0, b"head").unwrap();
        intake.end(Phase::Redo).unwrap();
        intake.finish().unwrap();
        assert_eq!(intake.counts.redo_bytes, 11);
    });
    let log = &files[&b"data/#innodb_redo/#ib_redo0"[..]];
    assert_eq!((log.len(), &log[..4], &log[2048..2055]), (100_000, &b"head"[..], &b"logmore"[..]));
}

#[test]
fn files_behind_an_extent_end_with_one() {
    let files = with_intake(|intake| {
        begin(intake, Phase::File);
        tell(intake, Phase::File, made::File { size: (1 << 20) + 1, ..table(0, "./a/large.ibd") }).unwrap();
        tell(intake, Phase::File, made::File { size: 114_688, ..table(1, "./a/small.ibd") }).unwrap();
        let pool = made::File { size: 2_000_001, space_flags: u32::MAX, ..table(2, "ib_buffer_pool") };
        tell(intake, Phase::File, pool).unwrap();
        intake.end(Phase::File).unwrap();
        intake.finish().unwrap();
    });
    let sizes: Vec<usize> = files.values().map(Vec::len).collect();
    assert_eq!(sizes, [2 << 20, 114_688, 2_000_001]);
}

#[test]
fn h03_data_that_lies_about_its_place_is_refused() {
    with_intake(|intake| {
        begin(intake, Phase::File);
        tell(intake, Phase::File, table(0, "./a/one.ibd")).unwrap();
        assert!(tell(intake, Phase::File, table(5, "./a/one.ibd")).is_err(), "two of a name");
        let huge = made::File { size: limits::MEMBER_SIZE_BYTES_MAX + 1, ..table(6, "./a/huge.ibd") };
        assert!(tell(intake, Phase::File, huge).is_err());
        assert!(bring(intake, Phase::File, 9, 0, b"x").is_err(), "never told");
        assert!(bring(intake, Phase::File, 0, 100, b"x").is_err(), "behind the end");
        assert!(bring(intake, Phase::File, 0, u64::MAX, b"x").is_err());
        assert!(bring(intake, Phase::File, 0, 99, b"x").is_ok());
        let data = DataDescriptor {
            phase: Phase::File,
            chunk: 2,
            block: 1,
            file: 0,
            length: 1,
            offset: 0,
            file_size: 0,
        };
        assert!(intake.data(&data, b"x").is_err(), "another file's piece");
    });
}

#[test]
fn h03_a_clone_without_an_end_is_given_up() {
    with_intake(|intake| {
        begin(intake, Phase::File);
        tell(intake, Phase::File, made::File { size: 1 << 20, ..table(0, "./a/one.ibd") }).unwrap();
        intake.end(Phase::File).unwrap();
        begin(intake, Phase::Page);
        let page = vec![1; 1 << 20];
        let taken = (0..2_000).take_while(|_| bring(intake, Phase::Page, 0, 0, &page).is_ok()).count();
        assert!((250..300).contains(&taken), "{taken}");
    });
}

const ENCRYPTED: u32 = 0x4021 | 1 << 13;

fn secret(index: u32, name: &'static str) -> made::File<'static> {
    made::File { space_flags: ENCRYPTED, flags: 4, size: 114_688, ..table(index, name) }
}

#[test]
fn b14_an_encrypted_file_whose_key_does_not_come_is_refused_by_name() {
    with_intake(|intake| {
        begin(intake, Phase::File);
        tell(intake, Phase::File, secret(0, "./a/se`cret.ibd")).unwrap();
        bring(intake, Phase::File, 0, 0, &vec![7; 16_384]).unwrap();
        intake.end(Phase::File).unwrap();
        let Err(Fault::Domain(error)) = intake.finish() else { panic!("taken") };
        assert!(error.public().contains("a/se`cret.ibd"), "{}", error.public());
        assert_eq!(error.hint(), Some("ALTER TABLE `a`.`se``cret` ENCRYPTION = 'N';"));
    });
}

#[test]
fn b14_a_key_that_the_last_first_page_does_not_hold_is_none() {
    let (opened, _) = keyring_made::opened_page(16_384);
    let mut of_the_source = opened.clone();
    of_the_source[10_390 + 6] = 9;
    for (pages, is_whole) in [([&of_the_source, &opened], true), ([&opened, &of_the_source], false)] {
        with_intake(|intake| {
            begin(intake, Phase::File);
            tell(intake, Phase::File, secret(0, "./a/secret.ibd")).unwrap();
            bring(intake, Phase::File, 0, 0, pages[0]).unwrap();
            intake.end(Phase::File).unwrap();
            begin(intake, Phase::Page);
            bring(intake, Phase::Page, 0, 0, pages[1]).unwrap();
            assert_eq!(intake.finish().is_ok(), is_whole);
        });
    }
}

#[test]
fn b14_an_encrypted_log_whose_key_does_not_come_is_refused() {
    for is_sent in [false, true] {
        let files = with_intake(|intake| {
            begin(intake, Phase::File);
            intake.end(Phase::File).unwrap();
            begin(intake, Phase::Page);
            begin(intake, Phase::Redo);
            for index in [0, 1] {
                let log = made::File { flags: 4, size: 8192, name: "", chunks: (0, 0), ..table(index, "") };
                tell(intake, Phase::Redo, log).unwrap();
            }
            bring(intake, Phase::Redo, 1, 0, &[0; 4096]).unwrap();
            let header = if is_sent { keyring_made::opened_log_header() } else { vec![0; 2048] };
            bring(intake, Phase::Redo, 0, 0, &header).unwrap();
            match intake.finish() {
                Ok(()) => assert!(is_sent),
                Err(Fault::Domain(error)) => assert!(!is_sent && error.public().contains("the redo log")),
                Err(fault) => panic!("{fault:?}"),
            }
        });
        if is_sent {
            let log = &files[&b"data/#innodb_redo/#ib_redo0"[..]];
            assert!(log[1072..].starts_with(b"lCC\0\0\0\x01"));
            assert_eq!(log[1532..1536], crc32c::crc32c(&log[1024..1532]).to_be_bytes());
        }
    }
}

#[test]
fn b14_no_key_is_stored_as_it_came() {
    let (opened, key) = keyring_made::opened_page(16_384);
    let holds_key = |bytes: &[u8]| bytes.windows(32).any(|window| window == &key[..32]);
    for phase in [Phase::File, Phase::Page] {
        let mut fact = None;
        let files = with_intake(|intake| {
            begin(intake, Phase::File);
            tell(intake, Phase::File, secret(0, "./a/secret.ibd")).unwrap();
            let first = if phase == Phase::File { opened.clone() } else { vec![0; 16_384] };
            bring(intake, Phase::File, 0, 0, &[&first[..], &[1; 16_384]].concat()).unwrap();
            intake.end(Phase::File).unwrap();
            begin(intake, Phase::Page);
            if phase == Phase::Page {
                bring(intake, Phase::Page, 0, 0, &opened).unwrap();
            }
            // Made while the clone ran; its key is in its descriptor.
            tell(intake, Phase::Page, made::File { flags: 4 | 1 << 5, ..secret(1, "./a/new.ibd") }).unwrap();
            begin(intake, Phase::Redo);
            intake.finish().unwrap();
            fact = intake.keyring();
        });
        assert_eq!(fact.unwrap().files, 2);
        for name in ["secret", "new"] {
            let file = &files[format!("data/a/{name}.ibd").as_bytes()];
            assert!(!holds_key(file), "{name} {phase:?}");
            assert!(file[10_390..].starts_with(b"lCC\0\0\0\x01"), "{name} {phase:?}");
            let space_id = u32::from_be_bytes(file[34..38].try_into().unwrap());
            let shape = PageShape::of(16_384, space_id, ENCRYPTED, false).unwrap();
            assert_eq!(shape.look(&file[..16_384], 0), PageState::Sound, "{name} {phase:?}");
        }
    }
}
