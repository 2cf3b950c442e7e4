//! Writing log as it comes: what has gathered becomes a part, parts become bigger parts, and a file
//! that has ended becomes one object.
//!
//! ```text
//! write … flush  → part            create if absent, size looked at
//! 16 parts       → a bigger part   the same, then the parts go
//! end of file    → the whole       the same, then the parts go
//! ```
//!
//! Log is the same whoever reads it from the source: an object that is there already has the bytes that
//! were to be written, or something is wrong that must not be covered up.

use strongroom_core::logs::{LogPosition, LogRange, LogStream, LogStreamId};
use strongroom_core::{Error, ErrorKind, Result, limits};

use super::object::{ObjectWriter, Written};
use super::{Depth, Inventory, Walked, check_open, walk, write_about, write_open};
use crate::frame;
use crate::layout::{self, LogName};
use crate::lineage::Lineage;
use crate::record::{Codec, FULL_LEVEL};
use crate::store::Put;

/// Takes the log of one stream.
pub struct LogWriter {
    lineage: Lineage,
    id: LogStreamId,
    held: Option<LogRange>,
    /// Where the next byte belongs.
    position: LogPosition,
    /// What comes before it and is not durable yet; all of one file.
    waiting: Vec<u8>,
    /// The durable parts of the current file, one behind the other, as far as they are known.
    parts: Vec<Part>,
    codec: Codec,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    first: u64,
    length: u64,
    /// How often it was made of others; `None` is not made bigger any more.
    merged: Option<u32>,
}

impl LogWriter {
    pub(super) fn open(lineage: &Lineage, stream: &LogStream) -> Result<Self> {
        let (store, id) = (&*lineage.shared.store, &stream.id);
        // The mark comes first: nothing of a stream that has it goes before a backup stands on it.
        mark_open(lineage, id)?;
        say_about(lineage, stream)?;
        let inventory = Inventory::of_stream(lineage, id)?;
        for name in inventory.covered_parts() {
            store.delete(&layout::log(lineage.id(), id, name))?;
        }
        let held = inventory.ranges().pop();
        let position = held.map_or(LogPosition::start_of(0), |held| held.until);
        let parts = inventory.files.get(&position.file).map(|objects| {
            let gone = objects.covered();
            let kept = objects.parts.iter().filter(|(first, length, _)| !gone.contains(&(*first, *length)));
            kept.map(|(first, length, _)| Part { first: *first, length: *length, merged: Some(0) }).collect()
        });
        Ok(Self {
            lineage: lineage.clone(),
            id: id.clone(),
            held,
            position,
            waiting: Vec::new(),
            parts: parts.unwrap_or_default(),
            codec: Codec::new(FULL_LEVEL),
        })
    }

    /// The newest range without a gap, as it was found and has grown since.
    pub fn held(&self) -> Option<LogRange> {
        self.held
    }

    /// Up to where the stream is durable.
    pub fn durable(&self) -> LogPosition {
        LogPosition { offset: self.position.offset - self.waiting.len() as u64, ..self.position }
    }

    /// Bytes that are not durable yet.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.len()
    }

    /// The next bytes belong here: where the newest range ends, or else at the beginning of a file,
    /// where a new range begins.
    pub fn begin(&mut self, from: LogPosition) -> Result<()> {
        if !self.waiting.is_empty() {
            return Err(Error::internal("log that waits would be lost"));
        }
        if self.held.is_some_and(|held| held.until == from) {
            return Ok(());
        }
        if from.offset != 0 {
            return Err(Error::internal("a range of log begins at the beginning of a file"));
        }
        (self.position, self.parts, self.held) = (from, Vec::new(), None);
        Ok(())
    }

    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = limits::LOG_PART_BYTES_MAX - self.waiting.len();
            let (piece, rest) = bytes.split_at(bytes.len().min(room));
            self.waiting.extend_from_slice(piece);
            self.position.offset += piece.len() as u64;
            bytes = rest;
            if self.waiting.len() == limits::LOG_PART_BYTES_MAX && !bytes.is_empty() {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// All that was written is durable when this returns.
    pub fn flush(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (first, length) = (self.durable().offset, self.waiting.len() as u64);
        self.put(LogName::Part { file: self.position.file, first, length }, (first, first))?;
        self.waiting.clear();
        self.parts.push(Part { first, length, merged: Some(0) });
        self.has_grown(self.position);
        self.merge()
    }

    /// The current file ends here. Answers whether it is held whole; when not, because a part of it is
    /// damaged or was never there, the next file begins a new range.
    pub fn finish_file(&mut self) -> Result<bool> {
        let (file, length) = (self.position.file, self.position.offset);
        let next = file.checked_add(1).ok_or_else(|| Error::internal("the last file there is has ended"))?;
        let stored_until = self.durable().offset;
        let is_whole = match self.put(LogName::Whole { file, length }, (0, stored_until)) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::Damage => {
                tracing::error!(stream = %self.id, "A file of log cannot be stored whole: {}", error.public());
                self.flush()?;
                false
            }
            Err(error) => return Err(error),
        };
        if is_whole {
            self.waiting.clear();
            // Those that others made of the same file go with the next opening.
            for part in std::mem::take(&mut self.parts) {
                self.delete(part)?;
            }
        }
        self.parts.clear();
        self.position = LogPosition::start_of(next);
        if is_whole {
            self.has_grown(self.position);
        } else {
            self.held = None;
        }
        Ok(is_whole)
    }

    fn has_grown(&mut self, until: LogPosition) {
        let from = self.held.map_or(LogPosition::start_of(until.file), |held| held.from);
        // The first file of a range is whole: then its end is the beginning of the next.
        let is_first_whole = self.held.is_none() && until.offset == 0;
        let from = if is_first_whole { LogPosition::start_of(until.file - 1) } else { from };
        self.held = Some(LogRange { from, until });
    }

    /// Makes one part of the last ones, when there are enough of a size.
    fn merge(&mut self) -> Result<()> {
        while let Some(run) = self.parts.last_chunk::<{ limits::LOG_PARTS_MERGED }>().copied() {
            let is_row = run.windows(2).all(|pair| pair[0].first + pair[0].length == pair[1].first);
            let Some(merged) =
                run[0].merged.filter(|_| is_row && run.iter().all(|part| part.merged == run[0].merged))
            else {
                return Ok(());
            };
            let first = run[0].first;
            let length = run.iter().map(|part| part.length).sum();
            let name = LogName::Part { file: self.position.file, first, length };
            let at = self.parts.len() - run.len();
            match self.put(name, (first, first + length)) {
                Ok(()) => {}
                // It stays as it is, for a check to tell; so does what is beside it.
                Err(error) if error.kind() == ErrorKind::Damage => {
                    tracing::error!(stream = %self.id, "Parts of log are not put together: {}", error.public());
                    self.parts[at..].iter_mut().for_each(|part| part.merged = None);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            self.parts.truncate(at);
            self.parts.push(Part { first, length, merged: merged.checked_add(1) });
            for part in run {
                self.delete(part)?;
            }
        }
        Ok(())
    }

    fn delete(&self, part: Part) -> Result<()> {
        let Part { first, length, .. } = part;
        let name = LogName::Part { file: self.position.file, first, length };
        self.lineage.shared.store.delete(&layout::log(self.lineage.id(), &self.id, name))
    }

    /// Stores an object: what is stored already of the current file, then, where the object reaches so
    /// far, what waits. Durable, and its size looked at, when this returns.
    fn put(&mut self, name: LogName, stored: (u64, u64)) -> Result<()> {
        let key = layout::log(self.lineage.id(), &self.id, name);
        let store = self.lineage.shared.store.clone();
        let end = match name {
            LogName::Whole { length, .. } => length,
            LogName::Part { first, length, .. } => first + length,
            LogName::About | LogName::Open => return Err(Error::internal("this is no log")),
        };
        // Twice: one that is there under this name and is not sound makes room.
        for _ in 0..2 {
            let written = self.write_object(&key, stored, end);
            let Written { put, size, plain } = match written {
                Ok(written) => written,
                Err(error) => {
                    self.clear_half(&key, end - first_of(name));
                    return Err(error);
                }
            };
            let is_there = store.head(&key)? == Some(size);
            if put == Put::Created && is_there {
                return Ok(());
            }
            match self.plain_of(&key, end - first_of(name)) {
                Ok(Some(found)) if found == plain => return Ok(()),
                Ok(Some(_)) => return Err(another_log(&self.id, name)),
                // Whoever made it did not come to its end, or somebody was faster to take it away.
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Damage => {
                    tracing::warn!(object = %key, "A damaged object of log is stored again: {}", error.public());
                    store.delete(&key)?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("The repository did not keep the object {key}, which it said it had stored."),
        )
        .with_hint("look at the repository's disk; the source keeps its log for now"))
    }

    /// After a put that failed: what it left must not be taken for log.
    fn clear_half(&self, key: &str, length: u64) {
        let is_damaged = self.plain_of(key, length).is_err_and(|error| error.kind() == ErrorKind::Damage);
        if is_damaged && let Err(error) = self.lineage.shared.store.delete(key) {
            tracing::error!(
                object = key,
                "Half an object of log is left; a check names it: {}",
                error.public()
            );
        }
    }

    fn write_object(&mut self, key: &str, stored: (u64, u64), end: u64) -> Result<Written> {
        let shared = self.lineage.shared.clone();
        let mut salt = [0; 16];
        shared.random.fill(&mut salt);
        let mut object = ObjectWriter::begin(&*shared.store, &self.lineage.keys, salt, key, &mut self.codec)?;
        let file = self.position.file;
        let at = |offset| LogPosition { file, offset };
        if stored.0 < stored.1 {
            let range = LogRange { from: at(stored.0), until: at(stored.1) };
            let read =
                super::reader::read(&self.lineage, &self.id, range, &mut |_, bytes| object.write(bytes));
            read.map_err(|error| match error.kind() {
                // It was held a moment ago.
                ErrorKind::NoRestorePoint => frame::damage(key, "a part of it is missing"),
                _ => error,
            })?;
        }
        if stored.1 < end {
            object.write(&self.waiting)?;
        }
        object.finish()
    }

    /// The digest of the log in an object; `None` when there is none.
    fn plain_of(&self, key: &str, length: u64) -> Result<Option<[u8; 32]>> {
        let mut hasher = blake3::Hasher::new();
        let store = &*self.lineage.shared.store;
        let walked = walk(store, &self.lineage.keys, key, length, Depth::Decode, &mut |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        Ok((walked == Walked::Whole).then(|| *hasher.finalize().as_bytes()))
    }
}

fn first_of(name: LogName) -> u64 {
    match name {
        LogName::Part { first, .. } => first,
        LogName::About | LogName::Open | LogName::Whole { .. } => 0,
    }
}

/// Says that the stream is captured, or finds that it was said.
fn mark_open(lineage: &Lineage, id: &LogStreamId) -> Result<()> {
    let store = &*lineage.shared.store;
    let key = layout::log(lineage.id(), id, LogName::Open);
    let mark = write_open(&key, lineage.shared.clock.now().as_microsecond());
    // A damaged one is written again.
    for _ in 0..2 {
        let (Put::Created | Put::AlreadyThere) = store.put_new(&key, &mark)?;
        match store.get(&key)? {
            Some(found) if check_open(&key, &found).is_ok() => return Ok(()),
            Some(_) => store.delete(&key)?,
            None => {}
        }
    }
    Err(frame::missing(&key))
}

/// Says what the stream is, or finds that it was said.
fn say_about(lineage: &Lineage, stream: &LogStream) -> Result<()> {
    let shared = &lineage.shared;
    let key = layout::log(lineage.id(), &stream.id, LogName::About);
    // A damaged one is written again: what it said is known.
    for _ in 0..2 {
        match lineage.log_stream(&stream.id) {
            Ok(Some(known)) if known == *stream => return Ok(()),
            Ok(Some(_)) => return Err(another_stream(&stream.id)),
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Damage => shared.store.delete(&key)?,
            Err(error) => return Err(error),
        }
        let mut salt = [0; 16];
        shared.random.fill(&mut salt);
        let (Put::Created | Put::AlreadyThere) =
            shared.store.put_new(&key, &write_about(&lineage.keys, salt, &key, stream))?;
    }
    match lineage.log_stream(&stream.id)? {
        Some(known) if known == *stream => Ok(()),
        Some(_) => Err(another_stream(&stream.id)),
        None => Err(frame::missing(&key)),
    }
}

fn another_log(id: &LogStreamId, name: LogName) -> Error {
    Error::new(
        ErrorKind::SourceHostile,
        format!("The source sent other log than is stored for the same place of the stream {id} ({name:?}). What is stored was kept."),
    )
    .with_hint("the server has lost log that it had sent before, or another server answers in its name; take a new full backup")
}

fn another_stream(id: &LogStreamId) -> Error {
    Error::new(
        ErrorKind::SourceHostile,
        format!("The stream {id} is stored as the log of another history. What is stored was kept."),
    )
    .with_hint(
        "another server answers in the name of the registered one; register it as an instance of its own",
    )
}
