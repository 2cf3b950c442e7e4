//! Deletes one backup: the tombstone becomes durable, a sweep is wished for, then the row goes. Killed
//! anywhere, the job is claimed again and does the same once more; each step may be repeated.

use serde_json::json;
use strongroom_core::Result;

use super::{backup_of, sweep};
use crate::work::JobContext;

pub(super) fn run(context: &JobContext) -> Result<()> {
    let backup = backup_of(context)?;
    context.progress.set_phase("forgetting");
    // A FAILED backup has abandoned attempts only: nothing in the repository to forget.
    if let Some(attempt) = backup.attempt_id {
        let lineage = context.service.repository().lineage(&backup.project_id, &backup.lineage_id)?;
        // Without a look at the manifest: whether or not it can be read, or is there, the backup is to
        // be forgotten.
        context.step("forget", || lineage.forget(attempt))?;
        context.record("forget", json!({ "attempt": attempt.to_string() }))?;
    }
    context.step("wish", || sweep::wish(context))?;
    let audit = context.audit("backup.gone", backup.id.as_str(), json!({}));
    let (backup, audit, now) = (&backup, &audit, context.service.clock_reading());
    context.step("remove", || {
        context.catalog(|catalog| async move {
            catalog.backup_remove(&context.fence, &backup.id, audit, now).await
        })
    })
}
