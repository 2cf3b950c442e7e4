//! Each step of each procedure: killed before and after it, frozen past the lease and let go
//! again, failed once. The job ends, nothing COMPLETED does not restore, the next backup works.

use std::sync::{Arc, Mutex};

use strongroom_core::{Error, ErrorKind, Result};
use strongroom_service::work::{StepEdge, StepGate};
use strongroom_testkit::depth;
use strongroom_testkit::store::{FaultyStore, Gate};

use crate::kills::arrived;
use crate::room::Room;
use crate::subject::{ALL, Procedure, clear_readers};

/// What befalls a worker at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Befall {
    Killed,
    Frozen,
    Failed,
}

/// The gate of a test's worker: remembers what passed, and does one thing at one step.
pub(crate) struct Steps {
    store: FaultyStore,
    plan: Mutex<Option<(&'static str, StepEdge, Befall)>>,
    passed: Mutex<Vec<(&'static str, StepEdge)>>,
    pub(crate) gate: Arc<Gate>,
}

impl Steps {
    pub(crate) fn new(store: FaultyStore) -> Arc<Self> {
        Arc::new(Self { store, plan: Mutex::default(), passed: Mutex::default(), gate: Arc::default() })
    }

    pub(crate) fn arm(&self, step: &'static str, edge: StepEdge, befall: Befall) {
        *self.plan.lock().unwrap() = Some((step, edge, befall));
    }

    pub(crate) fn passed(&self) -> Vec<(&'static str, StepEdge)> {
        self.passed.lock().unwrap().clone()
    }

    pub(crate) fn has_struck(&self) -> bool {
        self.plan.lock().unwrap().is_none()
    }
}

impl StepGate for Steps {
    fn pass(&self, step: &'static str, edge: StepEdge) -> Result<()> {
        self.passed.lock().unwrap().push((step, edge));
        let is_here = |plan: &mut (&'static str, StepEdge, Befall)| (plan.0, plan.1) == (step, edge);
        let hit = self.plan.lock().unwrap().take_if(is_here);
        match hit {
            None => Ok(()),
            Some((_, _, Befall::Frozen)) => {
                self.gate.stand();
                Ok(())
            }
            Some((_, _, Befall::Failed)) => Err(Error::new(ErrorKind::Unavailable, "This step fails once.")),
            Some((_, _, Befall::Killed)) => {
                self.store.die();
                Err(Error::new(ErrorKind::Unavailable, "The process is dead."))
            }
        }
    }
}

/// The steps of a clean run.
async fn steps_of(room: &Room, procedure: Procedure) -> Vec<(&'static str, StepEdge)> {
    let asked = procedure.ask(room, "clean").await;
    let mut process = room.process().await;
    process.worker.run_due().await;
    procedure.assert_done(room, &asked).await;
    process.steps.passed()
}

/// One worker meets its fate at one step; others do what is left.
async fn befalls(room: &Room, procedure: Procedure, place: (&'static str, StepEdge), befall: Befall) {
    let what = format!("{procedure:?} {befall:?} {place:?}");
    let asked = procedure.ask(room, &format!("{befall:?}-{}-{:?}", place.0, place.1)).await;
    let mut process = room.process().await;
    let steps = process.steps.clone();
    steps.arm(place.0, place.1, befall);
    let running = tokio::spawn(async move {
        process.worker.run_due().await;
        process
    });
    if befall == Befall::Frozen {
        arrived(&steps.gate).await;
        room.advance_past_leases();
        room.process().await.worker.run_due().await;
        procedure.assert_done(room, &asked).await;
        let before = (asked.row(room).await, room.job(&asked.job).await);
        steps.gate.release();
        running.await.unwrap();
        let after = (asked.row(room).await, room.job(&asked.job).await);
        assert_eq!(before, after, "{what}: a worker that slept changed something");
    } else {
        let mut process = running.await.unwrap();
        room.assert_whole().await;
        room.advance_past_leases();
        if befall == Befall::Killed {
            process = room.process().await;
        }
        process.worker.run_due().await;
    }
    assert!(steps.has_struck(), "{what}: the step was never reached");
    procedure.assert_done(room, &asked).await;
    room.assert_whole().await;
    assert!(room.open_attempts().is_empty(), "{what}: an attempt is undecided");
    assert_eq!(room.process().await.worker.run_due().await, 0, "{what}: work is left");
    clear_readers(room);
}

async fn matrix(procedure: Procedure, wanted: &[&str]) {
    matrix_at(procedure, wanted, wanted).await;
}

/// As [`matrix`], at some of the steps.
async fn matrix_at(procedure: Procedure, wanted: &[&str], at: &[&str]) {
    let room = Room::new().await;
    room.completed("base").await;
    let places = steps_of(&room, procedure).await;
    let names: Vec<&str> =
        places.iter().filter(|(_, edge)| *edge == StepEdge::Before).map(|(step, _)| *step).collect();
    assert_eq!(names, wanted, "the steps of {procedure:?}");
    for befall in [Befall::Killed, Befall::Frozen, Befall::Failed] {
        for place in places.iter().filter(|(step, _)| at.contains(step)) {
            befalls(&room, procedure, *place, befall).await;
        }
        room.assert_all_restore().await;
    }
    room.assert_next_backup_works("next").await;
    let cases = at.len() * 2 * 3;
    depth::report(format_args!("{procedure:?}: {cases} cases, {} steps, both sides", at.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn p03_p04_p07_each_step_of_a_backup_killed_frozen_failed() {
    matrix(Procedure::Backup, &["plan", "open", "stream", "prove", "seal", "publish"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p05_p07_each_step_of_a_delete_killed_frozen_failed() {
    matrix(Procedure::Delete, &["forget", "wish", "remove"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p03_p07_each_step_of_a_verification_killed_frozen_failed() {
    matrix(Procedure::Verify, &["check", "record"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p03_p07_each_step_of_a_check_killed_frozen_failed() {
    matrix(Procedure::Check, &["check", "compare", "record"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r04_p03_p07_each_step_of_a_sweep_killed_frozen_failed() {
    matrix(Procedure::Sweep, &["begin", "sweep", "record"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r04_p03_p07_each_step_of_a_rebase_killed_frozen_failed() {
    let steps = ["rebase", "begin-anew", "move", "begin", "sweep", "record"];
    // What comes after is the sweep's.
    matrix_at(Procedure::Rebase, &steps, depth::choose(&steps[1..3], &steps)).await;
}

/// All of them at once, each with its own worker that dies at a step of its own.
#[tokio::test(flavor = "multi_thread")]
async fn p03_four_workers_die_at_once_and_one_does_their_work() {
    let room = Room::new().await;
    room.completed("base").await;
    let mut asked = Vec::new();
    for procedure in ALL {
        asked.push((procedure, procedure.ask(&room, &format!("{procedure:?}")).await));
    }
    let mut dying = Vec::new();
    for (step, edge) in [
        ("seal", StepEdge::After),
        ("forget", StepEdge::After),
        ("check", StepEdge::Before),
        ("compare", StepEdge::After),
    ] {
        let mut process = room.process().await;
        process.steps.arm(step, edge, Befall::Killed);
        dying.push(tokio::spawn(async move { process.worker.run_due().await }));
    }
    for dying in dying {
        dying.await.unwrap();
    }
    for _ in 0..3 {
        room.advance_past_leases();
        room.process().await.worker.run_due().await;
    }
    for (procedure, asked) in &asked {
        procedure.assert_done(&room, asked).await;
    }
    clear_readers(&room);
    room.assert_all_restore().await;
}
