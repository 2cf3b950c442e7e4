//! What the bases of deltas cost: records that are there only because others stand on them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use strongroom_core::Result;
use strongroom_core::engine::CancelToken;

use crate::generations::newest;
use crate::lineage::Lineage;
use crate::pack::read_table;
use crate::reader::Tree;
use crate::roster::Roster;
use crate::tree::{Content, Leaf};
use crate::verdict::Opened;

/// Records that no backup has as a chunk of its own, and that chains of deltas need all the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseCost {
    pub records: u64,
    pub bytes: u64,
}

impl BaseCost {
    pub fn add(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

/// Which records the chunks of all backups are, and which their chains need.
#[derive(Default)]
struct Chains {
    /// Nodes that were walked: backups share most of them.
    walked: BTreeSet<[u8; 32]>,
    own: Roster,
    needed: Roster,
}

impl Chains {
    fn add(&mut self, leaf: &Leaf) {
        if let Some(own) = leaf.chain().last() {
            self.own.mark(own);
        }
        leaf.chain().iter().for_each(|record| self.needed.mark(record));
    }

    fn walk(&mut self, tree: &Tree, cancel: &CancelToken) -> Result<()> {
        for number in 0..tree.root.pages.len() {
            cancel.check()?;
            if !self.walked.insert(tree.root.pages[number].node.id) {
                continue;
            }
            for entry in &tree.page(number)?.entries {
                match &entry.content {
                    Content::Inline(leaf) => self.add(leaf),
                    Content::Segments(nodes) => {
                        for node in nodes {
                            if self.walked.insert(node.id) {
                                cancel.check()?;
                                tree.segment(node)?.leaves.iter().for_each(|leaf| self.add(leaf));
                            }
                        }
                    }
                    Content::Directory | Content::Empty => {}
                }
            }
        }
        Ok(())
    }
}

impl Lineage {
    /// What bases cost beyond the chunks of the backups that are not forgotten. Walks every tree, so
    /// it is for those who ask, not for every sweep.
    pub fn base_cost(&self, cancel: &CancelToken) -> Result<BaseCost> {
        let (store, mut chains, mut cost) = (&self.shared.store, Chains::default(), BaseCost::default());
        for summary in self.backups()?.into_iter().filter(|summary| !summary.forgotten) {
            let Some((Opened::Sealed { root, .. }, _)) = self.open_verdict(summary.attempt)? else {
                continue;
            };
            chains.walk(&Tree::new(store.clone(), self.keys.clone(), *root), cancel)?;
        }
        for (pack, needed) in &chains.needed.packs {
            cancel.check()?;
            let own = chains.own.packs.get(pack);
            let mut only_bases =
                needed.slots().filter(|slot| own.is_none_or(|own| !own.holds(*slot))).peekable();
            if only_bases.peek().is_none() {
                continue;
            }
            let Some(generation) = newest(&**store, self.id(), *pack)? else { continue };
            let Some(table) = read_table(&**store, &self.keys, *pack, generation)? else { continue };
            for slot in only_bases {
                cost.records += 1;
                cost.bytes +=
                    table.slots.get(usize::from(slot)).map_or(0, |entry| u64::from(entry.stored_length));
            }
        }
        Ok(cost)
    }
}
