//! Files that are overwritten while they are copied.
//!
//! Some sources send the files of a running database as they find them, and then once more the pages
//! that changed meanwhile. What counts of each byte is the last word. The sink keeps such files open
//! until [`BackupSink::settle`](crate::engine::BackupSink::settle), and only then decides how they are
//! stored.

use crate::member::MemberPath;
use crate::{Error, Result};

/// Takes the first reading of one file, in order. Overwrites of it may come already, and win.
pub trait OverwriteWriter: Send {
    /// May block when the pipeline is full.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// The first reading is over; the file stays open for overwrites. A writer that is dropped
    /// without this call makes the attempt unusable, unless its file was discarded.
    fn stored(self: Box<Self>) -> Result<()>;
}

/// Looks at the content of overwritable files, on the threads of the sink, while it is in memory
/// anyway. Pieces begin at multiples of 128 KiB and are as long, but for the last one of a file.
///
/// Every piece of a settled file is found sound by one of the two calls, or is handed to the second;
/// pieces in which nothing ever came, and which are zeroes, are not shown.
pub trait ContentJudge: Send + Sync {
    /// A first look at a piece that may still be overwritten: whether something in it is wrong. What
    /// is wrong now may be mended by an overwrite, and is no finding.
    fn suspects(&self, offset: u64, bytes: &[u8]) -> bool;

    /// A look at a piece as it is stored for good: one that was suspected or overwritten.
    /// Takes note of what is wrong; the file is named as it is called at the end.
    fn judge(&self, path: &MemberPath, offset: u64, bytes: &[u8]);
}

/// Said by sinks that take whole files only.
pub fn not_overwritable() -> Error {
    Error::internal("this sink takes whole files only")
}
