//! One file per procedure. Each blocks on a thread of its own and either ends its job under the
//! fence, or answers with the error that ends it.

mod backup;
mod check_repository;
mod delete;
mod verify;

use strongroom_core::job::JobKind;
use strongroom_core::verification::Level;
use strongroom_core::{Error, Result};

use crate::work::JobContext;

pub(crate) fn run(context: &JobContext) -> Result<()> {
    match context.job.kind {
        JobKind::Backup => backup::run(context),
        JobKind::Delete => delete::run(context),
        JobKind::Verify => verify::run(context),
        JobKind::CheckRepository => check_repository::run(context),
    }
}

/// The level in a job's input.
fn level_of(context: &JobContext) -> Result<Level> {
    let level = context.job.input.get("level").cloned().unwrap_or_default();
    serde_json::from_value(level).map_err(Error::internal)
}

/// The backup a job is for.
fn backup_of(context: &JobContext) -> Result<strongroom_core::backup::Backup> {
    let id = context.job.backup_id.clone().ok_or_else(|| Error::internal("the job names no backup"))?;
    context
        .catalog(|catalog| async move { catalog.backup_by_id(&id).await })?
        .ok_or_else(|| Error::internal("the job's backup has no row"))
}
