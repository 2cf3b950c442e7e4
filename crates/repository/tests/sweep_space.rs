//! What a repository costs after many backups and random deletions, beside one into which only the
//! survivors were backed up; what of that are dead records and bases of deltas; and that nothing is left
//! of the bases when the survivors were stored anew.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::collections::BTreeMap;
use std::sync::Arc;

use room::{Members, Room, Rows, lineage_id, record};
use strongroom_core::engine::CancelToken;
use strongroom_core::id::AttemptId;
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_repository::{BaseCost, MemoryStore, Store, SweepOptions, SweepReport};
use strongroom_testkit::depth;

const TIGHTEST: SweepOptions = SweepOptions {
    is_dry_run: false,
    dead_percent: SweepOptions::TIGHTEST_PERCENT,
    grace_s: 0,
    abandon_after_s: 0,
};
const USUAL: SweepOptions = SweepOptions { dead_percent: 25, ..TIGHTEST };

fn try_sweep(room: &Room, options: &SweepOptions) -> strongroom_core::Result<SweepReport> {
    room.repository.sweep(options, &CancelToken::new(), &Progress::new())
}

/// What a history costs beyond what its survivors alone would have cost.
struct Cost {
    survivors: usize,
    swept: u64,
    alone: u64,
    /// Dead records in packs that hold too few of them to be rewritten.
    dead: u64,
    /// Records that are there only because deltas of survivors stand on them.
    bases: BaseCost,
    /// Those that a repository of the survivors alone has as well.
    bases_alone: BaseCost,
}

impl Cost {
    /// In thousandths, rounded up: a bar is not met by rounding.
    fn per_mille(&self) -> u64 {
        (self.swept * 1000).div_ceil(self.alone)
    }

    fn told(&self, what: &str, count: usize) -> String {
        let percent = |bytes: u64| {
            let tenths = bytes * 1000 / self.alone;
            format!("{}.{} %", tenths / 10, tenths % 10)
        };
        format!(
            "{what}: {count} backups, {} left: {} bytes after the sweep, {} of the {} that they take alone; dead records \
             {} bytes ({}), bases of deltas {} in {} records ({}; {} in {} where they are alone)",
            self.survivors,
            self.swept,
            percent(self.swept),
            self.alone,
            self.dead,
            percent(self.dead),
            self.bases.bytes,
            self.bases.records,
            percent(self.bases.bytes),
            self.bases_alone.bytes,
            self.bases_alone.records,
        )
    }
}

fn pack_bytes(store: &dyn Store) -> u64 {
    store.list(&format!("l/{}/pk/", lineage_id())).unwrap().iter().map(|object| object.size).sum()
}

/// How a database changes between two backups.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// A few rows here and there, and now and then a chunk that is written anew.
    FewRows,
    /// Rows in every chunk: nothing is ever equal to the backup before, chains are always long.
    RowsEverywhere,
    /// So many rows that a delta is hardly worth it: bases cost the most.
    ManyRows,
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % below
    }
}

/// One round of changes to a database of some chunks. A row is what does not compress.
fn grow(members: &mut Members, change: Change, dice: &mut Dice) {
    let table = members.get_mut(&b"data/base/1/16384"[..]).unwrap();
    let chunks = table.len() / 131_072;
    let (rows, length) = match change {
        Change::FewRows => (12, 40),
        Change::RowsEverywhere => (6 * chunks, 100),
        Change::ManyRows => (40 * chunks, 250),
    };
    for number in 0..rows {
        // Without a hole: in the two heavy ones each chunk has its part.
        let at = match change {
            Change::FewRows => dice.roll(table.len() - length),
            Change::RowsEverywhere | Change::ManyRows => {
                number % chunks * 131_072 + dice.roll(131_072 - length)
            }
        };
        let row = room::pages(dice.roll(1 << 30) as u64, length);
        table[at..at + length].copy_from_slice(&row);
    }
    if matches!(change, Change::FewRows) && dice.roll(4) == 0 {
        let chunk = dice.roll(chunks) * 131_072;
        table[chunk..chunk + 131_072].copy_from_slice(&room::pages(dice.roll(1 << 30) as u64, 131_072));
    }
}

/// A case of the measurement.
#[derive(Debug, Clone, Copy)]
struct Case {
    /// One backup in so many is left in the end.
    kept_of: usize,
    change: Change,
    /// Whether what is left is stored anew before it is swept.
    rebases: bool,
}

/// `count` backups of one lineage: those that are not to be left are deleted at random on the way, and
/// swept now and then.
fn cost_of(count: usize, case: Case, options: &SweepOptions) -> Cost {
    let Case { kept_of, change, rebases } = case;
    let (swept, alone) = (MemoryStore::new(), MemoryStore::new());
    let (room, reference) = (Room::new(Arc::new(swept.clone())), Room::new(Arc::new(alone.clone())));
    let mut members = Members::from([(b"data/base/1/16384".to_vec(), room::pages(1, 1 << 20))]);
    let (mut parent, mut dice, mut rows) = (None, Dice(7), Rows::default());
    // By the attempt that each was at first.
    let mut survivors: BTreeMap<AttemptId, Members> = BTreeMap::new();
    for number in 0..count {
        grow(&mut members, change, &mut dice);
        let attempt = room.back_up(&members, parent).unwrap().attempt;
        rows.publish(attempt);
        survivors.insert(attempt, members.clone());
        // What stays is spread over the whole history.
        if survivors.len() > number / kept_of + 1 {
            let victim = *survivors.keys().nth(dice.roll(survivors.len() - 1)).unwrap();
            survivors.remove(&victim);
            rows.delete(&room.lineage, &record(victim).backup_id);
        }
        if number % 50 == 49 {
            try_sweep(&room, options).unwrap();
        }
        if rebases && (number + 1 == count || number % 70 == 69) {
            let report = room::rebase(&room, &mut rows).unwrap();
            assert!(report.stored_anew > 0, "{report:?}");
            assert_eq!((report.doubts, report.left), (Vec::new(), 0));
        }
        parent = room.lineage.latest_parent().unwrap();
        assert_eq!(parent, Some(rows.get(&record(attempt).backup_id).unwrap().attempt));
    }
    let report = try_sweep(&room, options).unwrap();
    assert_eq!(report.doubts, []);
    let mut parent = None;
    for members in survivors.values() {
        parent = Some(reference.back_up(members, parent).unwrap().attempt);
    }
    // After a rebase every one of them is read back: nothing may be missing of what was moved.
    for (first, members) in survivors.iter().step_by(if rebases { 1 } else { depth::choose(5, 1) }) {
        let now = rows.get(&record(*first).backup_id).unwrap().attempt;
        assert_eq!(&room.read(now).unwrap(), members);
    }
    let level = depth::choose(Level::Digest, Level::Decode);
    let checked = room.repository.check(level, &CancelToken::new(), &Progress::new()).unwrap();
    assert!(checked.passed(), "{checked:#?}");
    let cancel = CancelToken::new();
    Cost {
        survivors: survivors.len(),
        swept: pack_bytes(&swept),
        alone: pack_bytes(&alone),
        dead: report.dead_kept.bytes,
        bases: room.lineage.base_cost(&cancel).unwrap(),
        bases_alone: reference.lineage.base_cost(&cancel).unwrap(),
    }
}

fn assert_costs(what: &str, case: Case, options: &SweepOptions, per_mille: u64) -> Cost {
    let count = depth::choose(120, 1000);
    let cost = cost_of(count, case, options);
    let told = cost.told(&format!("{what}, {case:?}"), count);
    depth::report(format_args!("{told}"));
    assert!(cost.per_mille() <= per_mille, "{told}");
    cost
}

const fn left_as_is(kept_of: usize, change: Change) -> Case {
    Case { kept_of, change, rebases: false }
}

#[test]
fn r04_space_after_random_deletions_at_the_default_threshold() {
    assert_eq!(USUAL.dead_percent, SweepOptions::default().dead_percent);
    assert_costs("default threshold", left_as_is(4, Change::FewRows), &USUAL, 1600);
}

#[test]
fn r04_space_after_random_deletions_at_the_tightest_threshold() {
    assert_costs("tightest threshold", left_as_is(4, Change::FewRows), &TIGHTEST, 1200);
}

/// Beyond the bar: rows in every chunk, each time. Chains of deltas then stand on backups that are
/// gone, until they are stored anew. What that costs is told, and must not grow.
#[test]
fn r04_what_bases_cost_where_every_chunk_changes_each_time() {
    let case = left_as_is(4, Change::RowsEverywhere);
    assert_costs("default threshold", case, &USUAL, BASES_PER_MILLE_MAX);
    assert_costs("tightest threshold", case, &TIGHTEST, BASES_PER_MILLE_MAX);
}

#[test]
fn r04_what_bases_cost_where_deltas_are_hardly_worth_it() {
    let case = left_as_is(4, Change::ManyRows);
    assert_costs("default threshold", case, &USUAL, BASES_PER_MILLE_MAX);
    assert_costs("tightest threshold", case, &TIGHTEST, BASES_PER_MILLE_MAX);
}

#[test]
fn r04_what_bases_cost_when_next_to_nothing_is_left() {
    let case = left_as_is(50, Change::RowsEverywhere);
    assert_costs("default threshold", case, &USUAL, BASES_PER_MILLE_MAX);
    assert_costs("tightest threshold", case, &TIGHTEST, BASES_PER_MILLE_MAX);
}

/// A chain is a full record and four deltas of a third of it at most: 7/3 of what the chunk alone takes.
const BASES_PER_MILLE_MAX: u64 = 2334;

/// The bars, whatever changes: with what is left stored anew, no record stays for another's sake.
fn assert_bars_when_stored_anew(kept_of: usize, change: Change, tightest_per_mille: u64) {
    let case = Case { kept_of, change, rebases: true };
    for (what, options, per_mille) in
        [("default threshold", &USUAL, 1600), ("tightest threshold", &TIGHTEST, tightest_per_mille)]
    {
        let cost = assert_costs(what, case, options, per_mille);
        assert_eq!(cost.bases, BaseCost::default(), "nothing stands on what is gone");
    }
}

#[test]
fn r04_space_stored_anew_where_few_rows_change() {
    assert_bars_when_stored_anew(4, Change::FewRows, 1200);
}

#[test]
fn r04_space_stored_anew_where_every_chunk_changes_each_time() {
    assert_bars_when_stored_anew(4, Change::RowsEverywhere, 1200);
}

#[test]
fn r04_space_stored_anew_where_deltas_are_hardly_worth_it() {
    assert_bars_when_stored_anew(4, Change::ManyRows, 1200);
}

#[test]
fn r04_space_stored_anew_when_next_to_nothing_is_left() {
    assert_bars_when_stored_anew(50, Change::RowsEverywhere, 1200);
}
