//! Checks every lineage, that each COMPLETED row still has the verdict it was made from, and that
//! what was deleted is still forgotten.

use serde_json::json;
use strongroom_catalog::BackupFilter;
use strongroom_core::Result;
use strongroom_core::backup::{Backup, BackupState};
use strongroom_core::verification::Outcome;
use strongroom_repository::{CheckReport, Finding, Verdict};

use super::level_of;
use crate::measures::Measurement;
use crate::work::JobContext;

const ROWS_PER_PAGE: u32 = 500;

pub(super) fn run(context: &JobContext) -> Result<()> {
    let level = level_of(context)?;
    context.progress.set_phase("checking");
    let mut report = context
        .step("check", || context.service.repository().check(level, &context.cancel, &context.progress))?;
    context.step("compare", || {
        compare_rows(context, &mut report)?;
        compare_sealed(context, &mut report)
    })?;
    let outcome = if report.passed() { Outcome::Passed } else { Outcome::Failed };
    let count = report.findings.len() as u64;
    context.service.inner.measures.add(Measurement::CorruptObjects { count });
    let result = json!({
        "level": level,
        "result": outcome,
        "findings": report.findings,
        "objects_checked": report.objects_checked,
        "bytes_checked": report.bytes_checked,
    });
    let audit =
        context.audit("repository.checked", context.service.repository().id(), json!({ "result": outcome }));
    let now = context.service.clock_reading();
    let (result, audit) = (&result, &audit);
    context.step("record", || {
        context
            .catalog(|catalog| async move { catalog.job_succeed(&context.fence, result, now, audit).await })
    })
}

fn compare_rows(context: &JobContext, report: &mut CheckReport) -> Result<()> {
    let projects = context.catalog(|catalog| async move { catalog.project_list().await })?;
    let filter = BackupFilter { state: Some(BackupState::Completed), ..BackupFilter::default() };
    for project in projects {
        let mut after = None;
        loop {
            context.cancel.check()?;
            let (filter, project_id, cursor) = (&filter, &project.id, after.as_ref());
            let page = context.catalog(|catalog| async move {
                catalog.backup_page(project_id, filter, cursor, ROWS_PER_PAGE).await
            })?;
            for backup in &page {
                compare_row(context, backup, report)?;
            }
            match page.last() {
                Some(last) if page.len() as u32 == ROWS_PER_PAGE => {
                    after = Some(strongroom_catalog::Cursor::after(last));
                }
                _ => break,
            }
        }
    }
    Ok(())
}

/// Sealed backups that this catalog knows to be deleted: their tombstone is gone. One it knows
/// nothing of is another catalog's, or of a time before this one was made.
fn compare_sealed(context: &JobContext, report: &mut CheckReport) -> Result<()> {
    let repository = context.service.repository();
    for (project, id) in repository.lineages()? {
        // A lineage whose key is damaged was told already.
        let Ok(lineage) = repository.lineage_under_check(&project, &id) else { continue };
        for summary in lineage.backups()?.into_iter().filter(|summary| !summary.forgotten) {
            context.cancel.check()?;
            let backup = &summary.catalog.backup_id;
            let row = context.catalog(|catalog| async move { catalog.backup_by_id(backup).await })?;
            let was_known = context.catalog(|catalog| async move { catalog.backup_had_job(backup).await })?;
            // A delete that went on meanwhile has put the tombstone before it took the row.
            if row.is_some() || !was_known || lineage.is_forgotten(summary.attempt)? {
                continue;
            }
            report.findings.push(Finding {
                object: lineage.missing_tombstone(summary.attempt)?,
                problem: "it is missing: the backup was deleted, and the repository would bring it back"
                    .to_owned(),
                attempts: vec![summary.attempt],
                backups: vec![summary.catalog.backup_name],
            });
        }
    }
    Ok(())
}

fn compare_row(context: &JobContext, backup: &Backup, report: &mut CheckReport) -> Result<()> {
    let Some(attempt) = backup.attempt_id else { return Ok(()) };
    let lineage = context.service.repository().lineage_under_check(&backup.project_id, &backup.lineage_id);
    let problem = match lineage.and_then(|lineage| lineage.verdict(attempt)) {
        Ok(Some(Verdict::Sealed(summary))) if summary.forgotten => {
            Some("the backup is forgotten in the repository, but listed".to_owned())
        }
        Ok(Some(Verdict::Sealed(summary))) => (Some(&summary.manifest_digest)
            != backup.manifest_digest.as_ref())
        .then(|| "the manifest is not the one the catalog knows".to_owned()),
        Ok(Some(Verdict::Abandoned) | None) => {
            Some("the manifest is missing, but the backup is listed".to_owned())
        }
        // Damage of the manifest or of a key: found by the check of the repository already.
        Err(error) if error.kind() == strongroom_core::ErrorKind::Damage => None,
        Err(error) => return Err(error),
    };
    if let Some(problem) = problem
        && is_listed_still(context, backup)?
    {
        report.findings.push(Finding {
            object: format!("backup {}", backup.id),
            problem,
            attempts: vec![attempt],
            backups: vec![backup.name.as_str().to_owned()],
        });
    }
    Ok(())
}

/// A backup that was deleted or stored anew since its row was read is no finding.
fn is_listed_still(context: &JobContext, backup: &Backup) -> Result<bool> {
    let row = context.catalog(|catalog| async move { catalog.backup_by_id(&backup.id).await })?;
    Ok(row.is_some_and(|row| row.state == BackupState::Completed && row.attempt_id == backup.attempt_id))
}
