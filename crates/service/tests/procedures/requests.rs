//! Wishes as they come in: cut short, repeated, at the same time; and workers that race for them.

use std::collections::HashSet;
use std::time::Duration;

use strongroom_core::backup::{BackupState, InstanceRef};
use strongroom_core::instance::InstanceState;
use strongroom_core::job::JobState;
use strongroom_core::verification::Level;
use strongroom_core::{Error, ErrorKind};
use strongroom_service::BackupRef;

use crate::room::Room;

/// The process of a request ends at any moment: the wish is there as a whole, or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn p01_p02_a_request_that_is_cut_leaves_all_or_nothing() {
    let room = Room::new().await;
    let mut lost = 0;
    for cut in 0.. {
        let name = format!("cut-{cut}");
        let answered = tokio::time::timeout(Duration::from_micros(cut * 150), room.ask(&name)).await;
        // The client asks again: it gets its backup, or hears that it has it, never a second one.
        match room.ask(&name).await {
            Ok(_) => {
                lost += 1;
                assert!(answered.is_err(), "answered means durable");
            }
            Err(again) => assert_eq!(again.kind(), ErrorKind::BackupInProgress),
        }
        room.assert_whole().await;
        let rows = room.rows().await;
        assert_eq!(rows.iter().filter(|row| row.name.as_str() == name).count(), 1);
        assert_eq!((rows[0].name.as_str(), rows[0].state), (name.as_str(), BackupState::Building));
        room.judge.service.job_cancel(&room.scope().await, &rows[0].job_id).await.unwrap();
        if answered.is_ok() {
            break;
        }
    }
    assert!(lost > 0);
    room.assert_next_backup_works("after").await;
}

/// Three workers of three processes on one list of jobs: each job runs once.
#[tokio::test(flavor = "multi_thread")]
async fn p08_workers_that_race_run_every_job_once() {
    let room = Room::new().await;
    let backup = room.completed("checked").await;
    let mut jobs = HashSet::new();
    for _ in 0..60 {
        let wanted = BackupRef::Id(backup.id.clone());
        let scope = room.scope().await;
        jobs.insert(room.judge.service.backup_verify(&scope, &wanted, Level::Presence).await.unwrap());
    }
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let mut process = room.process().await;
        racers.spawn(async move { process.worker.run_due().await });
    }
    assert_eq!(racers.join_all().await.into_iter().sum::<usize>(), jobs.len());
    for job in jobs {
        let job = room.job(&job).await;
        assert_eq!((job.state, job.epoch.value(), job.attempts), (JobState::Succeeded, 1, 1));
    }
    room.assert_all_restore().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b11_an_instance_that_does_not_answer_is_marked_and_refuses_backups() {
    let room = Room::new().await;
    let (service, scope) = (&room.judge.service, room.scope().await);
    let shop = InstanceRef::Any("shop".to_owned());
    room.engine.fail_probes(Some(|| Error::new(ErrorKind::SourceUnreachable, "Nobody answers.")));
    let refused = service.instance_check(&scope, &shop).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::SourceUnreachable);
    assert_eq!(service.instance_find(&scope, &shop).await.unwrap().state, InstanceState::Unreachable);
    assert_eq!(room.ask("refused").await.unwrap_err().kind(), ErrorKind::InstanceState);
    room.engine.fail_probes(None);
    service.instance_check(&scope, &shop).await.unwrap();
    room.assert_next_backup_works("after").await;
}
