//! Checks the pages of relation files while they stream by, and judges those that do not match.

use strongroom_core::engine::PageDamage;

use crate::facts::PageCounts;
use crate::lsn::Lsn;
use crate::page::{self, Page, PageState};
use crate::relation::PAGE_SIZE_BYTES;

/// Mismatches that are kept with their place; more are only counted.
pub(super) const LISTED_MAX: usize = 1_000;

/// Cuts the content of one relation file into pages.
pub(super) struct PageScan {
    relation: String,
    next_block: u32,
    partial: Box<Page>,
    filled: usize,
}

/// What all scans of a backup found.
#[derive(Debug, Default)]
pub(super) struct PageFindings {
    checked: u64,
    torn: u64,
    mismatches: Vec<Mismatch>,
    unlisted: u64,
}

#[derive(Debug)]
struct Mismatch {
    relation: String,
    block: u32,
    position: Lsn,
    expected: u16,
    found: u16,
}

impl PageScan {
    pub(super) fn new(relation: String, first_block: u32) -> Self {
        Self { relation, next_block: first_block, partial: Box::new([0; PAGE_SIZE_BYTES]), filled: 0 }
    }

    /// Takes the next bytes of the file. A rest that is no whole page is never looked at: a file
    /// that is being extended may end anywhere.
    pub(super) fn feed(&mut self, mut bytes: &[u8], findings: &mut PageFindings) {
        if self.filled > 0 {
            let (piece, rest) = bytes.split_at(bytes.len().min(PAGE_SIZE_BYTES - self.filled));
            self.partial[self.filled..self.filled + piece.len()].copy_from_slice(piece);
            self.filled += piece.len();
            bytes = rest;
            if self.filled < PAGE_SIZE_BYTES {
                return;
            }
            self.filled = 0;
            let page = std::mem::replace(&mut self.partial, Box::new([0; PAGE_SIZE_BYTES]));
            self.look_at(&page, findings);
        }
        let (pages, rest) = bytes.as_chunks::<PAGE_SIZE_BYTES>();
        for page in pages {
            self.look_at(page, findings);
        }
        self.partial[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    /// The next whole page is that of another block.
    pub(super) fn seek(&mut self, block: u32) {
        self.next_block = block;
        self.filled = 0;
    }

    fn look_at(&mut self, page: &Page, findings: &mut PageFindings) {
        let block = self.next_block;
        self.next_block = block.wrapping_add(1);
        findings.checked += 1;
        match page::check(page, block) {
            PageState::Sound => {}
            // A page that is being used for the first time may show its end before its header.
            PageState::NotEmpty => findings.torn += 1,
            PageState::Mismatch { .. } if findings.mismatches.len() >= LISTED_MAX => findings.unlisted += 1,
            PageState::Mismatch { position, expected, found } => {
                let relation = self.relation.clone();
                findings.mismatches.push(Mismatch { relation, block, position, expected, found });
            }
        }
    }
}

impl PageFindings {
    /// Tells damage from pages that were caught while they were written. A page that was last
    /// changed before the backup began should not have changed under our eyes; a position after
    /// its end was never given out. What lies between is made whole by replaying the log.
    pub(super) fn judge(self, start: Lsn, stop: Lsn) -> (PageCounts, Vec<PageDamage>) {
        let mut counts = PageCounts { checked: self.checked, torn: self.torn, damaged: self.unlisted };
        let mut damage = Vec::new();
        for mismatch in self.mismatches {
            if (start..=stop).contains(&mismatch.position) {
                counts.torn += 1;
                continue;
            }
            counts.damaged += 1;
            damage.push(PageDamage {
                relation: mismatch.relation,
                block: u64::from(mismatch.block),
                position: mismatch.position.to_string(),
                expected: u32::from(mismatch.expected),
                found: u32::from(mismatch.found),
            });
        }
        (counts, damage)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A page that cannot match any block, last changed at `position`.
    fn bad_page(position: u64) -> Page {
        let mut page = [0x5a; PAGE_SIZE_BYTES];
        page[0..4].copy_from_slice(&u32::try_from(position >> 32).unwrap().to_le_bytes());
        page[4..8].copy_from_slice(&u32::try_from(position & 0xffff_ffff).unwrap().to_le_bytes());
        page[8..10].fill(0);
        page
    }

    proptest! {
        #[test]
        fn b13_the_cut_of_the_input_does_not_matter(cuts in prop::collection::vec(1_usize..20_000, 1..20), tail in 0_usize..8191) {
            let mut bytes = [&bad_page(5)[..], &[0; PAGE_SIZE_BYTES], &bad_page(50), &bad_page(500)].concat();
            bytes.resize(bytes.len() + tail, 1);
            let mut findings = PageFindings::default();
            let mut scan = PageScan::new("base/5/1".to_owned(), 100);
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                scan.feed(piece, &mut findings);
                rest = after;
                if rest.is_empty() { break; }
            }
            let (counts, damage) = findings.judge(Lsn(10), Lsn(100));
            prop_assert_eq!(counts, PageCounts { checked: 4, torn: 1, damaged: 2 });
            let found: Vec<_> = damage.iter().map(|page| (page.block, page.position.as_str())).collect();
            prop_assert_eq!(found, vec![(100, "0/5"), (103, "0/1F4")]);
        }
    }

    #[test]
    fn b13_endless_damage_is_counted_in_bounded_memory() {
        let mut findings = PageFindings::default();
        let mut scan = PageScan::new("base/5/1".to_owned(), 0);
        for _ in 0..LISTED_MAX + 10 {
            scan.feed(&bad_page(5), &mut findings);
        }
        let (counts, damage) = findings.judge(Lsn(10), Lsn(100));
        assert_eq!(counts.damaged, LISTED_MAX as u64 + 10);
        assert_eq!(damage.len(), LISTED_MAX);
    }
}
