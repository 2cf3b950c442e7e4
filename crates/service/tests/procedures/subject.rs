//! The procedures as subjects of a matrix: how each is asked for, and what must have come of it.

use strongroom_core::backup::{Backup, BackupState};
use strongroom_core::id::JobId;
use strongroom_core::job::JobState;
use strongroom_core::verification::{Level, Outcome};
use strongroom_repository::Store;
use strongroom_service::{BackupRef, SweepWish};

use crate::room::Room;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Procedure {
    Backup,
    Delete,
    Verify,
    Check,
    Sweep,
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
            Self::Backup | Self::Check => service.repository_check(&scope, Level::Decode).await.unwrap(),
        };
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
