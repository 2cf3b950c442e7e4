//! Checks one backup. Damage is a result, recorded beside the backup's status; the status stays.

use serde_json::json;
use strongroom_core::Result;
use strongroom_core::verification::{Outcome, Verification};

use super::{backup_of, level_of};
use crate::work::JobContext;

pub(super) fn run(context: &JobContext) -> Result<()> {
    let (backup, level) = (backup_of(context)?, level_of(context)?);
    let lineage = context.service.repository().lineage(&backup.project_id, &backup.lineage_id)?;
    context.progress.set_phase("checking");
    let attempt =
        backup.attempt_id.ok_or_else(|| strongroom_core::Error::internal("no attempt to verify"))?;
    let report = lineage.check(Some(attempt), level, &context.cancel, &context.progress)?;
    let outcome = if report.passed() { Outcome::Passed } else { Outcome::Failed };
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
    context.catalog(|catalog| async move {
        catalog.verification_record(&context.fence, &backup.id, &verification, &result, now, &audit).await
    })
}
