//! References as callers write them: an id, or a name. What cannot be one is refused before any
//! look-up, with the name of its field.

use strongroom_core::backup::InstanceRef;
use strongroom_core::id::{BackupId, JobId};
use strongroom_core::{Error, Field, Result};
use strongroom_service::BackupRef;

/// Ids and names share their longest length and their characters are printable.
pub(super) fn checked(field: Field, named: &str, text: &str) -> Result<()> {
    BackupId::parse(text).map(|_| ()).map_err(|error| Error::parameter(field, format!("{named}: {error}")))
}

pub(super) fn backup(text: String) -> Result<BackupRef> {
    checked(Field::BackupId, "backup", &text)?;
    Ok(BackupRef::Any(text))
}

pub(super) fn instance(text: String) -> Result<InstanceRef> {
    checked(Field::InstanceRef, "instance", &text)?;
    Ok(InstanceRef::Any(text))
}

pub(super) fn job(text: &str) -> Result<JobId> {
    JobId::parse_lenient(text).map_err(|error| Error::parameter(Field::JobId, format!("job: {error}")))
}
