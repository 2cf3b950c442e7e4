//! The procedures as subjects of a matrix: how each is asked for, and what must have come of it.

use strongroom_core::backup::{Backup, BackupState};
use strongroom_core::engine::CancelToken;
use strongroom_core::id::JobId;
use strongroom_core::job::JobState;
use strongroom_core::verification::{Level, Outcome};
use strongroom_repository::Store;
use strongroom_service::{BackupRef, SweepWish};

use crate::engine::{TABLE, pages};
use crate::room::Room;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Procedure {
    Backup,
    Delete,
    Verify,
    Check,
    Sweep,
    /// A sweep that first stores anew what stands on what was deleted.
    Rebase,
}

pub(crate) const ALL: [Procedure; 5] =
    [Procedure::Delete, Procedure::Verify, Procedure::Check, Procedure::Sweep, Procedure::Backup];

/// A job that was asked for, and the backup it is about.
pub(crate) struct Asked {
    pub(crate) backup: Backup,
    pub(crate) job: JobId,
}

impl Asked {
    pub(crate) async fn row(&self, room: &Room) -> Option<Backup> {
        room.row(&self.backup).await
    }
}

impl Procedure {
    pub(crate) async fn ask(self, room: &Room, name: &str) -> Asked {
        let name = format!("{self:?}-{name}");
        room.engine.touch(name.bytes().fold(7, |sum, byte| sum ^ byte.rotate_left(3)));
        if self == Self::Backup {
            let backup = room.ask(&name).await.unwrap();
            let job = backup.job_id.clone();
            return Asked { backup, job };
        }
        if self == Self::Rebase {
            return Self::ask_rebase(room, &name).await;
        }
        let backup = match room.rows().await.into_iter().find(|row| row.name.as_str() == "base") {
            Some(base) if !matches!(self, Self::Delete | Self::Sweep) => base,
            _ => room.completed(&name).await,
        };
        room.advance_ms(1);
        let (scope, wanted) = (room.scope().await, BackupRef::Id(backup.id.clone()));
        let service = &room.judge.service;
        let job = match self {
            Self::Delete => room.delete(&backup).await,
            Self::Verify => service.backup_verify(&scope, &wanted, Level::Decode).await.unwrap(),
            Self::Sweep => {
                room.delete(&backup).await;
                room.process().await.worker.run_due().await;
                service.repository_sweep(&scope, SweepWish::default()).await.unwrap()
            }
            Self::Backup | Self::Check | Self::Rebase => {
                service.repository_check(&scope, Level::Decode).await.unwrap()
            }
        };
        Asked { backup, job }
    }

    /// A backup that stands on another one, which is deleted.
    async fn ask_rebase(room: &Room, name: &str) -> Asked {
        let seed = name.bytes().fold(90, |sum: u8, byte| sum.rotate_left(3) ^ byte);
        let mut database = room.engine.database();
        let table = database.get_mut(TABLE).and_then(|node| node.content.as_mut()).unwrap();
        *table = pages(u64::from(seed) + 5000, table.len());
        room.engine.set_database(database);
        let gone = room.completed(name).await;
        room.engine.touch(seed);
        let backup = room.completed(&format!("{name}-left")).await;
        room.delete(&gone).await;
        room.process().await.worker.run_due().await;
        let cost = room.lineage().base_cost(&CancelToken::new()).unwrap();
        assert!(cost.records > 0, "it stands on what is gone");
        let wish = SweepWish { rebase: true, ..SweepWish::default() };
        let job = room.judge.service.repository_sweep(&room.scope().await, wish).await.unwrap();
        Asked { backup, job }
    }

    /// It succeeded, and what it was for is so.
    pub(crate) async fn assert_done(self, room: &Room, asked: &Asked) {
        let job = room.job(&asked.job).await;
        assert_eq!(job.state, JobState::Succeeded, "{self:?}: {:?}", job.failure);
        match self {
            Self::Backup => {
                assert_eq!(room.state(&asked.backup).await, Some(BackupState::Completed));
                room.assert_restores(&asked.backup).await;
            }
            Self::Delete => {
                assert_eq!(room.state(&asked.backup).await, None);
                let attempt = asked.backup.attempt_id.unwrap();
                assert!(room.lineage().is_forgotten(attempt).unwrap(), "the tombstone stands");
            }
            Self::Verify => {
                let verification = asked.row(room).await.unwrap().verification.unwrap();
                assert_eq!(verification.outcome, Outcome::Passed, "{:?}", verification.findings);
            }
            Self::Check => assert_eq!(job.result.unwrap()["result"], "passed"),
            Self::Rebase => {
                let now = asked.row(room).await.unwrap();
                assert_ne!(now.attempt_id, asked.backup.attempt_id, "it was moved");
                room.assert_restores(&asked.backup).await;
                let cost = room.lineage().base_cost(&CancelToken::new()).unwrap();
                assert_eq!(cost.records, 0, "nothing stands on what is gone");
                // All else that is known of it is what it was.
                let (attempt_id, manifest_digest) = (now.attempt_id, now.manifest_digest.clone());
                assert_eq!(now, Backup { attempt_id, manifest_digest, ..asked.backup.clone() });
            }
            Self::Sweep => {
                let (result, attempt) = (job.result.unwrap(), asked.backup.attempt_id.unwrap());
                assert!(result["bytes_freed"].as_u64().unwrap() > 0, "{result}");
                assert_eq!(room.keys(&format!("/tb/{attempt}.0.end")).len(), 1, "it is gone for good");
                assert_eq!(result["doubts"], serde_json::json!([]));
            }
        }
    }
}

/// What dead readers leave is the sweep's, an hour later.
pub(crate) fn clear_readers(room: &Room) {
    for left in room.keys("/in/r-") {
        room.objects.delete(&left).unwrap();
    }
}
