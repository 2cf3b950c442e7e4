//! Checks one backup. Damage is a result, recorded beside the backup's status; the status stays.

use serde_json::{Value, json};
use strongroom_core::backup::{Backup, BackupState};
use strongroom_core::verification::{Drill, Level, Outcome, Verification};
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{CheckReport, Finding};

use super::{backup_of, drill, level_of};
use crate::measures::Measurement;
use crate::work::JobContext;

/// What a verification came to.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) outcome: Outcome,
    pub(super) findings: Vec<String>,
    pub(super) drill: Option<Drill>,
    /// More for the job's result, an object.
    pub(super) details: Value,
}

impl Found {
    pub(super) fn new(outcome: Outcome, findings: Vec<String>) -> Self {
        Self { outcome, findings, drill: None, details: json!({}) }
    }

    pub(super) fn failed(findings: Vec<String>) -> Self {
        Self::new(Outcome::Failed, findings)
    }
}

pub(super) fn run(context: &JobContext) -> Result<()> {
    let (mut backup, level) = (still_completed(context)?, level_of(context)?);
    let mut found = context.step("check", || find(context, &backup, level));
    while !found.as_ref().is_ok_and(|found| found.outcome != Outcome::Failed) {
        // What a delete takes away meanwhile is no damage, nor is what was stored anew elsewhere.
        let now = still_completed(context)?;
        if now.attempt_id == backup.attempt_id {
            break;
        }
        backup = now;
        found = find(context, &backup, level);
    }
    let found = found?;
    if found.outcome == Outcome::Failed {
        let reason = if found.drill.is_some() { "drill" } else { "damage" };
        context.service.inner.measures.add(Measurement::VerifyFailed { reason });
    }
    context.step("record", || record(context, &backup, level, found))
}

fn find(context: &JobContext, backup: &Backup, level: Level) -> Result<Found> {
    context.progress.set_phase("checking");
    // A drill reads and decodes what it restores; before it only what a restore would not miss.
    let looked = if level == Level::Engine { Level::Presence } else { level };
    let report = check(context, backup, looked)?;
    let details = json!({
        "objects_checked": report.objects_checked,
        "bytes_checked": report.bytes_checked,
    });
    let mut found = match (report.passed(), level) {
        (true, Level::Engine) => drill::run(context, backup)?,
        (true, _) => Found::new(Outcome::Passed, Vec::new()),
        (false, _) => {
            let findings = report.findings.iter();
            Found::failed(
                findings.map(|finding| format!("{}: {}", finding.object, finding.problem)).collect(),
            )
        }
    };
    merge(&mut found.details, details);
    Ok(found)
}

fn record(context: &JobContext, backup: &Backup, level: Level, found: Found) -> Result<()> {
    let Found { outcome, findings, drill, details } = found;
    let verification = Verification { level, outcome, at: context.service.clock_reading(), findings, drill };
    let mut result = json!({
        "level": level,
        "result": outcome,
        "at": verification.at.to_string(),
        "findings": verification.findings,
    });
    merge(&mut result, details);
    let detail = json!({ "level": level, "result": outcome });
    let audit = context.audit("backup.verified", backup.id.as_str(), detail);
    let (now, id, verification, result, audit) =
        (verification.at, &backup.id, &verification, &result, &audit);
    context.catalog(|catalog| async move {
        catalog.verification_record(&context.fence, id, verification, result, now, audit).await
    })
}

/// Adds the fields of one object to another.
fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
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
