//! What a rule removes, and above all what it never removes.

use proptest::prelude::*;

use super::*;
use crate::time::{from_micros, to_micros};

const DAY_S: i64 = 86_400;

fn day(number: i64) -> Timestamp {
    from_micros((1_800_000_000 + number * DAY_S) * 1_000_000)
}

fn keep(days: i64) -> Keep {
    Keep::parse(days, true).unwrap()
}

fn auto(finished_day: i64) -> Judged {
    Judged {
        kind: BackupType::Auto,
        state: BackupState::Completed,
        finished: Some(day(finished_day)),
        passed: None,
        is_held: false,
    }
}

fn whys(keep: Keep, backups: &[Judged], now: Timestamp) -> Vec<Why> {
    judge(keep, None, backups, now).into_iter().map(|fate| fate.why).collect()
}

#[test]
fn a_backup_goes_when_its_days_are_over_and_not_a_microsecond_before() {
    let backups = [auto(0), auto(9)];
    let end = day(7);
    let before = from_micros(to_micros(end) - 1);
    assert_eq!(whys(keep(7), &backups, before)[0], Why::WithinKeepDays);
    assert_eq!(judge(keep(7), None, &backups, before)[0].goes, Some(end));
    assert_eq!(whys(keep(7), &backups, end)[0], Why::Due);
    assert_eq!(whys(Keep::Off { reserve: true }, &backups, day(9_000)), [Why::AutomationOff; 2]);
    assert_eq!(whys(Keep::Off { reserve: false }, &backups, day(9)), [Why::Due, Why::Protected]);
}

#[test]
fn g8_what_is_never_removed_by_a_rule() {
    let verified = |finished, level| Judged { passed: Some(level), ..auto(finished) };
    let manual = Judged { kind: BackupType::Manual, ..auto(0) };
    let held = Judged { is_held: true, ..auto(1) };
    let failed = Judged { state: BackupState::Failed, ..auto(9) };
    let building = Judged { state: BackupState::Building, finished: None, ..auto(0) };
    let deleting = Judged { state: BackupState::Deleting, ..auto(8) };
    let backups = [
        manual,
        held,
        verified(2, Level::Engine),
        verified(3, Level::Engine),
        verified(4, Level::Digest),
        auto(5),
        auto(6),
        failed,
        building,
        deleting,
    ];
    let fates = judge(keep(1), None, &backups, day(1_000));
    assert_eq!(
        fates.iter().map(|fate| (fate.why, fate.protection)).collect::<Vec<_>>(),
        [
            (Why::Manual, None),
            (Why::Protected, Some(Protection::Held)),
            (Why::Due, None),
            (Why::Protected, Some(Protection::Verified(Level::Engine))),
            (Why::Protected, Some(Protection::Verified(Level::Digest))),
            (Why::Due, None),
            (Why::Protected, Some(Protection::Newest)),
            (Why::Due, None),
            (Why::Building, None),
            (Why::Deleting, None),
        ]
    );
}

#[test]
fn r01_a_policy_that_keeps_less_long_can_be_undone_for_a_while() {
    let backups = [auto(0), auto(9)];
    let shortened = day(9);
    let grace = SignedDuration::from_secs(limits::RETENTION_GRACE_S);
    let fate = |now| judge(keep(1), Some(shortened), &backups, now)[0];
    let last = shortened + grace - SignedDuration::from_micros(1);
    assert_eq!((fate(last).why, fate(last).goes), (Why::PolicyShortened, Some(shortened + grace)));
    assert_eq!(fate(shortened + grace).why, Why::Due);
}

fn any_backup() -> impl Strategy<Value = Judged> {
    let level = prop::option::of(prop::sample::select(Level::ALL.to_vec()));
    let state = prop::sample::select(BackupState::ALL.to_vec());
    let kind = prop::sample::select(vec![BackupType::Manual, BackupType::Auto]);
    (kind, state, 0_i64..40, level, prop::bool::weighted(0.1)).prop_map(
        |(kind, state, at, passed, is_held)| {
            let finished = (state != BackupState::Building).then(|| day(at));
            Judged { kind, state, finished, passed, is_held }
        },
    )
}

proptest! {
    /// Whatever stands there, after everything that is due has gone: the newest COMPLETED backup is
    /// as new as before, and so is the newest that passed at each level; nothing manual went, nothing
    /// early, and a second look removes nothing more.
    #[test]
    fn g8_no_rule_takes_the_last_good_backup(
        backups in prop::collection::vec(any_backup(), 0..30), days in 0_i64..20, reserve: bool, now in 0_i64..80,
    ) {
        let (keep, now) = (Keep::parse(days, reserve).unwrap(), day(now));
        let fates = judge(keep, None, &backups, now);
        let left: Vec<Judged> =
            backups.iter().zip(&fates).filter(|(_, fate)| !fate.is_due()).map(|(backup, _)| *backup).collect();
        let newest = |among: &[Judged], least: Option<Level>| {
            among
                .iter()
                .filter(|backup| backup.state == BackupState::Completed && backup.passed >= least)
                .filter_map(|backup| backup.finished)
                .max()
        };
        for least in [None].into_iter().chain(Level::ALL.map(Some)) {
            prop_assert_eq!(newest(&backups, least), newest(&left, least), "{:?}", least);
        }
        for (backup, fate) in backups.iter().zip(&fates).filter(|(_, fate)| fate.is_due()) {
            prop_assert_eq!(backup.kind, BackupType::Auto);
            prop_assert!(!backup.is_held && fate.protection.is_none());
            let age = now.duration_since(backup.finished.unwrap());
            prop_assert!(age >= SignedDuration::from_hours(24 * days));
            prop_assert!(days > 0 || !reserve);
        }
        prop_assert!(judge(keep, None, &left, now).iter().all(|fate| !fate.is_due()));
    }
}
