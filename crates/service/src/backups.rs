//! Backups as callers ask for them.

use serde_json::json;
use strongroom_catalog::{BackupFilter, Cursor};
use strongroom_core::backup::{Backup, BackupState, BackupType, InstanceRef, NewBackup};
use strongroom_core::id::{BackupId, InstanceId, JobId};
use strongroom_core::instance::{Instance, InstanceState};
use strongroom_core::job::{Job, JobKind, JobState, LeaseEpoch};
use strongroom_core::progress::ProgressReading;
use strongroom_core::text::BackupName;
use strongroom_core::verification::Level;
use strongroom_core::{Error, ErrorKind, Result};

use crate::identity::{Action, Scope};
use crate::parts::Service;

/// How a backup was referred to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupRef {
    /// The RDS dialects: its id.
    Id(BackupId),
    /// Commands and native API: an id or a unique name.
    Any(String),
}

impl Service {
    /// Accepts a manual backup: when this answers, row and job are durable.
    pub async fn backup_create(&self, scope: &Scope, new: NewBackup) -> Result<Backup> {
        scope.require(Action::Operate)?;
        let instance = self.instance_for_backup(scope, &new.instance).await?;
        let job = self.new_job(scope, JobKind::Backup, Some(&instance.id), json!({}));
        let backup = Backup {
            id: BackupId::issue(self.uuid(), instance.engine),
            project_id: scope.project().clone(),
            instance_id: instance.id.clone(),
            node_id: instance.node_id,
            name: new.name,
            description: new.description,
            kind: BackupType::Manual,
            state: BackupState::Building,
            engine: instance.engine,
            engine_version: instance.version,
            lineage_id: instance.lineage_id,
            job_id: job.id.clone(),
            created: job.created,
            finished: None,
            attempt_id: None,
            manifest_digest: None,
            source_bytes: None,
            stored_bytes: None,
            warnings: Vec::new(),
            failure: None,
            verification: None,
        };
        let job = Job { backup_id: Some(backup.id.clone()), ..job };
        let audit =
            self.audit(scope, "backup.create", backup.id.as_str(), json!({ "name": backup.name.as_str() }));
        self.catalog().backup_admit(&backup, &job, &audit).await?;
        tracing::info!(backup.id = %backup.id, job.id = %job.id, instance.id = %instance.id, "Backup accepted.");
        self.wake_worker();
        Ok(backup)
    }

    async fn instance_for_backup(&self, scope: &Scope, wanted: &InstanceRef) -> Result<Instance> {
        let instance = self.instance_find(scope, wanted).await?;
        self.parts().engines.get(instance.engine)?;
        if instance.state != InstanceState::Ready {
            return Err(Error::new(
                ErrorKind::InstanceState,
                "The instance cannot be backed up now: it was not reachable at its last check.",
            )
            .with_hint("run `strongroom instance check` and mend what it names"));
        }
        Ok(instance)
    }

    pub(crate) fn new_job(
        &self,
        scope: &Scope,
        kind: JobKind,
        instance: Option<&InstanceId>,
        input: serde_json::Value,
    ) -> Job {
        let now = self.now();
        Job {
            id: JobId::issue(self.uuid()),
            project_id: Some(scope.project().clone()),
            kind,
            state: JobState::Ready,
            backup_id: None,
            instance_id: instance.cloned(),
            input,
            result: None,
            epoch: LeaseEpoch::from_stored(0),
            worker_id: None,
            lease_until: None,
            attempts: 0,
            run_at: now,
            created: now,
            started: None,
            finished: None,
            progress: ProgressReading::default(),
            cancel_asked: false,
            failure: None,
        }
    }

    /// One page, newest first.
    pub async fn backup_page(
        &self,
        scope: &Scope,
        filter: &BackupFilter,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Backup>> {
        scope.require(Action::Read)?;
        self.catalog().backup_page(scope.project(), filter, after, limit).await
    }

    pub async fn backup_find(&self, scope: &Scope, wanted: &BackupRef) -> Result<Backup> {
        scope.require(Action::Read)?;
        let found = match wanted {
            BackupRef::Id(id) => self.catalog().backup_find(scope.project(), id).await?,
            BackupRef::Any(text) => {
                let by_id = match BackupId::parse(text) {
                    Ok(id) => self.catalog().backup_find(scope.project(), &id).await?,
                    Err(_) => None,
                };
                match (by_id, BackupName::parse(text)) {
                    (Some(backup), _) => Some(backup),
                    (None, Ok(name)) => self.catalog().backup_by_name(scope.project(), &name).await?,
                    (None, Err(_)) => None,
                }
            }
        };
        found.ok_or_else(|| {
            Error::new(ErrorKind::BackupNotFound, "There is no such backup.")
                .with_hint("`strongroom backup list` shows what is there")
        })
    }

    /// A backup whose content can be read.
    pub(crate) async fn backup_completed(&self, scope: &Scope, wanted: &BackupRef) -> Result<Backup> {
        let backup = self.backup_find(scope, wanted).await?;
        match backup.state {
            BackupState::Completed => Ok(backup),
            BackupState::Building => {
                Err(Error::new(ErrorKind::BackupState, "The backup is still being built.")
                    .with_hint("wait for it with `strongroom job watch`"))
            }
            BackupState::Failed => {
                Err(Error::new(ErrorKind::BackupState, "The backup failed; there is nothing to read.")
                    .with_hint("`strongroom backup show` tells why"))
            }
            BackupState::Deleting => {
                Err(Error::new(ErrorKind::BackupBeingDeleted, "The backup is being deleted."))
            }
        }
    }

    /// Accepts a delete. The row is DELETING when this answers, and leaves the list with the job.
    pub async fn backup_delete(&self, scope: &Scope, wanted: &BackupRef) -> Result<JobId> {
        scope.require(Action::Operate)?;
        let backup = self.backup_find(scope, wanted).await?;
        let job = Job {
            backup_id: Some(backup.id.clone()),
            ..self.new_job(scope, JobKind::Delete, Some(&backup.instance_id), json!({}))
        };
        let audit = self.audit(scope, "backup.delete", backup.id.as_str(), json!({}));
        let admitted = self.catalog().backup_delete_admit(scope.project(), &backup.id, &job, &audit).await?;
        self.wake_worker();
        Ok(admitted.job_id)
    }

    /// Accepts a check of one backup.
    pub async fn backup_verify(&self, scope: &Scope, wanted: &BackupRef, level: Level) -> Result<JobId> {
        scope.require(Action::Operate)?;
        let backup = self.backup_completed(scope, wanted).await?;
        let job = Job {
            backup_id: Some(backup.id.clone()),
            ..self.new_job(scope, JobKind::Verify, Some(&backup.instance_id), json!({ "level": level }))
        };
        let audit = self.audit(scope, "backup.verify", backup.id.as_str(), json!({ "level": level }));
        self.catalog().job_admit(&job, &audit).await?;
        self.wake_worker();
        Ok(job.id)
    }
}
