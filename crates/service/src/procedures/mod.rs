//! One file per procedure. Each blocks on a thread of its own and either ends its job under the
//! fence, or answers with the error that ends it.

mod backup;
pub(crate) mod capture;
mod check_repository;
mod delete;
mod drill;
mod rebase;
mod sweep;
mod verify;

use std::path::PathBuf;

use strongroom_core::job::JobKind;
use strongroom_core::verification::Level;
use strongroom_core::{Error, ErrorKind, Result, Retry, limits};

use crate::work::JobContext;

pub(crate) use sweep::SweepInput;

pub(crate) fn run(context: &JobContext) -> Result<()> {
    match context.job.kind {
        JobKind::Backup => backup::run(context),
        // What was asked to go must go, however often its worker ended.
        JobKind::Delete => delete::run(context),
        JobKind::Verify => refuse_spent(context).and_then(|()| verify::run(context)),
        JobKind::CheckRepository => refuse_spent(context).and_then(|()| check_repository::run(context)),
        JobKind::Sweep | JobKind::PlanSweep => refuse_spent(context).and_then(|()| sweep::run(context)),
    }
}

/// What came of making sure that a job can end without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// Nothing of it can come true any more.
    Nothing,
    /// Its backup had been sealed before; it is COMPLETED now and the job succeeded.
    Published,
}

/// Makes sure that nothing of a job can come true after it has ended as failed or cancelled.
pub(crate) fn give_up(context: &JobContext) -> Result<GivenUp> {
    match context.job.kind {
        JobKind::Backup => backup::give_up(context),
        // What it had begun to store anew is moved to, or comes to nothing.
        JobKind::Sweep => rebase::settle(context).map(|()| GivenUp::Nothing),
        JobKind::Delete | JobKind::Verify | JobKind::CheckRepository | JobKind::PlanSweep => {
            Ok(GivenUp::Nothing)
        }
    }
}

/// Ends a job whose workers died as often as it may be tried: it might be what kills them.
fn refuse_spent(context: &JobContext) -> Result<()> {
    context.cancel.check()?;
    if context.job.attempts <= limits::JOB_ATTEMPTS_MAX {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Internal,
        "The job was tried three times and each time its worker ended; every backup is as it was.",
    )
    .with_hint("look at the server's log, then ask for it again")
    .with_retry(Retry::Never))
}

/// The level in a job's input.
fn level_of(context: &JobContext) -> Result<Level> {
    let level = context.job.input.get("level").cloned().unwrap_or_default();
    serde_json::from_value(level).map_err(Error::internal)
}

/// The backup a job is for.
fn backup_of(context: &JobContext) -> Result<strongroom_core::backup::Backup> {
    let id = context.job.backup_id.as_ref().ok_or_else(|| Error::internal("the job names no backup"))?;
    context
        .catalog(|catalog| async move { catalog.backup_by_id(id).await })?
        .ok_or_else(|| Error::new(ErrorKind::BackupNotFound, "The backup is gone; nothing was done."))
}

/// Where an attempt has its spool files.
fn scratch_dir(context: &JobContext) -> Result<PathBuf> {
    let path = context.service.parts().data_dir.join("scratch");
    std::fs::create_dir_all(&path).map_err(|error| {
        Error::new(ErrorKind::Unavailable, format!("The scratch directory cannot be made ({error})."))
            .with_hint("see that the data directory is writable")
    })?;
    Ok(path)
}
