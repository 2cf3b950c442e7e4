//! Random histories against a small model: who holds which job decides what may succeed.

use std::collections::HashMap;

use serde_json::json;
use strongroom_catalog::Claim;
use strongroom_core::backup::{Backup, BackupState};
use strongroom_core::id::{JobId, ProjectId};
use strongroom_core::instance::Instance;
use strongroom_core::job::{Fence, JobKind, JobState, JobStep};
use strongroom_core::progress::ProgressReading;
use strongroom_core::verification::{Level, Outcome, Verification};
use strongroom_core::{ErrorKind, Result};

use crate::room::{Room, failure};

const SEEDS: u64 = 4;
const MOVES: u32 = 150;

/// A small generator, so that a seed is a history.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, things: &'a [T]) -> Option<&'a T> {
        (!things.is_empty()).then(|| &things[self.roll(things.len())])
    }
}

struct Storm<'a> {
    room: &'a Room,
    dice: Dice,
    instances: Vec<Instance>,
    backups: Vec<Backup>,
    /// Every claim ever made, also those that hold no more.
    claims: Vec<Claim>,
    /// The claim that holds a job now.
    holders: HashMap<JobId, Fence>,
    names: u32,
}

pub(crate) async fn p07_random_histories_keep_every_rule(room: &Room) {
    for seed in 1..=SEEDS {
        let mut storm = Storm::new(room, seed).await;
        for number in 0..MOVES {
            storm.play().await;
            let broken = room.catalog.invariants_check().await.unwrap();
            assert!(broken.is_empty(), "seed {seed}, move {number}: {broken:#?}");
        }
        storm.calm_down().await;
        room.assert_whole().await;
    }
}

impl<'a> Storm<'a> {
    async fn new(room: &'a Room, seed: u64) -> Self {
        let mut instances = Vec::new();
        for number in 0..3 {
            instances.push(room.add_instance(&format!("storm-{seed}-{number}")).await);
        }
        // An even seed plays under a quota that is reached now and then.
        let quota = seed.is_multiple_of(2).then_some(6);
        room.catalog.project_quota_put(&room.project, quota).await.unwrap();
        let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { room, dice, instances, backups: vec![], claims: vec![], holders: HashMap::new(), names: 0 }
    }

    fn project(&self) -> &'a ProjectId {
        &self.room.project
    }

    async fn play(&mut self) {
        match self.dice.roll(12) {
            0 | 1 => self.admit().await,
            2 | 3 => self.claim().await,
            4 => self.delete().await,
            5 => self.verify().await,
            6 => self.cancel().await,
            7 => {
                self.room.advance_s([1, 5, 31][self.dice.roll(3)]);
            }
            _ => self.work().await,
        }
    }

    async fn admit(&mut self) {
        let Some(instance) = self.dice.pick(&self.instances) else { return };
        // One name in four is used already.
        self.names += u32::from(self.dice.roll(4) > 0);
        let (backup, job) = self.room.new_backup(instance, &format!("storm-{}", self.names));
        match self.room.admit(&backup, &job).await {
            Ok(()) => self.backups.push(backup),
            Err(refused) => assert!(
                matches!(
                    refused.kind(),
                    ErrorKind::BackupInProgress | ErrorKind::BackupNameTaken | ErrorKind::QuotaExceeded
                ),
                "{refused:?}"
            ),
        }
    }

    async fn claim(&mut self) {
        let Some(claim) = self.room.claim().await else { return };
        if let Some(earlier) = self.holders.insert(claim.job.id.clone(), claim.fence.clone()) {
            assert!(claim.taken_over, "a job that was held is taken over or not at all");
            assert!(claim.fence.epoch > earlier.epoch);
        } else {
            assert!(!claim.taken_over);
        }
        self.claims.push(claim);
    }

    async fn delete(&mut self) {
        let Some(backup) = self.dice.pick(&self.backups).cloned() else { return };
        let before = self.room.catalog.backup_by_id(&backup.id).await.unwrap();
        let outcome = self.room.ask_delete(&backup).await.map_err(|refused| refused.kind());
        match before.map(|backup| backup.state) {
            None => assert_eq!(outcome, Err(ErrorKind::BackupNotFound)),
            Some(BackupState::Building) => assert_eq!(outcome, Err(ErrorKind::InstanceBusy)),
            Some(_) => assert!(outcome.is_ok()),
        }
    }

    async fn verify(&mut self) {
        let Some(backup) = self.dice.pick(&self.backups).cloned() else { return };
        let before = self.room.catalog.backup_by_id(&backup.id).await.unwrap();
        let job = self.room.new_job_on(JobKind::Verify, &backup);
        let outcome = self.room.catalog.job_admit(&job, &self.room.audit("backup.verify")).await;
        assert_eq!(outcome.is_ok(), before.is_some_and(|backup| backup.state == BackupState::Completed));
    }

    async fn cancel(&mut self) {
        let Some(backup) = self.dice.pick(&self.backups).cloned() else { return };
        let audit = self.room.audit("job.cancel");
        let job = self.room.job(&backup.job_id).await;
        let was_tried = job.epoch.value() > 0;
        let asked =
            self.room.catalog.job_cancel_ask(self.project(), &backup.job_id, &audit, self.room.now()).await;
        assert_eq!(asked.unwrap().ended, job.state.is_terminal() || !was_tried);
    }

    /// Somebody who claimed a job once, and may or may not still hold it, does something to it.
    async fn work(&mut self) {
        let Some(claim) = self.dice.pick(&self.claims).cloned() else { return };
        let holds = self.holders.get(&claim.job.id) == Some(&claim.fence);
        let (ends, outcome) = match self.dice.roll(6) {
            0 => (false, self.renew(&claim).await),
            1 => (false, self.step(&claim).await),
            2 => (true, self.room.catalog.job_release(&claim.fence, self.room.now()).await),
            3 => (true, self.retry(&claim).await),
            4 => (true, self.fail(&claim).await),
            _ => (true, self.finish(&claim).await),
        };
        let wanted = if holds { Ok(()) } else { Err(ErrorKind::Fenced) };
        assert_eq!(outcome.map_err(|refused| refused.kind()), wanted, "{:?}", claim.job.kind);
        if holds && ends {
            self.holders.remove(&claim.job.id);
        }
    }

    async fn renew(&self, claim: &Claim) -> Result<()> {
        let progress = ProgressReading::default();
        self.room.catalog.job_renew(&claim.fence, self.room.in_s(30), &progress).await.map(|_| ())
    }

    async fn step(&self, claim: &Claim) -> Result<()> {
        let (attempt, at) = (claim.job.attempts, self.room.now());
        let step = JobStep { attempt, name: "plan".to_owned(), at, output: json!({}) };
        self.room.catalog.job_step_record(&claim.fence, &step).await
    }

    async fn retry(&mut self, claim: &Claim) -> Result<()> {
        let counted = self.dice.roll(2) == 0;
        self.room.catalog.job_retry(&claim.fence, self.room.in_s(3), &failure("storm"), counted).await
    }

    async fn fail(&mut self, claim: &Claim) -> Result<()> {
        let state = if self.dice.roll(2) == 0 { JobState::Failed } else { JobState::Cancelled };
        let audit = self.room.audit("job.fail");
        self.room.catalog.job_fail(&claim.fence, &failure("storm"), state, self.room.now(), &audit).await
    }

    async fn finish(&self, claim: &Claim) -> Result<()> {
        let (catalog, now) = (&self.room.catalog, self.room.now());
        let audit = self.room.audit("job.succeed");
        let backup = claim.job.backup_id.as_ref().expect("every job of the storm has a backup");
        match claim.job.kind {
            JobKind::Backup => {
                catalog.backup_publish(&claim.fence, backup, &self.room.published(), &audit).await
            }
            JobKind::Delete => catalog.backup_remove(&claim.fence, backup, &audit, now).await,
            JobKind::Verify | JobKind::CheckRepository | JobKind::Sweep | JobKind::PlanSweep => {
                let found = Verification {
                    level: Level::Decode,
                    outcome: Outcome::Passed,
                    at: now,
                    findings: vec![],
                    drill: None,
                };
                catalog.verification_record(&claim.fence, backup, &found, &json!({}), now, &audit).await
            }
        }
    }

    /// I12: when the faults stop, every job ends.
    async fn calm_down(&mut self) {
        loop {
            self.room.advance_s(120);
            let Some(claim) = self.room.claim().await else { break };
            self.finish(&claim).await.unwrap();
        }
        let reading = self.room.catalog.metrics_reading(self.room.now()).await.unwrap();
        let live = |state| matches!(state, JobState::Ready | JobState::Leased);
        assert!(!reading.jobs.iter().any(|(state, ..)| live(*state)), "{:?}", reading.jobs);
        let unfinished = |state| matches!(state, BackupState::Building | BackupState::Deleting);
        assert!(!reading.backups.iter().any(|(state, _)| unfinished(*state)), "{:?}", reading.backups);
    }
}
