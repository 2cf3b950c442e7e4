//! Restoring into a directory, where the command runs: members become files, the engine makes them
//! startable. The content comes from a [`ContentSource`]: over HTTP, or from a repository in the
//! same process (`strongroom-extract`, engine-level verification).
//!
//! Owns what is written below the target and nothing else. Must never follow a link, leave the
//! target, or overwrite what was there before it came.

mod file;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod journal;
mod plan;
mod run;
mod target;

use strongroom_core::Result;
use strongroom_core::member::{MemberKind, MemberPath};
use strongroom_repository::Frame;

pub use journal::NAME as JOURNAL_NAME;
pub use plan::{RestoreOptions, RestorePlan, TablespaceTarget, TargetState, plan};
pub use run::{Restored, run};

/// A member to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    pub index: u64,
    pub path: MemberPath,
    pub kind: MemberKind,
    pub size: u64,
    pub mode: u32,
    pub mtime_s: i64,
    pub segments: u32,
}

/// What a source of content tells while it answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentEvent {
    Frame(Frame),
    SegmentEnd { member: u64, segment: u32 },
    End { segments: u64 },
}

/// Where the content of one backup comes from. Shared by threads.
pub trait ContentSource: Sync {
    /// Every member, in the order of paths.
    fn members(&self, out: &mut dyn FnMut(MemberInfo) -> Result<()>) -> Result<()>;

    /// The segments asked for. Ends with the end of the stream, or fails.
    fn content(&self, segments: &[(u64, u32)], out: &mut dyn FnMut(ContentEvent) -> Result<()>)
    -> Result<()>;
}

/// A repository in the same process as content source.
impl ContentSource for strongroom_repository::BackupReader {
    fn members(&self, out: &mut dyn FnMut(MemberInfo) -> Result<()>) -> Result<()> {
        strongroom_repository::BackupReader::members(self, &mut |entry| {
            out(MemberInfo {
                index: entry.index,
                path: entry.path,
                kind: entry.kind,
                size: entry.size,
                mode: entry.mode,
                mtime_s: entry.mtime_s,
                segments: entry.segments,
            })
        })
    }

    fn content(
        &self,
        segments: &[(u64, u32)],
        out: &mut dyn FnMut(ContentEvent) -> Result<()>,
    ) -> Result<()> {
        for (member, segment) in segments {
            self.read_segments(&[(*member, *segment)], &mut |frame| out(ContentEvent::Frame(frame)))?;
            out(ContentEvent::SegmentEnd { member: *member, segment: *segment })?;
        }
        out(ContentEvent::End { segments: segments.len() as u64 })
    }
}
