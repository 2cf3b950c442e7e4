//! The repository as a whole: numbers, checks, sweeps, forgetting without a catalog row.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;
use strongroom_catalog::{AuditEvent, SweepStanding};
use strongroom_core::backup::BackupState;
use strongroom_core::id::{BackupId, JobId};
use strongroom_core::job::{Job, JobKind};
use strongroom_core::verification::Level;
use strongroom_core::{Error, ErrorKind, Field, Result, limits};
use strongroom_repository::{Lineage, RepositoryStat, SealedSummary};

use crate::identity::{Action, Scope};
use crate::parts::Service;
use crate::procedures::SweepInput;

/// What a sweep is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepWish {
    /// Only to say what it would do.
    pub is_dry_run: bool,
    /// From which share of dead bytes on a pack is written anew; the usual when absent.
    pub threshold_percent: Option<u8>,
    /// First to store anew whatever stands on backups that are gone.
    pub rebase: bool,
}

fn told_who_is_in_the_way(error: Error) -> Error {
    if error.kind() != ErrorKind::SweepInProgress {
        return error;
    }
    error.with_hint(
        "wait for it (`strongroom job list --state leased`); what was deleted since it began is swept by one \
         that follows it",
    )
}

impl Service {
    /// Numbers of the repository, where it is, and what is known of sweeps.
    pub async fn repository_stat(&self, scope: &Scope) -> Result<(RepositoryStat, String, SweepStanding)> {
        scope.require(Action::Govern)?;
        let stat = self.blocking(|service| service.repository().stat()).await?;
        let sweeps = self.catalog().sweep_standing().await?;
        Ok((stat, self.parts().location.clone(), sweeps))
    }

    /// Accepts a sweep of every lineage, or a look at what it would do. Its numbers are those of all
    /// tenants, so its job belongs to none of them.
    pub async fn repository_sweep(&self, scope: &Scope, wish: SweepWish) -> Result<JobId> {
        scope.require(Action::Govern)?;
        if wish.threshold_percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
            return Err(Error::parameter(Field::Other, "threshold_percent: must be 1 to 100"));
        }
        if wish.rebase && wish.is_dry_run {
            return Err(Error::parameter(
                Field::Other,
                "rebase: a dry run stores nothing anew; what it says of bases is what storing anew may give back",
            ));
        }
        let input = SweepInput { threshold_percent: wish.threshold_percent, rebase: wish.rebase };
        let input = serde_json::to_value(input).map_err(Error::internal)?;
        let kind = if wish.is_dry_run { JobKind::PlanSweep } else { JobKind::Sweep };
        let job = Job { project_id: None, ..self.new_job(scope, kind, None, input.clone()) };
        let id = if wish.is_dry_run {
            let audit = self.audit(scope, "repository.plan_sweep", self.repository().id(), input);
            self.catalog().job_admit(&job, &audit).await?;
            job.id
        } else {
            let audit = self.audit(scope, "repository.sweep", self.repository().id(), input);
            self.catalog().sweep_ask(&job, &audit).await.map_err(told_who_is_in_the_way)?
        };
        self.wake_worker();
        Ok(id)
    }

    /// The sweep that a deletion asks for, unless sweeps are left to people.
    pub(crate) fn next_sweep(&self) -> Result<Option<Job>> {
        self.parts().settings.sweep_delay.map(|delay| self.sweep_after(delay)).transpose()
    }

    /// The sweep that follows one which failed for something that passes: what is dead must go.
    pub(crate) fn sweep_again(&self) -> Result<Option<Job>> {
        let delay = Duration::from_secs(limits::SWEEP_RETRY_S);
        self.parts().settings.sweep_delay.map(|_| self.sweep_after(delay)).transpose()
    }

    fn sweep_after(&self, delay: Duration) -> Result<Job> {
        let now = self.now();
        let delay = SignedDuration::try_from(delay).map_err(Error::internal)?;
        Ok(Job {
            run_at: now.saturating_add(delay).map_err(Error::internal)?,
            ..Job::ready(JobId::issue(self.uuid()), JobKind::Sweep, now)
        })
    }

    /// Accepts a check of every lineage.
    pub async fn repository_check(&self, scope: &Scope, level: Level) -> Result<JobId> {
        scope.require(Action::Govern)?;
        if level == Level::Engine {
            return Err(Error::new(
                ErrorKind::NotSupported,
                "A check of the whole repository starts no database; nothing was run.",
            )
            .with_hint(
                "use --level decode, and `strongroom backup verify BACKUP --level engine` for each backup",
            ));
        }
        let job = self.new_job(scope, JobKind::CheckRepository, None, json!({ "level": level }));
        let audit = self.audit(scope, "repository.check", self.repository().id(), json!({ "level": level }));
        self.catalog().job_admit(&job, &audit).await?;
        self.wake_worker();
        Ok(job.id)
    }

    /// Forgets a backup by what the repository itself knows of it; the row goes too, if there is one.
    pub async fn repository_forget(&self, scope: &Scope, wanted: &str) -> Result<()> {
        scope.require(Action::Administer)?;
        let id = self.forget_sealed(scope, wanted.to_owned()).await?;
        let audit = self.audit(scope, "repository.forget", id.as_str(), json!({}));
        self.forget_row(scope, &id, &audit).await?;
        // Stored anew meanwhile, it may have become another attempt before its row went; after that it
        // cannot.
        match self.forget_sealed(scope, id.as_str().to_owned()).await {
            Err(error) if error.kind() != ErrorKind::BackupNotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Forgets every attempt that is the backup: two while it is stored anew.
    async fn forget_sealed(&self, scope: &Scope, wanted: String) -> Result<BackupId> {
        let project = scope.project().clone();
        let found = self.blocking(move |service| service.find_sealed(&wanted, |of| *of == project)).await?;
        let (_, summary) = found.first().ok_or_else(|| Error::internal("nothing was found"))?;
        let id = summary.catalog.backup_id.clone();
        self.refuse_unpublished(scope, &id).await?;
        self.blocking(move |_| {
            found.iter().try_for_each(|(lineage, summary)| lineage.forget(summary.attempt))
        })
        .await?;
        Ok(id)
    }

    /// A sealed backup whose row is still BUILDING is about to be published; forgotten first, it
    /// would be listed COMPLETED and not restore.
    async fn refuse_unpublished(&self, scope: &Scope, id: &BackupId) -> Result<()> {
        match self.catalog().backup_find(scope.project(), id).await? {
            Some(row) if row.state == BackupState::Building => Err(Error::new(
                ErrorKind::BackupState,
                "The backup is being finished at this moment; nothing was forgotten.",
            )
            .with_hint("try again in a few seconds")),
            _ => Ok(()),
        }
    }

    async fn forget_row(&self, scope: &Scope, id: &BackupId, audit: &AuditEvent) -> Result<()> {
        if let Some(sweep) = self.next_sweep()? {
            self.catalog().sweep_wish(&sweep).await?;
        }
        self.catalog().backup_forget_row(Some(scope.project()), id, audit, self.now()).await.map(|_| ())
    }

    /// What is sealed and not forgotten of a backup, by its id or unique name.
    fn find_sealed(
        &self,
        wanted: &str,
        mine: impl Fn(&strongroom_core::id::ProjectId) -> bool,
    ) -> Result<Vec<(Lineage, SealedSummary)>> {
        let mut found = Vec::new();
        for (project, id) in self.repository().lineages()? {
            if !mine(&project) {
                continue;
            }
            let lineage = self.repository().lineage(&project, &id)?;
            for summary in lineage.backups()?.into_iter().filter(|summary| !summary.forgotten) {
                if summary.catalog.backup_id.as_str() == wanted || summary.catalog.backup_name == wanted {
                    found.push((lineage.clone(), summary));
                }
            }
        }
        let id = |(_, summary): &(Lineage, SealedSummary)| summary.catalog.backup_id.clone();
        let Some(first) = found.first().map(id) else {
            return Err(Error::new(ErrorKind::BackupNotFound, "The repository holds no such backup."));
        };
        if found.iter().any(|other| id(other) != first) {
            return Err(Error::new(
                ErrorKind::BackupState,
                "Several backups in the repository have this name; nothing was forgotten.",
            )
            .with_hint("give the backup's id"));
        }
        Ok(found)
    }
}
