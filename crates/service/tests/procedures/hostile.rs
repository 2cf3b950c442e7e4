//! A source, a server or a neighbour that means harm: nothing is written outside the target, and
//! nothing that is not whole is called restored.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use strongroom_core::backup::BackupState;
use strongroom_core::member::MemberPath;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{Frame, FrameBody};
use strongroom_service::content::ContentEvent;
use strongroom_service::restore::{ContentSource, MemberInfo, TargetState};

use crate::engine::{directory, file};
use crate::restores::{Bench, Breaking, frame, read_tree};
use crate::room::Room;

fn killed() -> Error {
    Error::new(ErrorKind::Internal, "The command was killed.")
}

/// Names as a hostile source sends them: the job fails clearly, the next backup works.
#[tokio::test(flavor = "multi_thread")]
async fn h01_a_source_with_hostile_names_fails_its_job_clearly() {
    let room = Room::new().await;
    let good = room.engine.database();
    let long = [b"data/".as_slice(), &vec![b'x'; 5000]].concat();
    let names: [&[u8]; 9] = [
        b"../x",
        b"/etc/passwd",
        b"data/../../x",
        b"data//x",
        b"data/./x",
        b"data/x/",
        b"C:\\x",
        b"data/x\0y",
        &long,
    ];
    for (number, name) in names.into_iter().enumerate() {
        let mut database = good.clone();
        database.insert(name.to_vec(), file(b"evil".to_vec()));
        room.engine.set_database(database);
        let backup = room.ask(&format!("hostile-{number}")).await.unwrap();
        room.process().await.worker.run_due().await;
        let row = room.row(&backup).await.unwrap();
        assert_eq!(row.state, BackupState::Failed, "{}", name.escape_ascii());
        assert_eq!(row.failure.unwrap().code, "source_hostile");
        assert!(MemberPath::parse(name).is_err(), "nor can a restore be asked to write it");
    }
    assert!(room.sealed().is_empty() && room.open_attempts().is_empty());
    room.engine.set_database(good);
    room.assert_next_backup_works("after").await;
}

/// A source that was itself restored half-way holds a journal; it must not take the place of ours.
#[tokio::test(flavor = "multi_thread")]
async fn h01_a_member_called_like_the_journal_is_not_written() {
    let room = Room::new().await;
    let mut database = room.engine.database();
    database.insert(b"data/.strongroom-restore".to_vec(), file(b"{\"schema\":1}\n".to_vec()));
    room.engine.set_database(database.clone());
    let backup = room.completed("journal").await;
    let bench = Bench::of(room, backup).await;
    bench.run(&Breaking::new(&*bench.reader, 16, killed)).unwrap_err();
    assert_eq!(bench.plan().unwrap().state, TargetState::Resumable);
    bench.run(&*bench.reader).unwrap();
    assert!(!bench.target().join(".strongroom-restore").exists());
}

/// Whoever may write to the target plants links between two runs; the second run follows none.
#[tokio::test(flavor = "multi_thread")]
async fn h02_planted_links_lead_nowhere() {
    let plants: [(&str, &str); 4] =
        [("base", "outside"), ("base/1", "outside"), ("base/1/16384", "outside/file"), ("pg_wal", "outside")];
    for (at, to) in plants {
        for after in [14, 20] {
            let mut bench = Bench::new().await;
            let outside = bench.folder.path().join("outside");
            fs::create_dir(&outside).unwrap();
            fs::write(outside.join("file"), b"precious").unwrap();
            bench.options.target = bench.folder.path().join("target");
            bench.run(&Breaking::new(&*bench.reader, after, killed)).unwrap_err();
            let place = bench.target().join(at);
            let _ = fs::remove_file(&place);
            let _ = fs::remove_dir_all(&place);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            symlink(bench.folder.path().join(to), &place).unwrap();

            let refused = bench.run(&*bench.reader).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unavailable, "{at} {after}: {refused:?}");
            let left = read_tree(&outside);
            assert_eq!(left.len(), 1, "{at} {after}: {left:?}");
            assert_eq!(left[&b"file"[..]].content.as_deref(), Some(&b"precious"[..]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h02_a_file_in_the_place_of_a_directory_ends_the_restore() {
    let bench = Bench::new().await;
    bench.run(&Breaking::new(&*bench.reader, 9, killed)).unwrap_err();
    let base = bench.target().join("base");
    let _ = fs::remove_dir_all(&base);
    fs::write(&base, b"a file").unwrap();
    assert!(bench.run(&*bench.reader).is_err());
    assert_eq!(fs::read(&base).unwrap(), b"a file");
}

/// What a server sends beside, before or instead of what was asked for.
#[derive(Debug, Clone, Copy)]
enum Lie {
    /// A frame of a member that does not exist.
    StrangeMember,
    /// A frame of a segment that was not asked for.
    StrangeSegment,
    /// A frame far behind the end of the file.
    BehindTheEnd,
    /// The first frame of each segment is left out.
    Gap,
    /// One frame comes again in the place of the next one: the length is right.
    Again,
    /// Every frame comes twice.
    Twice,
    /// Segments end without their bytes.
    NoBytes,
    /// The stream says it is complete, and is not.
    EarlyEnd,
    /// The stream just stops.
    Silence,
}

/// Lies in its first answer.
struct Liar<'a>(&'a dyn ContentSource, Lie, AtomicBool);

impl ContentSource for Liar<'_> {
    fn members(&self, out: &mut dyn FnMut(MemberInfo) -> Result<()>) -> Result<()> {
        self.0.members(out)
    }

    fn content(
        &self,
        segments: &[(u64, u32)],
        out: &mut dyn FnMut(ContentEvent) -> Result<()>,
    ) -> Result<()> {
        if self.2.swap(true, Ordering::SeqCst) {
            return self.0.content(segments, out);
        }
        let (mut is_first, mut ended) = (true, 0);
        let first = segments[0];
        let mut before: Option<ContentEvent> = None;
        self.0.content(segments, &mut |event| {
            let again = before.replace(event.clone());
            match (&event, self.1) {
                (ContentEvent::Frame(_), Lie::NoBytes) | (ContentEvent::End { .. }, Lie::Silence) => {
                    return Ok(());
                }
                (ContentEvent::Frame(_), Lie::Gap) if is_first => {
                    is_first = false;
                    return Ok(());
                }
                (ContentEvent::Frame(now), Lie::Again) => {
                    if let Some(ContentEvent::Frame(again)) = again
                        && (again.member, again.segment) == (now.member, now.segment)
                        && length(&again) == length(now)
                    {
                        return out(ContentEvent::Frame(again));
                    }
                }
                (ContentEvent::Frame(_), Lie::Twice) => out(event.clone())?,
                (ContentEvent::Frame(_), Lie::StrangeMember) => out(frame(999, 0, 0, b"evil"))?,
                (ContentEvent::Frame(_), Lie::StrangeSegment) => out(frame(first.0, 7, 7 << 27, b"evil"))?,
                (ContentEvent::Frame(_), Lie::BehindTheEnd) => {
                    out(frame(first.0, first.1, 1 << 40, b"evil"))?;
                }
                (ContentEvent::SegmentEnd { .. }, Lie::EarlyEnd) if ended > 0 => return Ok(()),
                (ContentEvent::SegmentEnd { .. }, _) => (is_first, ended) = (true, ended + 1),
                _ => {}
            }
            out(event)
        })
    }
}

fn length(frame: &Frame) -> u64 {
    match &frame.body {
        FrameBody::Data(data) => data.len() as u64,
        FrameBody::Fill { length, .. } => *length,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s05_a_server_that_sends_something_else_restores_nothing_wrong() {
    let mut bench = Bench::new().await;
    for lie in [
        Lie::StrangeMember,
        Lie::StrangeSegment,
        Lie::BehindTheEnd,
        Lie::Gap,
        Lie::Again,
        Lie::Twice,
        Lie::NoBytes,
        Lie::EarlyEnd,
        Lie::Silence,
    ] {
        bench.options.target = bench.folder.path().join(format!("{lie:?}"));
        match bench.run(&Liar(&*bench.reader, lie, AtomicBool::new(false))) {
            // Every segment arrived whole all the same, or was asked for again.
            Ok(_) => bench.assert_restored(),
            Err(refused) => {
                assert_eq!(refused.kind(), ErrorKind::Unavailable, "{lie:?}: {refused:?}");
                assert!(!is_startable(bench.target()), "{lie:?}");
                assert!(bench.run(&*bench.reader).unwrap().resumed);
                bench.assert_restored();
            }
        }
    }
}

/// The engine finishes a directory only when everything is in its place.
fn is_startable(target: &Path) -> bool {
    fs::read(target.join("PG_VERSION")).is_ok_and(|content| content.ends_with(b"finished\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn h03_directories_and_files_of_one_name_end_the_restore() {
    let room = Room::new().await;
    let mut database = room.engine.database();
    // The writer takes each path once; one may still stand above another.
    database.insert(b"data/odd".to_vec(), file(b"a file".to_vec()));
    database.insert(b"data/odd/below".to_vec(), directory());
    room.engine.set_database(database);
    let backup = room.ask("odd-names").await.unwrap();
    room.process().await.worker.run_due().await;
    if room.state(&backup).await == Some(BackupState::Completed) {
        let row = room.row(&backup).await.unwrap();
        let bench = Bench::of(room, row).await;
        assert!(bench.run(&*bench.reader).is_err());
        assert!(!is_startable(bench.target()));
    }
}
