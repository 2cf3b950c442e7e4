//! The repository as a whole: numbers, checks, forgetting without a catalog row.

use serde_json::json;
use strongroom_catalog::AuditEvent;
use strongroom_core::backup::BackupState;
use strongroom_core::id::{BackupId, JobId};
use strongroom_core::job::JobKind;
use strongroom_core::verification::Level;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{Lineage, RepositoryStat, SealedSummary};

use crate::identity::{Action, Scope};
use crate::parts::Service;

impl Service {
    /// Numbers of the repository, and where it is.
    pub async fn repository_stat(&self, scope: &Scope) -> Result<(RepositoryStat, String)> {
        scope.require(Action::Govern)?;
        let stat = self.blocking(|service| service.repository().stat()).await?;
        Ok((stat, self.parts().location.clone()))
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
        let (project, text) = (scope.project().clone(), wanted.to_owned());
        let (lineage, summary) =
            self.blocking(move |service| service.find_sealed(&text, |of| *of == project)).await?;
        let id = summary.catalog.backup_id;
        self.refuse_unpublished(scope, &id).await?;
        self.blocking(move |_| lineage.forget(summary.attempt)).await?;
        let audit = self.audit(scope, "repository.forget", id.as_str(), json!({}));
        self.forget_row(scope, &id, &audit).await
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
        self.catalog().backup_forget_row(Some(scope.project()), id, audit, self.now()).await.map(|_| ())
    }

    /// A sealed, not forgotten backup by id or unique name.
    fn find_sealed(
        &self,
        wanted: &str,
        mine: impl Fn(&strongroom_core::id::ProjectId) -> bool,
    ) -> Result<(Lineage, SealedSummary)> {
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
        match (found.pop(), found.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(_), false) => Err(Error::new(
                ErrorKind::BackupState,
                "Several backups in the repository have this name; nothing was forgotten.",
            )
            .with_hint("give the backup's id")),
            (None, _) => Err(Error::new(ErrorKind::BackupNotFound, "The repository holds no such backup.")),
        }
    }
}
