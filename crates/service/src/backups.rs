//! Backups as callers ask for them.

use jiff::Timestamp;
use serde_json::json;
use strongroom_catalog::{BackupFilter, BackupSlice, Cursor, Deletable};
use strongroom_core::backup::{Backup, BackupState, BackupType, NewBackup};
use strongroom_core::id::{BackupId, InstanceId, JobId, ProjectId};
use strongroom_core::instance::{Instance, InstanceState};
use strongroom_core::job::{Job, JobKind};
use strongroom_core::text::BackupName;
use strongroom_core::verification::Level;
use strongroom_core::{Error, ErrorKind, Result};

use crate::identity::{Action, Scope};
use crate::parts::Service;
use crate::restores::refuse_unreadable;

/// How a backup was referred to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupRef {
    /// The RDS dialects: its id. They delete manual backups only.
    Id(BackupId),
    /// Commands and native API: an id or a unique name. A delete is obeyed, whatever a rule keeps.
    Any(String),
}

/// Which part of a list by places is wanted. Ids are texts of any shape: one that nothing can have
/// is one that nothing has.
#[derive(Debug, Clone, Default)]
pub struct BackupsWanted {
    /// An id or a node's id; a retired instance still names its backups.
    pub instance: Option<String>,
    pub backup: Option<String>,
    pub kind: Option<BackupType>,
    /// Of a kind that no backup ever has: the list is empty, if only its instance is known.
    pub is_of_no_kind: bool,
    pub state: Option<BackupState>,
    /// Inclusive bounds of the time of creation.
    pub created_from: Option<Timestamp>,
    pub created_until: Option<Timestamp>,
    pub offset: u64,
    pub limit: u64,
}

impl BackupsWanted {
    fn filter(&self, instance: Option<InstanceId>) -> BackupFilter {
        BackupFilter {
            instance,
            kind: self.kind,
            state: self.state,
            created_from: self.created_from,
            created_until: self.created_until,
        }
    }
}

impl Service {
    /// Accepts a manual backup: when this answers, row and job are durable.
    pub async fn backup_create(&self, scope: &Scope, new: NewBackup) -> Result<Backup> {
        scope.require(Action::Operate)?;
        let instance = self.instance_for_backup(scope, &new).await?;
        let job = self.new_job(scope, JobKind::Backup, Some(&instance.id), json!({}));
        let backup = self.new_backup(&instance, &job, new.name, new.description, BackupType::Manual);
        let job = Job { backup_id: Some(backup.id.clone()), ..job };
        let audit =
            self.audit(scope, "backup.create", backup.id.as_str(), json!({ "name": backup.name.as_str() }));
        self.catalog().backup_admit(&backup, &job, &audit).await?;
        tracing::info!(backup.id = %backup.id, job.id = %job.id, instance.id = %instance.id, "Backup accepted.");
        self.wake_worker();
        Ok(backup)
    }

    async fn instance_for_backup(&self, scope: &Scope, new: &NewBackup) -> Result<Instance> {
        let instance = self.instance_find(scope, &new.instance).await?;
        self.parts().engines.get(instance.engine)?;
        if !new.databases.is_empty() {
            return Err(Error::new(
                ErrorKind::NotSupported,
                "databases: a backup of single databases is not offered for this engine; nothing was stored.",
            )
            .with_hint("leave `databases` out, and the backup is of all of them"));
        }
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
        self.job_of(scope.project(), kind, instance, input, self.now())
    }

    /// A job that is ready at once.
    pub(crate) fn job_of(
        &self,
        project: &ProjectId,
        kind: JobKind,
        instance: Option<&InstanceId>,
        input: serde_json::Value,
        now: Timestamp,
    ) -> Job {
        Job {
            project_id: Some(project.clone()),
            instance_id: instance.cloned(),
            input,
            ..Job::ready(JobId::issue(self.uuid()), kind, now)
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

    /// A part of a list by its place, and how many backups there are in all.
    pub async fn backup_slice(&self, scope: &Scope, wanted: &BackupsWanted) -> Result<BackupSlice> {
        scope.require(Action::Read)?;
        if let Some(id) = &wanted.backup {
            return self.backup_alone(scope, id, wanted).await;
        }
        let Some(text) = &wanted.instance else { return self.slice_of(scope, wanted, None).await };
        if let Ok(id) = InstanceId::parse(text) {
            // What has backups in the project is its own: nobody has to look for the instance besides.
            let slice = self.slice_of(scope, wanted, Some(id)).await?;
            if slice.total > 0 {
                return Ok(slice);
            }
        }
        let instance = self.instance_known(scope, text).await?.id;
        self.slice_of(scope, wanted, Some(instance)).await
    }

    async fn slice_of(
        &self,
        scope: &Scope,
        wanted: &BackupsWanted,
        instance: Option<InstanceId>,
    ) -> Result<BackupSlice> {
        if wanted.is_of_no_kind {
            return Ok(BackupSlice::default());
        }
        let limit = u32::try_from(wanted.limit).unwrap_or(u32::MAX);
        let filter = wanted.filter(instance);
        self.catalog().backup_slice(scope.project(), &filter, wanted.offset, limit).await
    }

    /// The list of at most one backup.
    async fn backup_alone(&self, scope: &Scope, id: &str, wanted: &BackupsWanted) -> Result<BackupSlice> {
        let one = match BackupId::parse(id) {
            Ok(id) => self.catalog().backup_find(scope.project(), &id).await?,
            Err(_) => None,
        };
        let instance = match (&wanted.instance, &one) {
            (None, _) => None,
            // Pollers ask for one backup of one instance: the row of the backup knows both.
            (Some(id), Some(one)) if id == one.instance_id.as_str() => Some(one.instance_id.clone()),
            (Some(id), _) => Some(self.instance_known(scope, id).await?.id),
        };
        let filter = wanted.filter(instance);
        let admits = |one: &Backup| !wanted.is_of_no_kind && filter.admits(one);
        let found: Vec<Backup> = one.into_iter().filter(admits).collect();
        let total = found.len() as u64;
        Ok(BackupSlice { rows: if wanted.offset == 0 { found } else { Vec::new() }, total })
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
        refuse_unreadable(&backup)?;
        Ok(backup)
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
        let deletable = match wanted {
            BackupRef::Id(_) => Deletable::Manual,
            BackupRef::Any(_) => Deletable::Any,
        };
        let admitted =
            self.catalog().backup_delete_admit(scope.project(), &backup.id, deletable, &job, &audit);
        let admitted = admitted.await?;
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
