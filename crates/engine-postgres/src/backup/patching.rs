//! Files of which only the changed blocks come: handed to the sink as changes of the parent's.

use std::collections::HashMap;

use strongroom_core::Result;
use strongroom_core::engine::{BackupSink, PageDamage, PatchWriter};
use strongroom_core::member::Member;
use strongroom_core::parent::ParentBackup;

use super::block_list::{BlockEvent, BlockList};
use super::pages::{PageFindings, PageScan};
use crate::fault::hostile;
use crate::relation::PAGE_SIZE_BYTES;

/// One such file while it comes.
pub(super) struct PatchedFile<'s> {
    sink: &'s dyn BackupSink,
    parent: &'s dyn ParentBackup,
    /// Taken when its size is known.
    member: Option<Member>,
    list: BlockList,
    writer: Option<Box<dyn PatchWriter + 's>>,
    scan: Option<PageScan>,
    /// The file's first block, counted from the beginning of its relation.
    first_block: u32,
}

/// What came of one file.
#[derive(Debug)]
pub(super) struct Patched {
    pub(super) size_bytes: u64,
    pub(super) blocks: u64,
}

impl<'s> PatchedFile<'s> {
    pub(super) fn new(
        sink: &'s dyn BackupSink,
        parent: &'s dyn ParentBackup,
        member: Member,
        list: BlockList,
        scan: Option<PageScan>,
        first_block: u32,
    ) -> Self {
        Self { sink, parent, member: Some(member), list, writer: None, scan, first_block }
    }

    pub(super) fn feed(&mut self, mut content: &[u8], findings: &mut PageFindings) -> Result<()> {
        while let Some(event) = self.list.next(&mut content)? {
            match event {
                BlockEvent::Begin => {
                    self.writer = Some(begin(self.sink, self.parent, self.member.take(), &self.list)?);
                }
                BlockEvent::Bytes { block, offset, bytes } => {
                    if let Some(scan) = &mut self.scan {
                        if offset == 0 {
                            scan.seek(self.first_block.wrapping_add(block));
                        }
                        scan.feed(bytes, findings);
                    }
                    let start = u64::from(block) * PAGE_SIZE_BYTES as u64 + offset as u64;
                    if let Some(writer) = &mut self.writer {
                        writer.write_at(start, bytes)?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self, path: &[u8], inherited: &mut InheritedDamage) -> Result<Patched> {
        let Some(writer) = self.writer.take().filter(|_| self.list.is_complete()) else {
            return Err(hostile("a list of blocks that ends early"));
        };
        writer.finish()?;
        inherited.keep(path, self.first_block, &self.list);
        Ok(Patched {
            size_bytes: u64::from(self.list.file_blocks()) * PAGE_SIZE_BYTES as u64,
            blocks: self.list.blocks().len() as u64,
        })
    }
}

fn begin<'s>(
    sink: &'s dyn BackupSink,
    parent: &dyn ParentBackup,
    member: Option<Member>,
    list: &BlockList,
) -> Result<Box<dyn PatchWriter + 's>> {
    let Some(member) = member else { return Err(hostile("a list of blocks that begins twice")) };
    if list.is_beyond_segment() {
        return Err(parent.distrust("the source listed a file longer than files of relations are"));
    }
    let bytes = |blocks: u32| u64::from(blocks) * PAGE_SIZE_BYTES as u64;
    sink.patch(Member { size: Some(bytes(list.file_blocks())), ..member }, bytes(list.kept_blocks()))
}

/// Damaged pages of the parent. Nobody looks at them again while they do not change, so they are
/// still there, and the backup has to say so.
#[derive(Debug, Default)]
pub(super) struct InheritedDamage {
    of_parent: HashMap<String, Vec<PageDamage>>,
    kept: Vec<PageDamage>,
}

impl InheritedDamage {
    pub(super) fn new(damage: &[PageDamage]) -> Self {
        let mut of_parent: HashMap<String, Vec<PageDamage>> = HashMap::new();
        for page in damage {
            of_parent.entry(page.relation.clone()).or_default().push(page.clone());
        }
        Self { of_parent, kept: Vec::new() }
    }

    /// A file was taken over: what was wrong in it still is, where no new block came.
    fn keep(&mut self, path: &[u8], first_block: u32, list: &BlockList) {
        let Some(pages) = self.of_parent.remove(&path.escape_ascii().to_string()) else { return };
        let is_still_there = |page: &PageDamage| {
            let block = page.block.checked_sub(u64::from(first_block));
            let block = block.and_then(|block| u32::try_from(block).ok());
            block.is_some_and(|block| {
                block < list.kept_blocks() && list.blocks().binary_search(&block).is_err()
            })
        };
        self.kept.extend(pages.into_iter().filter(is_still_there));
    }

    pub(super) fn into_kept(self) -> Vec<PageDamage> {
        self.kept
    }
}
