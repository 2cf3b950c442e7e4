//! What the document of the v3 dialect tells of each route.

use super::wire;
use crate::openapi::{Collect, Operation, collect, delete, get, post, put};
use crate::rds;

const BACKUPS_QUERY: &[(&str, &str)] = &[
    ("instance_id", "Backups of this instance; may be left out when backup_id is given"),
    ("backup_id", "Only this one; whatever text names none lists none"),
    ("backup_type", "auto, manual, fragment or incremental; all when absent"),
    ("status", "BUILDING, COMPLETED, FAILED or DELETING; all when absent"),
    ("offset", "Rows to pass over, 0 when absent"),
    ("limit", "Rows of a page, 1 to 100; 100 when absent"),
    ("begin_time", "Begun at this moment or later; goes with end_time"),
    ("end_time", "Begun at this moment or before; goes with begin_time"),
];
const FILES_QUERY: &[(&str, &str)] = &[("backup_id", "The backup; needed")];
const JOB_QUERY: &[(&str, &str)] = &[("id", "The id of the job; needed")];

pub(crate) const OPERATIONS: &[Operation] = &[
    get("/v3/{project_id}/backups", "Backups, newest first, by pages", "BackupList")
        .with_query(BACKUPS_QUERY),
    post("/v3/{project_id}/backups", "Create a manual backup", "BackupCreated").taking("CreateBackupBody"),
    delete("/v3/{project_id}/backups/{backup_id}", "Delete a manual backup", "Nothing"),
    get("/v3/{project_id}/instances/{instance_id}/backups/policy", "The backup policy", "PolicyShown"),
    put("/v3/{project_id}/instances/{instance_id}/backups/policy", "Set the backup policy", "Nothing")
        .taking("SetPolicyBody"),
    get("/v3/{project_id}/backup-files", "A link to a backup as one file, good for an hour", "BackupFiles")
        .with_query(FILES_QUERY),
    get("/v3/{project_id}/jobs", "A job by its id", "JobShown").with_query(JOB_QUERY),
];

/// Schemas of this dialect, for its document.
pub(crate) const SCHEMAS: Collect = |out| {
    collect::<wire::ErrorBody>(out);
    collect::<wire::CreateBackupBody>(out);
    collect::<wire::BackupCreated>(out);
    collect::<wire::BackupList>(out);
    collect::<wire::PolicyShown>(out);
    collect::<wire::SetPolicyBody>(out);
    collect::<wire::BackupFiles>(out);
    collect::<rds::jobs::JobShown>(out);
    collect::<rds::Nothing>(out);
};
