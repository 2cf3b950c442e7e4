//! What a backup gives to the writer of files: the wished members, with damage told by the file's
//! name; or, when asked to keep going, with everything that can be read and a list of the rest.

use std::sync::{Mutex, MutexGuard};

use strongroom_core::member::MemberPath;
use strongroom_core::{Error, ErrorKind, Field, Result};
use strongroom_repository::{BackupReader, Frame, FrameBody, Lost, LostPage, MemberEntry};
use strongroom_restore::{ContentEvent, ContentSource, MemberInfo};

/// A part of a path, such as `data/base/5`; the whole backup when there is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct PathPrefix(Option<Vec<u8>>);

impl PathPrefix {
    pub(crate) fn parse(text: Option<&str>) -> Result<Self> {
        let Some(text) = text else { return Ok(Self(None)) };
        let path = MemberPath::parse(text.trim_end_matches('/').as_bytes()).map_err(|_| {
            Error::parameter(Field::Other, format!("--path: {text} is no path in a backup."))
                .with_hint("paths begin with data/, tablespace/ID/, wal/ or meta/; `files` shows them")
        })?;
        Ok(Self(Some(path.as_bytes().to_vec())))
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn holds(&self, path: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|prefix| {
            path.strip_prefix(&prefix[..]).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        })
    }

    /// Whether anything below the directory may be wished.
    pub(crate) fn meets(&self, directory: &[u8]) -> bool {
        self.holds(directory) || self.0.as_ref().is_some_and(|prefix| prefix.starts_with(directory))
    }

    /// For the journal: a directory with another part of the backup is another restore.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Something of the backup that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) path: String,
    /// Where in the file; the bytes there are zero in the written one.
    pub(crate) range: Option<(u64, u64)>,
    pub(crate) problem: String,
}

pub(crate) struct Source<'a> {
    reader: &'a BackupReader,
    wanted: PathPrefix,
    keep_going: bool,
    paths: Mutex<Vec<(u64, MemberPath)>>,
    missing: Mutex<Vec<Missing>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it notes what is missing")
}

impl<'a> Source<'a> {
    pub(crate) fn new(reader: &'a BackupReader, wanted: PathPrefix, keep_going: bool) -> Self {
        Self { reader, wanted, keep_going, paths: Mutex::default(), missing: Mutex::default() }
    }

    /// What could not be read, in the order of paths.
    pub(crate) fn into_missing(self) -> Vec<Missing> {
        let mut missing = self.missing.into_inner().expect("no thread panics while it notes what is missing");
        missing.sort_by(|a, b| (&a.path, a.range).cmp(&(&b.path, b.range)));
        // A batch that was asked for twice tells its losses twice.
        missing.dedup();
        missing
    }

    fn path(&self, member: u64) -> String {
        let paths = lock(&self.paths);
        let found = paths.binary_search_by_key(&member, |(index, _)| *index);
        found.map_or_else(|_| format!("member {member}"), |at| paths[at].1.to_string())
    }

    /// Damage, with the name of the file that it is in.
    fn named(&self, member: u64, error: Error) -> Error {
        if error.kind() != ErrorKind::Damage {
            return error;
        }
        Error::new(ErrorKind::Damage, format!("{} cannot be read. {}", self.path(member), error.public()))
    }

    fn note_page(&self, page: &LostPage) {
        lock(&self.missing).push(Missing {
            path: page.first_path.escape_ascii().to_string(),
            range: None,
            problem: format!(
                "this and {} more names cannot be read. {}",
                page.members.saturating_sub(1),
                page.error.public()
            ),
        });
    }

    /// Goes on behind what was given of a damaged segment. What is lost leaves zeroes in the file,
    /// and a line in the list.
    fn salvage(
        &self,
        (member, segment): (u64, u32),
        from: u64,
        out: &mut dyn FnMut(ContentEvent) -> Result<()>,
    ) -> Result<()> {
        self.reader.salvage_segment((member, segment), from, &mut |offset, found| {
            let body = match found {
                Ok(body) => body,
                Err(Lost { offset, length, error }) => {
                    lock(&self.missing).push(Missing {
                        path: self.path(member),
                        range: Some((offset, length)),
                        problem: error.public().to_owned(),
                    });
                    FrameBody::Fill { byte: 0, length }
                }
            };
            out(ContentEvent::Frame(Frame { member, segment, offset, body }))
        })
    }
}

fn info(entry: MemberEntry) -> MemberInfo {
    MemberInfo {
        index: entry.index,
        path: entry.path,
        kind: entry.kind,
        size: entry.size,
        mode: entry.mode,
        mtime_s: entry.mtime_s,
        segments: entry.segments,
    }
}

impl ContentSource for Source<'_> {
    fn members(&self, out: &mut dyn FnMut(MemberInfo) -> Result<()>) -> Result<()> {
        let mut take = |entry: MemberEntry| {
            if !self.wanted.holds(entry.path.as_bytes()) {
                return Ok(());
            }
            lock(&self.paths).push((entry.index, entry.path.clone()));
            out(info(entry))
        };
        if self.keep_going {
            self.reader.readable_members(&mut take, &mut |page| self.note_page(&page))
        } else {
            self.reader.members(&mut take)
        }
    }

    fn content(
        &self,
        segments: &[(u64, u32)],
        out: &mut dyn FnMut(ContentEvent) -> Result<()>,
    ) -> Result<()> {
        for &(member, segment) in segments {
            let mut given = u64::from(segment) * strongroom_repository::SEGMENT_SIZE_BYTES;
            let read = self.reader.read_segments(&[(member, segment)], &mut |frame| {
                given = frame.offset
                    + match &frame.body {
                        FrameBody::Data(data) => data.len() as u64,
                        FrameBody::Fill { length, .. } => *length,
                    };
                out(ContentEvent::Frame(frame))
            });
            match read {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Damage && self.keep_going => {
                    self.salvage((member, segment), given, out)?;
                }
                Err(error) => return Err(self.named(member, error)),
            }
            out(ContentEvent::SegmentEnd { member, segment })?;
        }
        out(ContentEvent::End { segments: segments.len() as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_a_component() {
        let prefix = PathPrefix::parse(Some("data/base/")).unwrap();
        for (path, is_held) in
            [("data/base", true), ("data/base/1", true), ("data/based", false), ("data", false)]
        {
            assert_eq!(prefix.holds(path.as_bytes()), is_held, "{path}");
        }
        assert!(prefix.meets(b"data") && !prefix.meets(b"tablespace/7"));
        assert!(PathPrefix::parse(Some("etc/passwd")).is_err());
        assert!(PathPrefix::parse(None).unwrap().holds(b"wal/x"));
    }
}
