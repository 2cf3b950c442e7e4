//! Runs a restore: prepares every file, streams the missing segments over a few connections,
//! makes them durable, and lets the engine finish.

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use strongroom_core::engine::{BackupFacts, CancelToken, Engine, RestoreOrder};
use strongroom_core::progress::Progress;
use strongroom_core::{Error, ErrorKind, Result, Retry};
use strongroom_repository::{Frame, FrameBody, SEGMENT_SIZE_BYTES};

use super::file::{TargetFile, Writer};
use super::journal::{self, Done, Journal};
use super::plan::{RestoreOptions, RestorePlan, TargetState, check_room};
use super::target::Target;
use super::{ContentEvent, ContentSource, MemberInfo};

/// Bytes asked for in one request, at least one segment: small, so that the connections end at
/// about the same time. A kill loses what was not synced yet, a few batches.
const BATCH_BYTES: u64 = 64 << 20;
/// Segments in one request, for trees of many small files.
const BATCH_SEGMENTS: usize = 2_000;
/// How often a broken connection is tried again before the command gives up.
const TRIES_MAX: u32 = 5;

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    pub members: u64,
    pub bytes: u64,
    /// Went on with an earlier run.
    pub resumed: bool,
    /// What a person should know, from the engine.
    pub notes: Vec<String>,
}

struct Shared<'a> {
    source: &'a dyn ContentSource,
    target: &'a Target,
    members: &'a [MemberInfo],
    batches: Mutex<VecDeque<Vec<(u64, u32)>>>,
    journal: Mutex<Journal>,
    progress: &'a Progress,
    cancel: &'a CancelToken,
    failed: Mutex<Option<Error>>,
    /// Told when `failed` is set.
    has_failed: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread of a restore panics while it holds a lock")
}

/// Restores a backup as planned. Without an engine the files stay as they were backed up.
/// The same call after a kill goes on where it stopped.
pub fn run(
    source: &dyn ContentSource,
    plan: &RestorePlan,
    options: &RestoreOptions,
    manifest_digest: &str,
    facts: &BackupFacts,
    engine: Option<&dyn Engine>,
    (progress, cancel): (&Progress, &CancelToken),
) -> Result<Restored> {
    progress.set_phase("preparing");
    let members = members_of(source)?;
    if plan.state != TargetState::Resumable {
        check_room(&needed(plan, &members))?;
    }
    let bytes = members.iter().map(|member| member.size).sum();
    let (target, (mut journal, done)) = open(plan, manifest_digest, bytes)?;
    // From the moment the engine may have changed files they are not compared any more.
    if !done.finishing {
        let written = prepare(&target, members.clone(), &done)?;
        journal = write(source, &target, &written, (journal, &done), options, (progress, cancel))?;
        for member in &written {
            target.finish(member)?;
        }
        target.sync()?;
        journal.finishing()?;
    }
    progress.set_phase("finishing");
    let order = RestoreOrder {
        target: &plan.target,
        facts,
        tablespaces: &plan.tablespace_dirs(),
        port: options.port,
    };
    let notes = engine.map_or_else(|| Ok(Vec::new()), |engine| engine.finish_restore(&order))?;
    target.sync()?;
    journal::remove(&plan.target)?;
    let restored = members.iter().filter(|member| target.holds(member));
    let (count, bytes) = restored.fold((0, 0), |(count, bytes), member| (count + 1, bytes + member.size));
    Ok(Restored { members: count, bytes, resumed: plan.state == TargetState::Resumable, notes })
}

fn members_of(source: &dyn ContentSource) -> Result<Vec<MemberInfo>> {
    let mut members = Vec::new();
    source.members(&mut |member| {
        members.push(member);
        Ok(())
    })?;
    // Everything below looks members up by their index.
    if members.is_sorted_by(|a, b| a.index < b.index) {
        return Ok(members);
    }
    Err(Error::new(ErrorKind::Unavailable, "The server told the files of the backup out of order."))
}

/// Bytes that go to each directory of the plan.
fn needed<'a>(plan: &'a RestorePlan, members: &[MemberInfo]) -> Vec<(&'a Path, u64)> {
    let mut needed = vec![(plan.target.as_path(), 0)];
    needed.extend(plan.tablespaces.iter().map(|space| (space.target.as_path(), 0)));
    for member in members {
        let at = match member.path.root() {
            b"data" | b"wal" => Some(0),
            b"tablespace" => {
                let id = member.path.below_root().split(|byte| *byte == b'/').next().unwrap_or_default();
                plan.tablespaces.iter().position(|space| space.id.as_bytes() == id).map(|at| at + 1)
            }
            _ => None,
        };
        if let Some(at) = at {
            needed[at].1 += member.size;
        }
    }
    needed
}

/// Opens the target and its journal. A journal that is there is read before anything is made.
fn open(plan: &RestorePlan, manifest_digest: &str, bytes: u64) -> Result<(Target, (Journal, Done))> {
    let tablespaces: Vec<(String, String)> = plan
        .tablespaces
        .iter()
        .map(|space| (space.id.clone(), space.target.to_string_lossy().into_owned()))
        .collect();
    match plan.state {
        TargetState::Resumable => {
            let begun = Journal::resume(&plan.target, &tablespaces)?;
            Ok((Target::open(plan, bytes)?, begun))
        }
        TargetState::Absent | TargetState::Empty => {
            let target = Target::open(plan, bytes)?;
            let journal = Journal::begin(&plan.target, manifest_digest, tablespaces)?;
            Ok((target, (journal, Done::default())))
        }
    }
}

/// Makes every file and directory; answers the members that are written here.
fn prepare(target: &Target, mut members: Vec<MemberInfo>, done: &Done) -> Result<Vec<MemberInfo>> {
    members.retain(|member| target.holds(member));
    for member in &members {
        // A file with durable segments was made by the first run.
        if !done.segments.contains(&(member.index, 0)) {
            target.prepare(member)?;
        }
    }
    Ok(members)
}

/// Streams what is missing; gives the journal back when all of it is durable.
fn write(
    source: &dyn ContentSource,
    target: &Target,
    members: &[MemberInfo],
    (journal, done): (Journal, &Done),
    options: &RestoreOptions,
    (progress, cancel): (&Progress, &CancelToken),
) -> Result<Journal> {
    progress.set_total(members.iter().map(|member| member.size).sum());
    progress.set_done(done.segments.iter().filter_map(|wanted| segment_bytes(members, *wanted)).sum());
    progress.set_phase("restoring");
    let shared = Shared {
        source,
        target,
        members,
        batches: Mutex::new(batches(members, &done.segments)),
        journal: Mutex::new(journal),
        progress,
        cancel,
        failed: Mutex::new(None),
        has_failed: Condvar::new(),
    };
    stream_all(&shared, options.streams.max(1))?;
    Ok(shared.journal.into_inner().expect("no thread of a restore panics while it holds a lock"))
}

fn member_at(members: &[MemberInfo], index: u64) -> Option<&MemberInfo> {
    members.binary_search_by_key(&index, |known| known.index).ok().map(|at| &members[at])
}

fn segment_bytes(members: &[MemberInfo], (member, segment): (u64, u32)) -> Option<u64> {
    let start = u64::from(segment) * SEGMENT_SIZE_BYTES;
    Some(member_at(members, member)?.size.saturating_sub(start).min(SEGMENT_SIZE_BYTES))
}

/// The missing segments in file order, in requests of about equal size.
fn batches(members: &[MemberInfo], done: &HashSet<(u64, u32)>) -> VecDeque<Vec<(u64, u32)>> {
    let (mut out, mut batch, mut bytes) = (VecDeque::new(), Vec::new(), 0);
    for member in members {
        for segment in 0..member.segments {
            if done.contains(&(member.index, segment)) {
                continue;
            }
            batch.push((member.index, segment));
            bytes += segment_bytes(members, (member.index, segment)).unwrap_or(0);
            if bytes >= BATCH_BYTES || batch.len() >= BATCH_SEGMENTS {
                out.push_back(std::mem::take(&mut batch));
                bytes = 0;
            }
        }
    }
    if !batch.is_empty() {
        out.push_back(batch);
    }
    out
}

/// Connections that write, and this thread, which makes durable what they wrote.
fn stream_all(shared: &Shared<'_>, streams: usize) -> Result<()> {
    let (written, waiting) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..streams {
            let written = written.clone();
            let writer = Writer::beside(scope);
            scope.spawn(move || stream(shared, &written, writer));
        }
        drop(written);
        settle(shared, &waiting);
    });
    shared.cancel.check()?;
    match lock(&shared.failed).take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Syncs while the connections go on, and enters into the journal only what was written before
/// its sync began. One sync of the file system costs far less than one of each small file.
fn settle(shared: &Shared<'_>, waiting: &Receiver<Vec<(u64, u32)>>) {
    while let Ok(mut segments) = waiting.recv() {
        segments.extend(waiting.try_iter().flatten());
        let settled = shared.target.sync().and_then(|()| lock(&shared.journal).done(&segments));
        if let Err(error) = settled {
            return fail(shared, error);
        }
    }
}

/// The first failure is the one that is told.
fn fail(shared: &Shared<'_>, error: Error) {
    lock(&shared.failed).get_or_insert(error);
    shared.has_failed.notify_all();
}

/// One connection: takes batches until none is left or somebody failed.
fn stream(shared: &Shared<'_>, written: &Sender<Vec<(u64, u32)>>, mut writer: Writer) {
    loop {
        if lock(&shared.failed).is_some() || shared.cancel.check().is_err() {
            return;
        }
        let Some(mut batch) = lock(&shared.batches).pop_front() else { return };
        let mut tries = 1;
        while let Err(error) = write_batch(shared, &mut batch, written, &mut writer) {
            let again = error.retry() == Retry::Later
                && matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Damage)
                && tries < TRIES_MAX;
            if !again || batch.is_empty() {
                return fail(shared, error);
            }
            tries += 1;
            pause(shared, Duration::from_millis(200 << tries));
        }
    }
}

/// Waits, unless another connection fails or somebody cancels.
fn pause(shared: &Shared<'_>, duration: Duration) {
    let until = Instant::now() + duration;
    let mut failed = lock(&shared.failed);
    while failed.is_none() && shared.cancel.check().is_ok() && Instant::now() < until {
        let waited = shared.has_failed.wait_timeout(failed, Duration::from_millis(100));
        failed = waited.expect("no thread of a restore panics while it holds a lock").0;
    }
}

/// Writes one batch. What is written is taken out of it, so that a retry asks for the rest.
fn write_batch(
    shared: &Shared<'_>,
    batch: &mut Vec<(u64, u32)>,
    written: &Sender<Vec<(u64, u32)>>,
    writer: &mut Writer,
) -> Result<()> {
    writer.abandon();
    let mut intake = Intake::new(shared, batch, writer);
    let mut ended = false;
    let streamed = shared.source.content(batch, &mut |event| {
        shared.cancel.check()?;
        match event {
            ContentEvent::Frame(frame) => intake.frame(&frame)?,
            ContentEvent::SegmentEnd { member, segment } => intake.segment_end((member, segment))?,
            ContentEvent::End { segments } => ended = segments == batch.len() as u64,
        }
        Ok(())
    });
    // What a broken connection brought of an unfinished segment comes once more.
    let done = shared.progress.read().done_bytes;
    shared.progress.set_done(done.saturating_sub(intake.received));
    let gone: HashSet<(u64, u32)> = intake.finished.iter().copied().collect();
    batch.retain(|segment| !gone.contains(segment));
    if !gone.is_empty() {
        // Nobody waits there any more only when the restore has failed already.
        let _ = written.send(intake.finished);
    }
    streamed?;
    if !ended || !batch.is_empty() {
        return Err(cut_short());
    }
    Ok(())
}

/// Takes the events of one request, and only those that were asked for, whole.
struct Intake<'a> {
    shared: &'a Shared<'a>,
    wanted: HashSet<(u64, u32)>,
    open: Option<(u64, Arc<TargetFile>)>,
    writer: &'a mut Writer,
    /// The segment that is arriving, and how much of it is here.
    current: Option<(u64, u32)>,
    received: u64,
    finished: Vec<(u64, u32)>,
}

impl<'a> Intake<'a> {
    fn new(shared: &'a Shared<'a>, wanted: &[(u64, u32)], writer: &'a mut Writer) -> Self {
        Self {
            shared,
            wanted: wanted.iter().copied().collect(),
            open: None,
            writer,
            current: None,
            received: 0,
            finished: Vec::new(),
        }
    }

    fn frame(&mut self, frame: &Frame) -> Result<()> {
        let at = (frame.member, frame.segment);
        if self.current.is_some_and(|current| current != at) {
            return Err(cut_short());
        }
        self.current = Some(at);
        let start = u64::from(frame.segment) * SEGMENT_SIZE_BYTES;
        // Pieces come in order and without gaps: what is missing would stay zero in the file.
        if !self.wanted.contains(&at) || frame.offset != start + self.received {
            return Err(not_asked_for());
        }
        if self.open.as_ref().is_none_or(|(member, _)| *member != frame.member) {
            let member = member_at(self.shared.members, frame.member).ok_or_else(not_asked_for)?;
            self.open = Some((frame.member, Arc::new(self.shared.target.writer(member)?)));
        }
        let (_, file) = self.open.as_ref().expect("it was opened just now");
        let length = match &frame.body {
            FrameBody::Data(data) => data.len() as u64,
            FrameBody::Fill { length, .. } => *length,
        };
        let whole = segment_bytes(self.shared.members, at).unwrap_or(0);
        if self.received.checked_add(length).is_none_or(|received| received > whole) {
            return Err(not_asked_for());
        }
        match &frame.body {
            FrameBody::Data(data) => self.writer.write_at(file, data, frame.offset)?,
            FrameBody::Fill { byte, length } => self.writer.fill_at(file, *byte, *length, frame.offset)?,
        }
        self.received += length;
        self.shared.progress.add_done(length);
        Ok(())
    }

    fn segment_end(&mut self, at: (u64, u32)) -> Result<()> {
        let whole = segment_bytes(self.shared.members, at);
        if self.current.is_some_and(|current| current != at) || whole != Some(self.received) {
            return Err(cut_short());
        }
        if !self.wanted.remove(&at) {
            return Err(not_asked_for());
        }
        if let Some((_, file)) = &self.open {
            self.writer.flush(file)?;
        }
        self.finished.push(at);
        (self.current, self.received) = (None, 0);
        Ok(())
    }
}

fn cut_short() -> Error {
    Error::new(ErrorKind::Unavailable, "The server's answer was cut short.")
        .with_hint("run the same command again; what was restored so far is kept")
}

fn not_asked_for() -> Error {
    Error::new(ErrorKind::Unavailable, "The server sent something that was not asked for; it was not used.")
        .with_retry(Retry::Never)
        .with_hint("use a strongroom command of the same release as the server")
}
