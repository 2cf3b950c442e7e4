//! What the repository holds, and what of it only forgotten backups still need.

use std::collections::BTreeSet;

use strongroom_core::Result;

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
            add_lineage(&mut stat, &self.lineage(&project, &lineage)?)?;
        }
        Ok(stat)
    }
}

fn add_lineage(stat: &mut RepositoryStat, lineage: &Lineage) -> Result<()> {
    let mut live = BTreeSet::new();
    for summary in lineage.backups()? {
        if summary.forgotten {
            stat.forgotten_backups += 1;
        } else {
            stat.backups += 1;
            live.append(&mut needs(lineage, &summary)?);
        }
    }
    for object in lineage.listed_packs()? {
        stat.packs += 1;
        let Some((pack, _)) = layout::parse_pack(lineage.id(), &object.key) else { continue };
        let open = lineage.open_verdict(pack.attempt)?.is_none();
        if !open && !live.contains(&pack) {
            stat.reclaimable_bytes += object.size;
        }
    }
    Ok(())
}
