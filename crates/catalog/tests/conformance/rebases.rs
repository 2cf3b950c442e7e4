//! A backup becomes another attempt: only one that is COMPLETED, only from the attempt that it is, and only
//! by whoever holds the job.

use strongroom_catalog::{Move, Moved};
use strongroom_core::ErrorKind;
use strongroom_core::backup::{Backup, BackupState};
use strongroom_core::id::AttemptId;
use strongroom_core::job::{Job, JobKind};
use uuid::Uuid;

use crate::room::Room;

fn to(backup: &Backup, number: u128) -> Move {
    Move {
        backup: backup.id.clone(),
        from: backup.attempt_id.unwrap(),
        to: AttemptId::new(Uuid::from_u128(number)),
        manifest_digest: "e".repeat(64),
    }
}

async fn sweep(room: &Room) -> strongroom_catalog::Claim {
    let job = Job { project_id: None, ..room.new_job(JobKind::Sweep) };
    room.catalog.sweep_wish(&job).await.unwrap();
    let claim = room.claim().await.unwrap();
    assert_eq!(claim.job.kind, JobKind::Sweep);
    claim
}

pub(crate) async fn a_backup_is_moved_from_what_it_is_and_nothing_else_changes(room: &Room) {
    let instance = room.add_instance("shop").await;
    let backup = room.add_completed(&instance, "nightly").await;
    let (claim, audit) = (sweep(room).await, room.audit("backup.stored_anew"));
    let first = to(&backup, 7);
    let moved = room.catalog.backup_move(&claim.fence, &first, &audit).await.unwrap();
    assert_eq!(moved, Moved::Is(first.to));
    let now = room.backup(&backup).await;
    let expected = Backup {
        attempt_id: Some(first.to),
        manifest_digest: Some(first.manifest_digest.clone()),
        ..backup.clone()
    };
    assert_eq!(now, expected);
    // Asked again, and from what it no longer is.
    for again in [first.clone(), to(&backup, 8)] {
        assert_eq!(
            room.catalog.backup_move(&claim.fence, &again, &audit).await.unwrap(),
            Moved::Is(first.to)
        );
        assert_eq!(room.backup(&backup).await, expected);
    }
}

pub(crate) async fn a_backup_that_leaves_is_not_moved(room: &Room) {
    let instance = room.add_instance("shop").await;
    let backup = room.add_completed(&instance, "nightly").await;
    let claim = sweep(room).await;
    let (audit, wanted) = (room.audit("backup.stored_anew"), to(&backup, 7));
    let delete = room.ask_delete(&backup).await.unwrap();
    let stays = room.catalog.backup_move(&claim.fence, &wanted, &audit).await.unwrap();
    assert_eq!(stays, Moved::Is(wanted.from));
    assert_eq!(room.backup(&backup).await.state, BackupState::Deleting);
    let deleting = room.claim_of(&delete).await;
    let gone = room.audit("backup.gone");
    room.catalog.backup_remove(&deleting.fence, &backup.id, &gone, room.now()).await.unwrap();
    let moved = room.catalog.backup_move(&claim.fence, &wanted, &audit).await.unwrap();
    assert_eq!(moved, Moved::Gone);
    let building = room.add_backup(&instance, "next").await;
    let early = Move { backup: building.id.clone(), ..wanted };
    assert_eq!(room.catalog.backup_move(&claim.fence, &early, &audit).await.unwrap(), Moved::None);
    assert_eq!(room.backup(&building).await.attempt_id, None);
}

pub(crate) async fn p07_a_fenced_sweep_moves_nothing(room: &Room) {
    let instance = room.add_instance("shop").await;
    let backup = room.add_completed(&instance, "nightly").await;
    let stale = sweep(room).await;
    room.advance_s(60);
    let heir = room.claim_of(&stale.job.id).await;
    let audit = room.audit("backup.stored_anew");
    let refused = room.catalog.backup_move(&stale.fence, &to(&backup, 7), &audit).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    assert_eq!(room.backup(&backup).await, backup);
    let moved = room.catalog.backup_move(&heir.fence, &to(&backup, 8), &audit).await.unwrap();
    assert_eq!(moved, Moved::Is(to(&backup, 8).to));
}
