//! What happens behind the server in a story: the worker's part, and time.

use std::time::Duration;

use strongroom_catalog::{Claim, Published};
use strongroom_core::backup::{Failure, InstanceRef};
use strongroom_core::engine::EngineKind;
use strongroom_core::id::{AttemptId, WorkerId};
use strongroom_core::instance::{Instance, InstanceState};
use strongroom_core::job::{JobKind, JobState};
use strongroom_core::size::ByteSize;
use strongroom_core::time::{Clock, Randomness, from_micros};
use strongroom_service::Scheduler;

use crate::room::Room;
use crate::story::Names;

pub(crate) async fn happen(room: &Room, event: &str, names: &mut Names) {
    let words: Vec<&str> = event.split(' ').collect();
    match words.as_slice() {
        ["an", "instance", "called", name] => {
            learn(&room.add_instance(&room.ours, name).await, names);
        }
        ["a", "foreign", "instance", "called", name] => {
            learn(&room.add_instance(&room.theirs, name).await, names);
        }
        ["a", "mysql", "instance", "called", name] => {
            let ready = InstanceState::Ready;
            learn(&room.add_instance_as(&room.ours, name, EngineKind::MySql, ready).await, names);
        }
        ["an", "unfinished", "instance", "called", name] => {
            let (engine, unfinished) = (EngineKind::PostgreSql, InstanceState::Registering);
            learn(&room.add_instance_as(&room.ours, name, engine, unfinished).await, names);
        }
        ["an", "unreachable", "instance", "called", name] => {
            let (engine, away) = (EngineKind::PostgreSql, InstanceState::Unreachable);
            learn(&room.add_instance_as(&room.ours, name, engine, away).await, names);
        }
        ["an", "automated", "backup", "of", name, "completes"] => automated(room, name).await,
        [seconds, "seconds", "pass"] => room.advance_s(seconds.parse().unwrap()),
        ["the", "running", "backup", "completes"] => complete(room).await,
        ["the", "running", "backup", "fails"] => fail(room).await,
        ["the", "running", "delete", "ends"] => remove(room).await,
        _ => panic!("nobody knows how this happens: {event}"),
    }
}

fn learn(instance: &Instance, names: &mut Names) {
    let name = instance.name.as_str().to_uppercase();
    names.insert(name.clone(), instance.id.to_string());
    names.insert(format!("{name}_NODE"), instance.node_id.to_string());
}

/// The one backup that waits, as a worker takes it.
pub(crate) async fn claim_backup(room: &Room) -> Claim {
    claim(room, JobKind::Backup).await
}

async fn claim(room: &Room, kind: JobKind) -> Claim {
    let worker = WorkerId::issue(room.random.uuid(room.clock.now()));
    let until = from_micros(room.now_micros() + 30_000_000);
    let claimed = room.catalog.job_claim(&worker, &[kind], room.clock.now(), until).await.unwrap();
    claimed.unwrap_or_else(|| panic!("there is no {} job to claim", kind.word()))
}

/// 400,000 bytes that cost 60,000.
pub(crate) async fn complete(room: &Room) {
    let claim = claim(room, JobKind::Backup).await;
    let published = Published {
        log: None,
        attempt: AttemptId::new(room.random.uuid(room.clock.now())),
        manifest_digest: "d".repeat(64),
        source_bytes: ByteSize::new(400_000),
        stored_bytes: ByteSize::new(60_000),
        warnings: Vec::new(),
        finished: room.clock.now(),
    };
    let audit = room.audit(&room.ours, "backup.complete");
    let id = claim.job.backup_id.expect("a backup job has its backup");
    room.catalog.backup_publish(&claim.fence, &id, &published, &audit).await.unwrap();
}

/// What is owed for the instance is begun now, and completes.
async fn automated(room: &Room, name: &str) {
    let wanted = InstanceRef::Any((*name).to_owned());
    let instance = room.catalog.instance_find(&room.ours.project, &wanted).await.unwrap().unwrap();
    let owed = room.catalog.policy_find(&room.ours.project, &instance.id).await.unwrap().unwrap();
    let missing = owed.next_due.unwrap().duration_since(room.clock.now()).as_secs();
    room.advance_s(missing.max(0) + 1);
    let mut scheduler = Scheduler::new(room.service.clone());
    assert_eq!(scheduler.look(Duration::ZERO).await.unwrap().begun, 1);
    complete(room).await;
}

async fn fail(room: &Room) {
    let claim = claim(room, JobKind::Backup).await;
    let failure = Failure {
        code: "source_unreachable".to_owned(),
        message: "The source does not answer.".to_owned(),
        hint: Some("start it".to_owned()),
    };
    let (now, audit) = (room.clock.now(), room.audit(&room.ours, "backup.fail"));
    room.catalog.job_fail(&claim.fence, &failure, JobState::Failed, now, &audit).await.unwrap();
}

async fn remove(room: &Room) {
    let claim = claim(room, JobKind::Delete).await;
    let id = claim.job.backup_id.expect("a delete has its backup");
    let (now, audit) = (room.clock.now(), room.audit(&room.ours, "backup.remove"));
    room.catalog.backup_remove(&claim.fence, &id, &audit, now).await.unwrap();
}
