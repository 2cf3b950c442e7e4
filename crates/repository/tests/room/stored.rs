//! What backups come to when they were stored anew and swept.

use std::sync::Arc;

use strongroom_core::engine::CancelToken;
use strongroom_core::progress::Progress;
use strongroom_repository::{MemoryStore, SealedSummary};

use crate::room::Room;
use crate::{Expected, TIGHTEST, pack_bytes};

/// The most that a chunk takes.
const CHUNK_BYTES: u64 = 131_072;

/// What backups come to when they were stored anew and swept: how each is stored, and in how many bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Of each backup, in the order of time: its chunks that are equal to others, deltas, full, of one value.
    pub(crate) chunks: Vec<[u64; 4]>,
    /// Bytes in packs that backups need.
    live: u64,
}

impl Stored {
    /// After a sweep nothing else is there: another one finds nothing to take away, and of each pack less
    /// than the hundredth is dead for which one is written anew.
    pub(crate) fn swept(room: &Room, what: &str) -> Self {
        let before = room.store.list("").unwrap();
        let report = room.repository.sweep(&TIGHTEST, &CancelToken::new(), &Progress::new()).unwrap();
        assert_eq!((report.doubts.len(), report.unfinished.packs, report.in_use.packs), (0, 0, 0), "{what}");
        assert_eq!(room.store.list("").unwrap(), before, "{what}: {report:?}");
        assert!(report.dead_kept.bytes * 100 < pack_bytes(&*room.store), "{what}: {report:?}");
        let mut backups: Vec<SealedSummary> =
            room.lineage.backups().unwrap().into_iter().filter(|backup| !backup.forgotten).collect();
        backups.sort_by_key(|backup| backup.attempt);
        let chunks = backups
            .iter()
            .map(|backup| &backup.totals)
            .map(|totals| [totals.chunks_equal, totals.chunks_delta, totals.chunks_full, totals.chunks_fill]);
        Self { chunks: chunks.collect(), live: report.bytes_live }
    }

    /// Chunks are stored in the very same way, but for as many that are full records and no deltas. Their
    /// trees name attempts, whose ids are random, and what is random is compressed into some bytes more or
    /// less.
    pub(crate) fn assert_is(&self, other: &Self, full_instead: u64, what: &str) {
        let (mut mine, mut instead) = (self.chunks.clone(), 0);
        for ([_, delta, full, _], [_, _, wanted, _]) in mine.iter_mut().zip(&other.chunks) {
            let more = full.saturating_sub(*wanted);
            (*delta, *full, instead) = (*delta + more, *full - more, instead + more);
        }
        assert_eq!((mine, instead), (other.chunks.clone(), full_instead), "{what}");
        let differ = self.live.abs_diff(other.live + instead * CHUNK_BYTES);
        let may = other.live / 1000 + instead * CHUNK_BYTES;
        assert!(differ <= may, "{what}: {} bytes and not {}", self.live, other.live);
    }

    /// Beside a repository into which these were backed up and nothing else.
    pub(crate) fn assert_is_as_small_as_alone(&self, expected: &Expected) {
        let alone = Room::new(Arc::new(MemoryStore::new()));
        let mut parent = None;
        for members in expected.values() {
            parent = Some(alone.back_up(members, parent).unwrap().attempt);
        }
        let alone = Self::swept(&alone, "alone").live;
        assert!(self.live * 100 <= alone * 101, "{} bytes, {alone} alone", self.live);
    }
}
