//! A database that plays what a test tells it, and writes real members into the real writer.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use strongroom_core::engine::{
    BackupFacts, BackupOrder, BackupSink, CancelToken, CheckLine, DrillOrder, DrillReport, Engine,
    EngineKind, Probe, RestoreOrder, Source, SourceIdentity, StartedServer, TableCount, Tablespace,
};
use strongroom_core::logs::{LogOrder, LogSink};
use strongroom_core::member::{Dedupe, Member, MemberKind, MemberPath};
use strongroom_core::parent::{ParentBackup, ParentOffer, Reading};
use strongroom_core::{Error, ErrorKind, Result};

use strongroom_testkit::store::Gate;

use crate::source_log::SourceLog;

/// A file or a directory of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// `None` is a directory.
    pub(crate) content: Option<Vec<u8>>,
    pub(crate) mode: u32,
    pub(crate) mtime_s: i64,
}

/// A database: what it holds, by member path.
pub(crate) type Database = BTreeMap<Vec<u8>, Node>;

pub(crate) fn file(content: Vec<u8>) -> Node {
    Node { content: Some(content), mode: 0o600, mtime_s: 1_700_000_000 }
}

pub(crate) fn directory() -> Node {
    Node { content: None, mode: 0o700, mtime_s: 1_600_000_000 }
}

/// Bytes that look like a table: compressible, and different for each seed.
pub(crate) fn pages(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|at| {
            if at % 4 == 0 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as u8
            } else {
                (at / 512) as u8
            }
        })
        .collect()
}

pub(crate) const TABLE: &[u8] = b"data/base/1/16384";

pub(crate) fn small_database() -> Database {
    Database::from([
        (b"data/PG_VERSION".to_vec(), file(b"15\n".to_vec())),
        (b"data/base".to_vec(), directory()),
        (TABLE.to_vec(), file(pages(1, 300_000))),
        (b"data/base/1/16385".to_vec(), file(vec![0; 200_000])),
        (b"data/base/1/empty".to_vec(), file(Vec::new())),
        (b"data/base/\xff\xfe".to_vec(), file(pages(3, 1000))),
        (b"data/pg_notify".to_vec(), directory()),
        (b"meta/settings".to_vec(), file(b"kept beside".to_vec())),
        (b"wal/000000010000000000000001".to_vec(), file(pages(4, 40_000))),
    ])
}

/// What the engine does in one call.
#[derive(Debug)]
pub(crate) enum Act {
    Whole,
    /// Fails after this many members.
    FailAfter(usize, Error),
    /// Panics after this many members.
    PanicAfter(usize),
    /// Stalls after one member until it is asked to stop.
    StallUntilStopped,
    /// Stands still after one member and then goes on as if nothing had been, deaf to every wish.
    Stand(Arc<Gate>),
    /// Answers without having written everything it opened.
    LeaveOpen,
    /// Sends of the table only what changed since the parent, when one is offered.
    Changes,
}

/// What the engine does in a drill, after it has started its server.
#[derive(Debug)]
pub(crate) enum DrillAct {
    /// Looks at the files as they are.
    Look,
    /// Stalls until it is asked to stop.
    Stall,
    /// Stands still, deaf to every wish.
    Stand(Arc<Gate>),
    Fail(Error),
    Panic,
}

#[derive(Debug)]
pub(crate) struct ScriptedEngine {
    drills: Mutex<VecDeque<DrillAct>>,
    /// No server of the version is installed.
    pub(crate) has_no_server: AtomicBool,
    database: Mutex<Database>,
    script: Mutex<VecDeque<Act>>,
    calls: AtomicUsize,
    /// Calls of `finish_restore` that fail after they changed the directory.
    pub(crate) bad_finishes: AtomicUsize,
    pub(crate) tablespaces: Mutex<Vec<Tablespace>>,
    probe_error: Mutex<Option<fn() -> Error>>,
    pub(crate) log: SourceLog,
}

pub(crate) fn identity() -> SourceIdentity {
    SourceIdentity {
        engine: EngineKind::PostgreSql,
        version: "15.18".to_owned(),
        system_identifier: "7300000000000000001".to_owned(),
    }
}

impl ScriptedEngine {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            drills: Mutex::default(),
            has_no_server: AtomicBool::new(false),
            database: Mutex::new(small_database()),
            script: Mutex::default(),
            calls: AtomicUsize::new(0),
            bad_finishes: AtomicUsize::new(0),
            tablespaces: Mutex::default(),
            probe_error: Mutex::default(),
            log: SourceLog::default(),
        })
    }

    /// What the coming calls do; after them every call is whole.
    pub(crate) fn play(&self, acts: impl IntoIterator<Item = Act>) {
        *self.script.lock().unwrap() = acts.into_iter().collect();
    }

    /// What the coming drills do; after them each looks.
    pub(crate) fn play_drills(&self, acts: impl IntoIterator<Item = DrillAct>) {
        *self.drills.lock().unwrap() = acts.into_iter().collect();
    }

    /// What looking at the source fails with.
    pub(crate) fn fail_probes(&self, error: Option<fn() -> Error>) {
        *self.probe_error.lock().unwrap() = error;
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn database(&self) -> Database {
        self.database.lock().unwrap().clone()
    }

    pub(crate) fn set_database(&self, database: Database) {
        *self.database.lock().unwrap() = database;
    }

    /// Changes a few rows.
    pub(crate) fn touch(&self, seed: u8) {
        let mut database = self.database.lock().unwrap();
        let table = database.get_mut(TABLE).and_then(|node| node.content.as_mut()).unwrap();
        for at in (500..table.len()).step_by(65_536) {
            table[at..at + 20].fill(seed);
        }
    }

    fn write(sink: &dyn BackupSink, path: &[u8], node: &Node, is_last: bool) -> Result<()> {
        let mut writer = sink.open(Member {
            path: MemberPath::parse(path)?,
            kind: if node.content.is_some() { MemberKind::File } else { MemberKind::Directory },
            size: node.content.as_ref().map(|content| content.len() as u64),
            mode: node.mode,
            mtime_s: node.mtime_s,
            page_size: 0,
            dedupe: if path.starts_with(b"wal/") { Dedupe::Never } else { Dedupe::Parent },
        })?;
        for piece in node.content.iter().flat_map(|content| content.chunks(30_000)) {
            writer.write(piece)?;
        }
        if is_last { Ok(()) } else { writer.finish() }
    }
}

/// Compares the table with the parent's, block by block.
fn write_changes(sink: &dyn BackupSink, parent: &dyn ParentBackup, node: &Node) -> Result<Reading> {
    const BLOCK: usize = 512;
    let (path, content) = (MemberPath::parse(TABLE)?, node.content.as_deref().unwrap_or_default());
    let mut old = Vec::new();
    if let Some(mut file) = parent.open(&path)? {
        while let Some(piece) = file.next_piece()? {
            old.extend(piece);
        }
    }
    let member = Member {
        path,
        kind: MemberKind::File,
        size: Some(content.len() as u64),
        mode: node.mode,
        mtime_s: node.mtime_s,
        page_size: 0,
        dedupe: Dedupe::Parent,
    };
    let mut received_blocks = 0;
    let mut writer = sink.patch(member, old.len() as u64)?;
    for (number, block) in content.chunks(BLOCK).enumerate() {
        if old.chunks(BLOCK).nth(number) != Some(block) {
            writer.write_at((number * BLOCK) as u64, block)?;
            received_blocks += 1;
        }
    }
    writer.finish()?;
    Ok(Reading::BlockLists { since: "0/1".to_owned(), patched_files: 1, received_blocks })
}

/// The engine's promise: it looks at the token at least once a second.
fn stall(cancel: &CancelToken) -> Result<()> {
    let until = Instant::now() + Duration::from_mins(1);
    while Instant::now() < until {
        cancel.check()?;
        std::thread::park_timeout(Duration::from_millis(5));
    }
    Err(Error::internal("nobody asked the engine to stop"))
}

impl Engine for ScriptedEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::PostgreSql
    }

    fn probe(&self, _source: &Source, _cancel: &CancelToken) -> Result<Probe> {
        if let Some(error) = *self.probe_error.lock().unwrap() {
            return Err(error());
        }
        Ok(Probe { identity: Some(identity()), lines: Vec::new() })
    }

    fn backup(&self, order: &BackupOrder<'_>, sink: &dyn BackupSink) -> Result<BackupFacts> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        assert_eq!(order.identity, Some(&identity()));
        let act = self.script.lock().unwrap().pop_front().unwrap_or(Act::Whole);
        let database = self.database();
        order
            .progress
            .set_total(database.values().flat_map(|node| &node.content).map(|c| c.len() as u64).sum());
        let last = database.len() - 1;
        let mut reading = match order.parent {
            ParentOffer::Withheld(reason) => Reading::full(reason),
            ParentOffer::Offered(_) => Reading::full("nobody asked for changes"),
        };
        for (number, (path, node)) in database.iter().enumerate() {
            match &act {
                Act::FailAfter(members, _) | Act::PanicAfter(members) if *members == number => break,
                Act::StallUntilStopped if number == 1 => stall(order.cancel)?,
                Act::Stand(gate) if number == 1 => gate.stand(),
                _ => {}
            }
            if !matches!(act, Act::Stand(_)) {
                order.cancel.check()?;
            }
            if let (Act::Changes, ParentOffer::Offered(parent), TABLE) = (&act, order.parent, path.as_slice())
            {
                reading = write_changes(sink, parent, node)?;
                continue;
            }
            Self::write(sink, path, node, matches!(act, Act::LeaveOpen) && number == last)?;
        }
        match act {
            Act::FailAfter(_, error) => Err(error),
            Act::PanicAfter(_) => panic!("canary-of-a-panicking-engine"),
            Act::Whole | Act::StallUntilStopped | Act::Stand(_) | Act::LeaveOpen | Act::Changes => {
                Ok(BackupFacts {
                    identity: identity(),
                    engine: json!({ "tablespaces": *self.tablespaces.lock().unwrap() }),
                    warnings: vec!["A thing to know.".to_owned()],
                    damage: Vec::new(),
                    reading,
                    log: Some(self.log.point()),
                })
            }
        }
    }

    fn capture_logs(&self, order: &LogOrder<'_>, sink: &mut dyn LogSink) -> Result<Infallible> {
        self.log.capture(order, sink)
    }

    fn release_logs(&self, _source: &Source, _owner: &str, _cancel: &CancelToken) -> Result<()> {
        self.log.release()
    }

    fn probe_logs(&self, _source: &Source, _cancel: &CancelToken) -> Result<Vec<CheckLine>> {
        Ok(self.log.probe())
    }

    fn tablespaces(&self, facts: &BackupFacts) -> Result<Vec<Tablespace>> {
        serde_json::from_value(facts.engine["tablespaces"].clone()).map_err(Error::internal)
    }

    /// Like a real engine it changes files of the backup and may be told to do it again.
    fn finish_restore(&self, order: &RestoreOrder<'_>) -> Result<Vec<String>> {
        let version = order.target.join("PG_VERSION");
        let content = fs::read_to_string(&version).map_err(Error::internal)?;
        fs::write(&version, content.lines().next().unwrap_or_default().to_owned() + "\nfinished\n")
            .map_err(Error::internal)?;
        if self.bad_finishes.load(Ordering::SeqCst) > 0 {
            self.bad_finishes.fetch_sub(1, Ordering::SeqCst);
            return Err(Error::new(ErrorKind::Unavailable, "The engine was killed while it finished."));
        }
        Ok(vec!["A note of the engine.".to_owned()])
    }

    fn start_restored(&self, _target: &Path, _facts: &BackupFacts, _port: u16) -> Result<StartedServer> {
        Err(Error::internal("a scripted database does not start"))
    }

    fn drill_server(&self, _facts: &BackupFacts) -> Result<PathBuf> {
        if self.has_no_server.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::NotSupported, "No server of this version is installed.")
                .with_hint("install it"));
        }
        Ok("sleep".into())
    }

    /// Its server is a process that works in the directory, as the order demands, and does nothing.
    fn drill(&self, order: &DrillOrder<'_>) -> Result<DrillReport> {
        let begun = Instant::now();
        let mut command = Command::new(order.server);
        let mut server = command
            .arg("600")
            .current_dir(order.target)
            .stdin(Stdio::null())
            .spawn()
            .map_err(Error::internal)?;
        order.progress.set_phase("starting");
        let act = self.drills.lock().unwrap().pop_front().unwrap_or(DrillAct::Look);
        // An engine that is stopped may leave its server: the sandbox ends it.
        match act {
            DrillAct::Look => {}
            DrillAct::Stall => stall(order.cancel)?,
            DrillAct::Stand(gate) => gate.stand(),
            DrillAct::Fail(error) => return Err(error),
            DrillAct::Panic => panic!("canary-of-a-panicking-engine"),
        }
        let table = order.target.join("base/1/16384");
        let content = fs::read(&table).map_err(Error::internal)?;
        let finished = fs::read_to_string(order.target.join("PG_VERSION")).map_err(Error::internal)?;
        let mut report = DrillReport {
            server_version: "15.18".to_owned(),
            start: Some(begun.elapsed()),
            check: begun.elapsed(),
            databases: 1,
            tables: 1,
            rows: content.len() as u64 / 512,
            largest: vec![TableCount {
                database: "postgres".to_owned(),
                table: "public.t".to_owned(),
                rows: content.len() as u64 / 512,
            }],
            notes: vec!["Note: a note of the drill.".to_owned()],
            ..DrillReport::default()
        };
        if content != pages(1, content.len()) {
            report.failures.push("Table public.t of database postgres cannot be read.".to_owned());
        }
        if !finished.ends_with("finished\n") {
            report.unjudged.push("The directory was not finished.".to_owned());
        }
        server.kill().and_then(|()| server.wait()).map_err(Error::internal)?;
        Ok(report)
    }
}
