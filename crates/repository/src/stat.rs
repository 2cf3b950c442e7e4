//! What the repository holds, and what of it nobody needs any more.

use strongroom_core::engine::CancelToken;
use strongroom_core::progress::Progress;
use strongroom_core::{ErrorKind, Result};

use crate::FORMAT;
use crate::lineage::Lineage;
use crate::logs::Inventory;
use crate::repository::Repository;
use crate::sweep::{Share, Sweep, SweepOptions, SweepReport};

/// Numbers of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryStat {
    pub repository_id: String,
    pub format: u16,
    pub lineages: u64,
    pub packs: u64,
    /// Bytes of all objects.
    pub bytes: u64,
    /// Sealed and not forgotten.
    pub backups: u64,
    /// All that were ever forgotten: what says so stays.
    pub forgotten_backups: u64,
    /// Those of them that no sweep has decided to be gone yet, held ones included.
    pub pending_backups: u64,
    /// Bytes in packs that backups need.
    pub live_bytes: u64,
    /// Packs that nobody needs and no running attempt owns, generations that were replaced included.
    pub dead_packs: Share,
    /// Packs that hold dead records beside live ones, and the bytes of the dead ones.
    pub partly_dead_packs: Share,
    /// Packs of attempts that may still become backups.
    pub unfinished_packs: Share,
    /// What a sweep could give back at the tightest.
    pub reclaimable_bytes: u64,
    /// Objects of the log archive, and their bytes.
    pub log_objects: u64,
    pub log_bytes: u64,
    pub free_bytes: Option<u64>,
}

impl Repository {
    /// Bytes of all objects. Only lists.
    pub fn bytes(&self) -> Result<u64> {
        Ok(self.shared.store.list("")?.iter().map(|object| object.size).sum())
    }

    /// Counts. Reads rosters and slot tables, no trees.
    pub fn stat(&self) -> Result<RepositoryStat> {
        let objects = self.shared.store.list("")?;
        let mut stat = RepositoryStat {
            repository_id: self.id().to_owned(),
            format: FORMAT,
            lineages: 0,
            packs: 0,
            bytes: objects.iter().map(|object| object.size).sum(),
            backups: 0,
            forgotten_backups: 0,
            pending_backups: 0,
            live_bytes: 0,
            dead_packs: Share::default(),
            partly_dead_packs: Share::default(),
            unfinished_packs: Share::default(),
            reclaimable_bytes: 0,
            log_objects: 0,
            log_bytes: 0,
            free_bytes: self.free_bytes()?,
        };
        for (project, lineage) in self.lineages()? {
            stat.lineages += 1;
            match self.lineage(&project, &lineage) {
                Ok(lineage) => add_lineage(&mut stat, &lineage)?,
                // Nothing of it can be counted, and it must not hide the others; a check names it.
                Err(error) if error.kind() == ErrorKind::Damage => {
                    tracing::warn!(%project, %lineage, "A lineage is not counted: {}", error.public());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(stat)
    }
}

/// Changes nothing, and rewrites nothing: a pack of which a record is live is looked at, no more.
const LOOK: SweepOptions =
    SweepOptions { is_dry_run: true, dead_percent: 100, grace_s: 0, abandon_after_s: i64::MAX };

fn add_lineage(stat: &mut RepositoryStat, lineage: &Lineage) -> Result<()> {
    for summary in lineage.backups()? {
        if summary.forgotten {
            stat.forgotten_backups += 1;
        } else {
            stat.backups += 1;
        }
    }
    stat.packs += lineage.listed_packs()?.len() as u64;
    for stream in Inventory::of_lineage(lineage)?.values() {
        stat.log_objects += stream.objects();
        stat.log_bytes += stream.bytes();
    }
    let (cancel, progress, mut report) = (CancelToken::new(), Progress::new(), SweepReport::default());
    match Sweep::new(lineage, LOOK, &cancel, &progress).run(&mut report) {
        Ok(()) => {}
        // What a damaged manifest or roster needs is not known; nothing is called free beside it.
        Err(error) if error.kind() == ErrorKind::Damage => return Ok(()),
        Err(error) => return Err(error),
    }
    stat.pending_backups += report.backups_decided + report.backups_waiting;
    stat.live_bytes += report.bytes_live;
    stat.dead_packs.add(Share { packs: report.packs_removed, bytes: report.bytes_freed });
    stat.partly_dead_packs.add(report.dead_kept);
    stat.unfinished_packs.add(report.unfinished);
    stat.reclaimable_bytes += report.bytes_freed + report.dead_kept.bytes + report.log_bytes_freed;
    Ok(())
}
