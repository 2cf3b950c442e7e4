//! Every call of the store that a clean run makes, with every fault that fits it: the procedure is
//! run to its end by its worker, and nothing that was promised is broken.
//!
//! The calls are learned from a clean run and named by operation, kind of object and number, so
//! that a case is the same whatever the order of the writer's threads.

use std::collections::BTreeMap;

use strongroom_core::ErrorKind;
use strongroom_core::backup::BackupState;
use strongroom_core::job::JobState;
use strongroom_core::limits;
use strongroom_core::verification::Level;
use strongroom_testkit::depth;
use strongroom_testkit::store::{Call, Edge, Fault, Lie, Operation, What, When, kind_of};

use crate::checks::checked;
use crate::room::{Process, Room};
use crate::subject::{Asked, Procedure, clear_readers};

/// Cases of one procedure in a run that is not asked for all of them.
const SAMPLE: usize = 50;
/// A room is left after so many cases, because each of them leaves a backup to be listed.
const CASES_PER_ROOM: usize = 12;

/// Every call with every fault that fits it.
fn cases(calls: &[Call]) -> Vec<Fault> {
    let mut numbers: BTreeMap<(Operation, &'static str), usize> = BTreeMap::new();
    for call in calls {
        *numbers.entry((call.operation, kind_of(&call.key))).or_default() += 1;
    }
    let mut cases = Vec::new();
    for ((operation, kind), count) in numbers {
        let mut faults = vec![
            (What::Fail, Edge::Before),
            (What::Fail, Edge::After),
            (What::FailAs(ErrorKind::Internal), Edge::Before),
            (What::FailAs(ErrorKind::Damage), Edge::Before),
            (What::Slow, Edge::Before),
        ];
        if operation.is_write() {
            faults.push((What::FailAs(ErrorKind::DiskFull), Edge::Before));
        }
        faults.extend(operation.lies().iter().map(|lie| (What::Lie(*lie), Edge::Before)));
        for number in 1..=count {
            let when = When::NthOfKind(number, operation, kind);
            cases.extend(faults.iter().map(|(what, edge)| Fault { when, what: *what, edge: *edge }));
        }
    }
    cases
}

/// A fault after which the store holds something else than it said: found, and told.
fn leaves_damage(fault: &Fault) -> bool {
    matches!(fault.what, What::Lie(Lie::Torn | Lie::Truncated | Lie::Others | Lie::Lost))
}

/// A fault that passes when the call is made again: nothing may fail for good because of it.
fn passes(fault: &Fault) -> bool {
    match fault.what {
        What::Lie(_) | What::FailAs(ErrorKind::Damage) => false,
        What::Die | What::Fail | What::FailAs(_) | What::Freeze | What::Slow => true,
    }
}

/// Runs the worker until nothing is due any more, however often it has to come back.
async fn run_to_the_end(room: &Room, process: &mut Process) {
    for _ in 0..=limits::JOB_ATTEMPTS_MAX {
        process.worker.run_due().await;
        room.advance_past_leases();
    }
}

/// What must hold after any fault; answers whether the job succeeded.
async fn judge(room: &Room, procedure: Procedure, asked: &Asked, fault: &Fault) -> bool {
    let job = room.job(&asked.job).await;
    assert!(job.state.is_terminal(), "{procedure:?} {fault:?}: the job is stuck, {:?}", job.failure);
    let has_succeeded = job.state == JobState::Succeeded;
    assert!(has_succeeded || !passes(fault), "{procedure:?} {fault:?}: {:?}", job.failure);
    room.assert_whole().await;
    match (procedure, asked.row(room).await) {
        (Procedure::Backup, Some(row)) if row.state == BackupState::Completed => {
            assert!(has_succeeded);
            let read = room.read(&row).await;
            let restores = read.as_ref().is_ok_and(|read| *read == room.expected(&row));
            assert!(restores || is_beyond_the_read_back(fault), "{fault:?}: COMPLETED, {:?}", read.err());
        }
        (Procedure::Backup, Some(row)) => {
            assert_eq!(row.state, BackupState::Failed, "{fault:?}");
            assert!(row.failure.is_some());
        }
        (Procedure::Delete, row) => assert_eq!(row, None, "{fault:?}: what was asked to go must go"),
        (Procedure::Sweep, _) => {
            let rows = room.rows().await;
            room.assert_restores(rows.iter().find(|row| row.name.as_str() == "base").unwrap()).await;
        }
        // Nothing is moved to that was not read back, whatever the store said.
        (Procedure::Verify | Procedure::Check | Procedure::Rebase, row) => {
            let row = row.unwrap();
            assert_eq!(row.state, BackupState::Completed);
            room.assert_restores(&row).await;
        }
        (Procedure::Backup, None) => panic!("{fault:?}: an acknowledged backup is gone"),
    }
    has_succeeded
}

/// A store that answers "stored" and keeps other bytes of the same length: the size is right, and
/// of a pack only a sample is read back before the seal. The check finds it.
fn is_beyond_the_read_back(fault: &Fault) -> bool {
    fault.what == What::Lie(Lie::Others)
        && fault.when == When::NthOfKind(number_of(fault), Operation::Commit, "pack")
}

fn number_of(fault: &Fault) -> usize {
    match fault.when {
        When::NthOfKind(number, ..) | When::Call(number) | When::Nth(number, ..) => number,
        When::On(..) => 1,
    }
}

async fn prepared(procedure: Procedure) -> Room {
    let room = Room::new().await;
    room.completed("base").await;
    if procedure == Procedure::Check {
        room.engine.touch(99);
        let gone = room.completed("gone").await;
        room.delete(&gone).await;
        room.process().await.worker.run_due().await;
    }
    room
}

async fn matrix(procedure: Procedure) {
    let room = prepared(procedure).await;
    let asked = procedure.ask(&room, "clean").await;
    let mut process = room.process().await;
    process.store.disarm();
    process.worker.run_due().await;
    procedure.assert_done(&room, &asked).await;
    let calls = process.store.calls();
    // A case of it takes two backups, and makes many calls.
    let sample = if procedure == Procedure::Rebase { SAMPLE / 4 } else { SAMPLE };
    let cases = depth::thin(cases(&calls), sample);
    let (mut met, mut succeeded) = (0, 0);
    for cases in cases.chunks(CASES_PER_ROOM) {
        let room = prepared(procedure).await;
        for (number, fault) in cases.iter().enumerate() {
            let asked = procedure.ask(&room, &format!("case-{number}")).await;
            let mut process = room.process().await;
            process.store.arm(*fault);
            run_to_the_end(&room, &mut process).await;
            met += usize::from(process.store.has_struck());
            succeeded += usize::from(judge(&room, procedure, &asked, fault).await);
            clear_readers(&room);
        }
        after(&room, procedure, cases).await;
    }
    depth::report(format_args!(
        "{procedure:?}: {} calls, {} cases, {met} met, {succeeded} jobs succeeded",
        calls.len(),
        cases.len()
    ));
    assert!(met * 10 > cases.len() * 9, "{met} of {} faults were met", cases.len());
}

/// The room after its cases: the next backup works, and what was damaged for good is told.
async fn after(room: &Room, procedure: Procedure, cases: &[Fault]) {
    room.engine.touch(201);
    let next = room.ask("next-backup").await.unwrap();
    run_to_the_end(room, &mut room.process().await).await;
    let row = room.row(&next).await.unwrap();
    assert_eq!(row.state, BackupState::Completed, "after {cases:?}: {:?}", row.failure);
    room.assert_restores(&row).await;
    let findings = checked(room, Level::Decode).await;
    if !cases.iter().any(leaves_damage) {
        assert!(findings.is_empty(), "{procedure:?}: undamaged data is accused: {findings:#?}");
    }
    for row in room.rows().await.iter().filter(|row| row.state == BackupState::Completed) {
        let name = row.name.as_str().to_owned();
        let is_told = findings.iter().any(|(_, _, backups)| backups.contains(&name));
        let restores = room.read(row).await.is_ok_and(|read| read == room.expected(row));
        assert!(restores || is_told, "{name} does not restore, and no finding names it: {findings:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p03_f03_f08_s06_each_store_call_of_a_backup_with_each_fault() {
    matrix(Procedure::Backup).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p05_f03_f08_each_store_call_of_a_delete_with_each_fault() {
    matrix(Procedure::Delete).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f08_each_store_call_of_a_verification_with_each_fault() {
    matrix(Procedure::Verify).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f08_each_store_call_of_a_check_with_each_fault() {
    matrix(Procedure::Check).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f08_r04_each_store_call_of_a_sweep_with_each_fault() {
    matrix(Procedure::Sweep).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f08_r04_each_store_call_of_a_rebase_with_each_fault() {
    matrix(Procedure::Rebase).await;
}

/// A restore's reads: the right bytes, or an error that says why, and right again when the store is.
#[tokio::test(flavor = "multi_thread")]
async fn f08_g5_each_store_call_of_a_restore_with_each_fault() {
    let room = Room::new().await;
    room.completed("base").await;
    room.engine.touch(3);
    let backup = room.completed("read").await;
    let store = &room.judge.store;
    store.disarm();
    room.assert_restores(&backup).await;
    let calls = store.calls();
    let cases = depth::thin(cases(&calls), 4 * SAMPLE);
    let mut refused = 0;
    for fault in &cases {
        store.arm(*fault);
        match room.read(&backup).await {
            Ok(read) => assert!(read == room.expected(&backup), "{fault:?}: silently wrong"),
            Err(error) => {
                refused += 1;
                assert!(!error.public().is_empty(), "{fault:?}");
            }
        }
        store.disarm();
        clear_readers(&room);
        room.assert_restores(&backup).await;
    }
    depth::report(format_args!("Restore: {} calls, {} cases, {refused} refused", calls.len(), cases.len()));
    assert!(refused > cases.len() / 4);
    assert!(checked(&room, Level::Decode).await.is_empty());
}
