//! Looks at the pages of a backup on the threads that store them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use strongroom_core::engine::PageDamage;
use strongroom_core::member::MemberPath;
use strongroom_core::overwrite::ContentJudge;

use super::{PageShape, PageState};

/// Damaged pages that are kept with their place; more are only counted.
const LISTED_MAX: usize = 1_000;

/// What all looks found. Shared by the judges of all files of a backup.
#[derive(Debug, Default)]
pub(crate) struct PageFindings {
    listed: Mutex<Vec<PageDamage>>,
    damaged: AtomicU64,
    sound: AtomicU64,
    veiled: AtomicU64,
    unchecked: AtomicU64,
}

/// How many looks ended how. A page that was overwritten is looked at more than once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PageCounts {
    pub(crate) sound: u64,
    /// Compressed or encrypted as a whole: only their place was judged.
    pub(crate) veiled: u64,
    /// With a checksum of a method that is not computed here.
    pub(crate) unchecked: u64,
    pub(crate) damaged: u64,
}

impl PageFindings {
    pub(crate) fn counts(&self) -> PageCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        PageCounts {
            sound: of(&self.sound),
            veiled: of(&self.veiled),
            unchecked: of(&self.unchecked),
            damaged: of(&self.damaged),
        }
    }

    /// Damaged pages by file and number. A bounded list: see [`PageCounts::damaged`] for how many there
    /// are.
    pub(crate) fn damage(&self) -> Vec<PageDamage> {
        let mut listed = self.listed.lock().map(|listed| listed.clone()).unwrap_or_default();
        listed.sort_by(|a, b| (&a.relation, a.block).cmp(&(&b.relation, b.block)));
        listed
    }

    /// Counts what is neither damage nor nothing; answers whether it is damage.
    fn count(&self, state: PageState) -> bool {
        let counter = match state {
            PageState::Damaged { .. } => return true,
            PageState::Unused => return false,
            PageState::Sound => &self.sound,
            PageState::Veiled => &self.veiled,
            PageState::Unchecked => &self.unchecked,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn note(&self, path: &MemberPath, block: u64, state: PageState) {
        let PageState::Damaged { position, expected, found } = state else { return };
        self.damaged.fetch_add(1, Ordering::Relaxed);
        let Ok(mut listed) = self.listed.lock() else { return };
        if listed.len() < LISTED_MAX {
            let relation = String::from_utf8_lossy(path.below_root()).into_owned();
            listed.push(PageDamage { relation, block, position: position.to_string(), expected, found });
        }
    }
}

/// The judge of one file.
#[derive(Debug)]
pub(crate) struct TablespaceJudge {
    shape: PageShape,
    findings: Arc<PageFindings>,
}

impl TablespaceJudge {
    pub(crate) fn new(shape: PageShape, findings: Arc<PageFindings>) -> Self {
        Self { shape, findings }
    }

    /// Every whole page of a piece and its number in the file. Pieces begin where pages do.
    fn pages<'p>(&self, offset: u64, bytes: &'p [u8]) -> impl Iterator<Item = (u64, &'p [u8])> {
        let first = offset / self.shape.size() as u64;
        (first..).zip(bytes.chunks_exact(self.shape.size()))
    }
}

impl ContentJudge for TablespaceJudge {
    fn suspects(&self, offset: u64, bytes: &[u8]) -> bool {
        let mut is_suspect = false;
        for (number, page) in self.pages(offset, bytes) {
            is_suspect |= self.findings.count(self.shape.look(page, number));
        }
        is_suspect
    }

    fn judge(&self, path: &MemberPath, offset: u64, bytes: &[u8]) {
        for (number, page) in self.pages(offset, bytes) {
            let state = self.shape.look(page, number);
            if self.findings.count(state) {
                self.findings.note(path, number, state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{page, shapes};
    use super::*;

    #[test]
    fn b13_only_what_is_wrong_at_the_end_is_damage() {
        for shape in shapes() {
            let findings = Arc::new(PageFindings::default());
            let judge = TablespaceJudge::new(shape, findings.clone());
            let per_piece = (131_072 / shape.size()) as u32;
            let piece = |first: u32| -> Vec<u8> {
                (first..first + per_piece).flat_map(|number| page(&shape, number, 9)).collect()
            };
            let (sound, mut torn) = (piece(per_piece), piece(per_piece));
            torn[shape.size() + 100] ^= 1;
            assert!(!judge.suspects(0, &piece(0)));
            assert!(judge.suspects(131_072, &torn));
            assert_eq!(findings.counts().damaged, 0, "it may still be mended");
            let path = MemberPath::parse(b"data/shop/t.ibd").unwrap();
            judge.judge(&path, 131_072, &sound);
            assert!(findings.damage().is_empty());
            judge.judge(&path, 131_072, &torn);
            let damage = findings.damage();
            assert_eq!(
                (damage[0].relation.as_str(), damage[0].block),
                ("shop/t.ibd", u64::from(per_piece) + 1)
            );
            assert_ne!(damage[0].expected, damage[0].found);
            assert_eq!((damage.len(), findings.counts().damaged), (1, 1));
        }
    }

    #[test]
    fn damage_without_end_is_counted_and_not_kept() {
        let (shape, findings) = (shapes()[2], Arc::new(PageFindings::default()));
        let judge = TablespaceJudge::new(shape, findings.clone());
        let path = MemberPath::parse(b"data/shop/t.ibd").unwrap();
        for _ in 0..LISTED_MAX + 5 {
            judge.judge(&path, 0, &[1; 16_384]);
        }
        assert_eq!(findings.damage().len(), LISTED_MAX);
        assert_eq!(findings.counts().damaged, LISTED_MAX as u64 + 5);
    }
}
