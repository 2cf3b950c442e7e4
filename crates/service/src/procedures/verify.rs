//! Checks one backup. Damage is a result, recorded beside the backup's status; the status stays.

use serde_json::json;
use strongroom_core::backup::{Backup, BackupState};
use strongroom_core::verification::{Level, Outcome, Verification};
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{CheckReport, Finding};

use super::{backup_of, level_of};
use crate::measures::Measurement;
use crate::work::JobContext;

pub(super) fn run(context: &JobContext) -> Result<()> {
    let (backup, level) = (still_completed(context)?, level_of(context)?);
    context.progress.set_phase("checking");
    let report = context.step("check", || check(context, &backup, level))?;
    if !report.passed() {
        // What a delete takes away meanwhile is no damage.
        still_completed(context)?;
    }
    let outcome = if report.passed() { Outcome::Passed } else { Outcome::Failed };
    if outcome == Outcome::Failed {
        context.service.inner.measures.add(Measurement::VerifyFailed { reason: "damage" });
    }
    let findings =
        report.findings.iter().map(|finding| format!("{}: {}", finding.object, finding.problem)).collect();
    let verification = Verification { level, outcome, at: context.service.clock_reading(), findings };
    let result = json!({
        "level": level,
        "result": outcome,
        "at": verification.at.to_string(),
        "findings": verification.findings,
        "objects_checked": report.objects_checked,
        "bytes_checked": report.bytes_checked,
    });
    let detail = json!({ "level": level, "result": outcome });
    let audit = context.audit("backup.verified", backup.id.as_str(), detail);
    let now = verification.at;
    context.step("record", || {
        context.catalog(|catalog| async move {
            catalog.verification_record(&context.fence, &backup.id, &verification, &result, now, &audit).await
        })
    })
}

fn check(context: &JobContext, backup: &Backup, level: Level) -> Result<CheckReport> {
    let attempt = backup.attempt_id.ok_or_else(|| Error::internal("no attempt to verify"))?;
    match context.service.repository().lineage(&backup.project_id, &backup.lineage_id) {
        Ok(lineage) => lineage.check(Some(attempt), level, &context.cancel, &context.progress),
        // A damaged key touches every backup it opens.
        Err(error) if error.kind() == ErrorKind::Damage => {
            let finding = Finding {
                object: "the lineage's keys".to_owned(),
                problem: error.public().to_owned(),
                attempts: vec![attempt],
                backups: vec![backup.name.as_str().to_owned()],
            };
            Ok(CheckReport { findings: vec![finding], ..CheckReport::default() })
        }
        Err(error) => Err(error),
    }
}

fn still_completed(context: &JobContext) -> Result<Backup> {
    let backup = backup_of(context)?;
    if backup.state == BackupState::Completed {
        return Ok(backup);
    }
    Err(Error::new(ErrorKind::BackupBeingDeleted, "The backup is being deleted; nothing was verified."))
}
