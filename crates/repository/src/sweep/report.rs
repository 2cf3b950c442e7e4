//! What a sweep did or, of a dry run, would do, and why.

use serde::{Deserialize, Serialize};
use strongroom_core::Error;

/// Why something stays that might go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The object's key.
    pub object: String,
    pub problem: String,
    /// What a person can do.
    pub advice: String,
}

impl Doubt {
    pub(super) fn of(error: &Error) -> Self {
        Self::with_advice(
            error,
            "nothing more of this lineage is removed; run `strongroom repository check --level decode`, \
             delete the backups that it names or bring the object back from a copy, then sweep again",
        )
    }

    /// Of a backup that is not stored anew.
    pub(crate) fn of_backup(error: &Error) -> Self {
        Self::with_advice(
            error,
            "a backup that needs it stays as it is; run `strongroom repository check --level decode`, and \
             delete the backups that it names or bring the object back from a copy",
        )
    }

    fn with_advice(error: &Error, advice: &str) -> Self {
        let object =
            error.public().strip_prefix("The object ").and_then(|rest| rest.split(" is damaged").next());
        Self {
            object: object.unwrap_or_default().to_owned(),
            problem: error.public().to_owned(),
            advice: advice.to_owned(),
        }
    }
}

/// Packs, and bytes in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub packs: u64,
    pub bytes: u64,
}

impl Share {
    pub(super) fn count(&mut self, bytes: u64) {
        self.packs += 1;
        self.bytes += bytes;
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.packs += other.packs;
        self.bytes += other.bytes;
    }
}

/// Why what comes back was of no use. The bytes together are those that are freed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasons {
    /// Packs of backups that were deleted, and that no other backup needs.
    pub deleted: Share,
    /// Packs of attempts that were given up.
    pub abandoned: Share,
    /// Packs that not even the backup needs that wrote them.
    pub unused: Share,
    /// Records that nobody needs, in packs that others need: those are written anew.
    pub dead_records: Share,
    /// Generations that a newer one has replaced.
    pub replaced: Share,
}

/// What a sweep did or, of a dry run, would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SweepReport {
    pub lineages: u64,
    /// Lineages of which nothing was removed, because of a doubt.
    pub lineages_kept: u64,
    /// Deleted backups that were decided to be gone for good.
    pub backups_decided: u64,
    /// Deleted backups that a hold keeps, or that were deleted too short a time ago.
    pub backups_waiting: u64,
    pub attempts_abandoned: u64,
    pub packs_removed: u64,
    pub packs_rewritten: u64,
    pub intents_removed: u64,
    /// By how much the packs have become smaller.
    pub bytes_freed: u64,
    pub reasons: Reasons,
    /// Bytes of what backups need, in the packs as they are now.
    pub bytes_live: u64,
    /// Packs with dead bytes, too few of them to be written anew, and those bytes.
    pub dead_kept: Share,
    /// Packs of attempts that may still become backups.
    pub unfinished: Share,
    /// Packs that only a reader or a writer needs who came before their backup was deleted.
    pub in_use: Share,
    /// Objects of the log archive that no backup needs any more, and their bytes.
    pub log_objects_removed: u64,
    pub log_bytes_freed: u64,
    /// Lineages whose log was left alone because a backup of them is under way.
    pub log_waiting: u64,
    /// Bytes of packs that were written again.
    pub bytes_rewritten: u64,
    /// Packs that were to be written anew and found no room; they are as they were.
    pub packs_without_room: u64,
    pub doubts: Vec<Doubt>,
}

impl SweepReport {
    /// Adds the report of another part.
    pub fn add(&mut self, part: Self) {
        self.add_done(&part);
        self.lineages += part.lineages;
        self.lineages_kept += part.lineages_kept;
        self.backups_waiting += part.backups_waiting;
        self.bytes_live += part.bytes_live;
        self.dead_kept.add(part.dead_kept);
        self.unfinished.add(part.unfinished);
        self.in_use.add(part.in_use);
        self.packs_without_room += part.packs_without_room;
        self.log_waiting += part.log_waiting;
        self.doubts.extend(part.doubts);
    }

    /// Adds what an earlier try of the same sweep did before it ended. What is there now is for the
    /// later one to say.
    pub fn add_done(&mut self, earlier: &Self) {
        self.backups_decided += earlier.backups_decided;
        self.attempts_abandoned += earlier.attempts_abandoned;
        self.packs_removed += earlier.packs_removed;
        self.packs_rewritten += earlier.packs_rewritten;
        self.intents_removed += earlier.intents_removed;
        self.bytes_freed += earlier.bytes_freed;
        self.bytes_rewritten += earlier.bytes_rewritten;
        self.log_objects_removed += earlier.log_objects_removed;
        self.log_bytes_freed += earlier.log_bytes_freed;
        self.reasons.deleted.add(earlier.reasons.deleted);
        self.reasons.abandoned.add(earlier.reasons.abandoned);
        self.reasons.unused.add(earlier.reasons.unused);
        self.reasons.dead_records.add(earlier.reasons.dead_records);
        self.reasons.replaced.add(earlier.reasons.replaced);
    }
}
