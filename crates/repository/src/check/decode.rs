//! The level `decode`: every chunk of every member, through its whole chain.

use strongroom_core::Result;
use strongroom_core::id::AttemptId;

use super::Check;
use crate::layout;
use crate::reader::{BackupReader, ChunkReader, read_leaves};
use crate::tree::Content;

impl Check<'_> {
    /// V2: every chunk of every member, up to the root.
    pub(super) fn decode(&mut self) -> Result<()> {
        self.progress.set_done(0);
        let attempts: Vec<AttemptId> = self.subjects.iter().map(|subject| subject.attempt).collect();
        for attempt in attempts {
            let Some(reader) = self.reader(attempt)? else { continue };
            self.decoding = Some(attempt);
            self.progress.set_total(reader.summary().totals.source_bytes);
            self.progress.set_done(0);
            self.decode_backup(&reader)?;
            self.decoding = None;
        }
        Ok(())
    }

    fn decode_backup(&mut self, reader: &BackupReader) -> Result<()> {
        let mut chunks = ChunkReader::new(self.lineage.shared.store.clone(), self.lineage.keys.clone());
        let (mut members, mut bytes) = (0, 0);
        for number in 0..reader.tree().root.pages.len() {
            let page = reader.tree().page(number);
            let verdict = layout::verdict(self.lineage.id(), reader.summary().attempt);
            let Some(page) = self.damage_in(&verdict, page)? else { continue };
            for entry in &page.entries {
                members += 1;
                let mut length = 0;
                for segment in 0..entry.segment_count() {
                    self.cancel.check()?;
                    let read = reader.leaves(entry, segment).and_then(|leaves| {
                        read_leaves(&mut chunks, &leaves, &mut |_, body| {
                            let run = match body {
                                crate::FrameBody::Data(data) => data.len() as u64,
                                crate::FrameBody::Fill { length, .. } => length,
                            };
                            length += run;
                            self.progress.add_done(run);
                            Ok(())
                        })
                    });
                    self.damage_in(&verdict, read)?;
                }
                bytes += length;
                let whole = matches!(entry.content, Content::Directory) || length == entry.size;
                if !whole && self.report.passed() {
                    self.finding(&verdict, &format!("the member {} has another length", entry.path));
                }
            }
        }
        let totals = reader.summary().totals;
        self.report.bytes_checked += bytes;
        if self.report.passed() && (members, bytes) != (totals.members, totals.source_bytes) {
            let key = layout::verdict(self.lineage.id(), reader.summary().attempt);
            self.finding(&key, "the tree holds other members than its totals say");
        }
        Ok(())
    }
}
