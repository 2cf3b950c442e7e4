//! The backup that a new one may be built on: what an engine is told of it, and how it says what
//! became of the offer.
//!
//! Some databases can name what changed since an earlier backup and send only that. The engine
//! reads here what it needs for the question, and hands the answer to
//! [`BackupSink::patch`](crate::engine::BackupSink::patch).

use serde::{Deserialize, Serialize};

use crate::engine::BackupFacts;
use crate::member::MemberPath;
use crate::{Error, ErrorKind, Result};

/// The earlier backup that the sink compares with.
pub trait ParentBackup: Sync {
    /// What the engine itself said about it.
    fn facts(&self) -> &BackupFacts;

    /// Opens one of its files; `None` when it has no such file.
    fn open(&self, path: &MemberPath) -> Result<Option<Box<dyn MemberReader + '_>>>;

    /// Tells the caller that nothing can be built on this parent, and why (a clause): what is on
    /// its way is void, and the next try must not offer it. Answers the error to fail with.
    fn distrust(&self, reason: &str) -> Error;
}

/// The bytes of one file, front to back, exactly as they were stored.
pub trait MemberReader {
    /// The next piece, `None` at the end.
    fn next_piece(&mut self) -> Result<Option<Vec<u8>>>;
}

/// Whether an engine may build on an earlier backup.
#[derive(Clone, Copy)]
pub enum ParentOffer<'a> {
    Offered(&'a dyn ParentBackup),
    /// Why there is none, a clause for the backup's record.
    Withheld(&'a str),
}

/// How the bytes of a backup came from its source. What is stored is complete either way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum Reading {
    /// The source sent everything.
    FullStream {
        /// Why not less, a clause.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The source named the blocks that changed since the parent, and sent only those.
    BlockLists {
        /// Where the parent begins, as the engine prints it.
        since: String,
        /// Files that were the parent's with changes.
        patched_files: u64,
        /// Blocks that came in their lists.
        received_blocks: u64,
    },
}

impl Default for Reading {
    fn default() -> Self {
        Self::FullStream { reason: None }
    }
}

impl Reading {
    /// The source sent everything, and this is why.
    pub fn full(reason: impl Into<String>) -> Self {
        Self::FullStream { reason: Some(reason.into()) }
    }
}

/// The error of an attempt whose parent turned out not to be one; trying without it helps.
pub fn parent_unusable(reason: &str) -> Error {
    Error::new(
        ErrorKind::Damage,
        format!("The backup could not be built on the one before it ({reason}); everything is read instead."),
    )
    .with_retry(crate::Retry::Later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_without_the_field_were_full_streams() {
        assert_eq!(Reading::default(), serde_json::from_str(r#"{"method":"full-stream"}"#).unwrap());
        let lists = Reading::BlockLists { since: "0/28".to_owned(), patched_files: 2, received_blocks: 7 };
        let text = serde_json::to_string(&lists).unwrap();
        assert_eq!(text, r#"{"method":"block-lists","since":"0/28","patched_files":2,"received_blocks":7}"#);
        assert_eq!(lists, serde_json::from_str(&text).unwrap());
    }
}
