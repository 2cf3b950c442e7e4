//! What the repository holds, and what of it only forgotten backups still need.

use std::collections::BTreeSet;

use strongroom_core::{ErrorKind, Result};

use crate::FORMAT;
use crate::check::needs;
use crate::layout;
use crate::lineage::Lineage;
use crate::repository::Repository;

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
    pub forgotten_backups: u64,
    /// Bytes of packs that no visible backup needs and no running attempt owns.
    pub reclaimable_bytes: u64,
    pub free_bytes: Option<u64>,
}

impl Repository {
    /// Counts. Walks rosters, not trees.
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
            reclaimable_bytes: 0,
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

fn add_lineage(stat: &mut RepositoryStat, lineage: &Lineage) -> Result<()> {
    let mut live = BTreeSet::new();
    // What a damaged manifest or roster needs is not known; nothing is called free beside it.
    let mut is_known = true;
    for summary in lineage.backups()? {
        if summary.forgotten {
            stat.forgotten_backups += 1;
        } else {
            stat.backups += 1;
            match needs(lineage, &summary) {
                Ok(mut packs) => live.append(&mut packs),
                Err(error) if error.kind() == ErrorKind::Damage => is_known = false,
                Err(error) => return Err(error),
            }
        }
    }
    let mut reclaimable_bytes = 0;
    for object in lineage.listed_packs()? {
        stat.packs += 1;
        let Some((pack, _)) = layout::parse_pack(lineage.id(), &object.key) else { continue };
        let is_decided = match lineage.open_verdict(pack.attempt) {
            Ok(verdict) => verdict.is_some(),
            Err(error) if error.kind() == ErrorKind::Damage => {
                is_known = false;
                false
            }
            Err(error) => return Err(error),
        };
        if is_decided && !live.contains(&pack) {
            reclaimable_bytes += object.size;
        }
    }
    if is_known {
        stat.reclaimable_bytes += reclaimable_bytes;
    }
    Ok(())
}
