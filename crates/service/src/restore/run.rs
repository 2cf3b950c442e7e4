//! Runs a restore: prepares every file, streams the missing segments over a few connections,
//! makes them durable, and lets the engine finish.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

use strongroom_core::engine::{BackupFacts, CancelToken, Engine, RestoreOrder};
use strongroom_core::member::MemberPath;
use strongroom_core::progress::Progress;
use strongroom_core::{Error, ErrorKind, Result, Retry};
use strongroom_repository::{FrameBody, SEGMENT_SIZE_BYTES};

use super::journal::{self, Journal};
use super::plan::{RestoreOptions, RestorePlan, TargetState, check_room};
use super::target::{Target, TargetFile};
use super::{ContentSource, MemberInfo};
use crate::content::ContentEvent;

/// Bytes asked for in one request, and made durable together: one sync of the file system costs
/// far less than one of each small file. A kill loses at most one batch a connection.
const BATCH_BYTES: u64 = 256 << 20;
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
    paths: HashMap<u64, MemberPath>,
    batches: Mutex<VecDeque<Vec<(u64, u32)>>>,
    journal: Mutex<Journal>,
    progress: &'a Progress,
    cancel: &'a CancelToken,
    failed: Mutex<Option<Error>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread of a restore panics while it holds a lock")
}

/// Restores a backup as planned. The same call after a kill goes on where it stopped.
pub fn run(
    source: &dyn ContentSource,
    plan: &RestorePlan,
    options: &RestoreOptions,
    manifest_digest: &str,
    facts: &BackupFacts,
    engine: &dyn Engine,
    (progress, cancel): (&Progress, &CancelToken),
) -> Result<Restored> {
    check_room(plan)?;
    let target = Target::open(plan)?;
    let tablespaces: Vec<(String, String)> = plan
        .tablespaces
        .iter()
        .map(|space| (space.id.clone(), space.target.to_string_lossy().into_owned()))
        .collect();
    let (journal, done) = match plan.state {
        TargetState::Resumable => Journal::resume(&plan.target, &tablespaces)?,
        TargetState::Absent | TargetState::Empty => {
            (Journal::begin(&plan.target, manifest_digest, tablespaces)?, HashSet::new())
        }
    };
    progress.set_phase("preparing");
    let members = prepare(source, &target, &done)?;
    progress.set_total(members.iter().map(|member| member.size).sum());
    progress.set_done(done.iter().filter_map(|wanted| segment_bytes(&members, *wanted)).sum());
    progress.set_phase("restoring");
    let shared = Shared {
        source,
        target: &target,
        paths: members.iter().map(|member| (member.index, member.path.clone())).collect(),
        batches: Mutex::new(batches(&members, &done)),
        journal: Mutex::new(journal),
        progress,
        cancel,
        failed: Mutex::new(None),
    };
    stream_all(&shared, options.streams.max(1))?;
    progress.set_phase("finishing");
    for member in &members {
        target.finish(member)?;
    }
    target.sync()?;
    let order = RestoreOrder {
        target: &plan.target,
        facts,
        tablespaces: &plan.tablespace_dirs(),
        port: options.port,
    };
    let notes = engine.finish_restore(&order)?;
    target.sync()?;
    journal::remove(&plan.target)?;
    Ok(Restored {
        members: members.len() as u64,
        bytes: members.iter().map(|member| member.size).sum(),
        resumed: plan.state == TargetState::Resumable,
        notes,
    })
}

/// Makes every file and directory; answers the members that are written here.
fn prepare(
    source: &dyn ContentSource,
    target: &Target,
    done: &HashSet<(u64, u32)>,
) -> Result<Vec<MemberInfo>> {
    let mut members = Vec::new();
    source.members(&mut |member| {
        // A file with durable segments was made by the first run.
        let begun = done.contains(&(member.index, 0));
        if begun || target.prepare(&member)? {
            members.push(member);
        }
        Ok(())
    })?;
    Ok(members)
}

fn segment_bytes(members: &[MemberInfo], (member, segment): (u64, u32)) -> Option<u64> {
    let at = members.binary_search_by_key(&member, |known| known.index).ok()?;
    let start = u64::from(segment) * SEGMENT_SIZE_BYTES;
    Some(members[at].size.saturating_sub(start).min(SEGMENT_SIZE_BYTES))
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

fn stream_all(shared: &Shared<'_>, streams: usize) -> Result<()> {
    std::thread::scope(|scope| {
        for _ in 0..streams {
            scope.spawn(|| stream(shared));
        }
    });
    shared.cancel.check()?;
    match lock(&shared.failed).take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// One connection: takes batches until none is left or somebody failed.
fn stream(shared: &Shared<'_>) {
    loop {
        if lock(&shared.failed).is_some() || shared.cancel.check().is_err() {
            return;
        }
        let Some(mut batch) = lock(&shared.batches).pop_front() else { return };
        let mut tries = 1;
        while let Err(error) = write_batch(shared, &mut batch) {
            let again = error.retry() == Retry::Later
                && matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Damage)
                && tries < TRIES_MAX;
            if !again || batch.is_empty() {
                *lock(&shared.failed) = Some(error);
                return;
            }
            tries += 1;
            std::thread::sleep(std::time::Duration::from_millis(200 << tries));
        }
    }
}

/// Writes one batch. What became durable is taken out of it, so that a retry asks for the rest.
fn write_batch(shared: &Shared<'_>, batch: &mut Vec<(u64, u32)>) -> Result<()> {
    let wanted = batch.clone();
    let mut open: Option<(u64, TargetFile)> = None;
    let mut finished: Vec<(u64, u32)> = Vec::new();
    let mut ended = false;
    let streamed = shared.source.content(&wanted, &mut |event| {
        shared.cancel.check()?;
        match event {
            ContentEvent::Frame(frame) => {
                if open.as_ref().is_none_or(|(member, _)| *member != frame.member) {
                    open = Some((frame.member, shared.target.writer(path_of(shared, frame.member)?)?));
                }
                let (_, file) = open.as_ref().expect("it was opened just now");
                let length = match &frame.body {
                    FrameBody::Data(data) => {
                        file.write_at(data, frame.offset)?;
                        data.len() as u64
                    }
                    FrameBody::Fill { byte, length } => {
                        file.fill_at(*byte, *length, frame.offset)?;
                        *length
                    }
                };
                shared.progress.add_done(length);
            }
            ContentEvent::SegmentEnd { member, segment } => finished.push((member, segment)),
            ContentEvent::End { segments } => ended = segments == wanted.len() as u64,
        }
        Ok(())
    });
    note_done(shared, batch, &mut finished)?;
    streamed?;
    if !ended || !batch.is_empty() {
        return Err(Error::new(ErrorKind::Unavailable, "The server's answer was cut short.")
            .with_hint("run the same command again; what was restored so far is kept"));
    }
    Ok(())
}

fn note_done(shared: &Shared<'_>, batch: &mut Vec<(u64, u32)>, finished: &mut Vec<(u64, u32)>) -> Result<()> {
    if finished.is_empty() {
        return Ok(());
    }
    shared.target.sync()?;
    lock(&shared.journal).done(finished)?;
    let gone: HashSet<(u64, u32)> = finished.drain(..).collect();
    batch.retain(|segment| !gone.contains(segment));
    Ok(())
}

fn path_of<'a>(shared: &'a Shared<'_>, member: u64) -> Result<&'a MemberPath> {
    shared
        .paths
        .get(&member)
        .ok_or_else(|| Error::new(ErrorKind::Unavailable, "The server sent a file that was not asked for."))
}
