//! What the document of the v1 dialect tells of each route.

use super::wire;
use crate::openapi::{Collect, Operation, collect, delete, get, post, put};
use crate::rds;

pub(crate) const OPERATIONS: &[Operation] = &[
    get("/", "Versions, as at /rds", "Versions").for_everybody(),
    get("/rds", "Versions that are served", "Versions").for_everybody(),
    get("/rds/{version}", "One version, under both keys", "Version").for_everybody(),
    get("/rds/v1/{project_id}/backups", "Manual backups, newest first", "BackupList"),
    post("/rds/v1/{project_id}/backups", "Create a manual backup", "BackupCreated")
        .taking("CreateBackupBody"),
    delete("/rds/v1/{project_id}/backups/{backup_id}", "Delete a manual backup", "Nothing"),
    get("/rds/v1/{project_id}/instances", "Instances", "InstanceList"),
    post("/rds/v1/{project_id}/instances", "Restore to a new instance; not offered yet", "ErrorBody")
        .taking("RestoreToNewBody")
        .with_status("400"),
    post(
        "/rds/v1/{project_id}/instances/{node_id}/action",
        "Restore an instance in place; not offered yet",
        "ErrorBody",
    )
    .taking("ActionBody")
    .with_status("400"),
    get("/rds/v1/{project_id}/instances/{node_id}", "One instance, by its node", "InstanceShown"),
    get("/rds/v1/{project_id}/instances/{node_id}/backups/policy", "The backup policy", "PolicyShown"),
    put("/rds/v1/{project_id}/instances/{node_id}/backups/policy", "Set the backup policy", "Nothing")
        .taking("SetPolicyBody"),
    get("/rds/v1/{project_id}/datastores/{engine}/versions", "Versions of an engine", "DataStoreVersions"),
    get("/rds/v1/{project_id}/jobs/{job_id}", "A job by its id", "JobShown"),
];

/// Schemas of this dialect, for its document.
pub(crate) const SCHEMAS: Collect = |out| {
    collect::<wire::ErrorBody>(out);
    collect::<wire::Versions>(out);
    collect::<wire::Version>(out);
    collect::<wire::CreateBackupBody>(out);
    collect::<wire::RestoreToNewBody>(out);
    collect::<wire::ActionBody>(out);
    collect::<wire::BackupCreated>(out);
    collect::<wire::BackupList>(out);
    collect::<wire::InstanceList>(out);
    collect::<wire::InstanceShown>(out);
    collect::<wire::PolicyShown>(out);
    collect::<wire::SetPolicyBody>(out);
    collect::<wire::DataStoreVersions>(out);
    collect::<rds::jobs::JobShown>(out);
    collect::<rds::Nothing>(out);
};
