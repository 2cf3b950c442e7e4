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
const INSTANCES_QUERY: &[(&str, &str)] = &[
    ("id", "Only the one of this id; whatever text is none lists none"),
    ("name", "Only the one of this name; after a leading asterisk a part of it"),
    ("type", "Single, Ha or Replica"),
    ("datastore_type", "MySQL, PostgreSQL or SQLServer, in any case"),
    ("offset", "Rows to pass over, 0 when absent"),
    ("limit", "Rows of a page, 1 to 100; 100 when absent"),
];
const TASKS_QUERY: &[(&str, &str)] = &[
    ("id", "Only this job"),
    ("instance_id", "Only of this instance"),
    ("name", "Only of this name"),
    ("status", "Running, Completed or Failed"),
    ("start_time", "Created at this moment or later, in milliseconds since 1970"),
    ("end_time", "Created at this moment or before, in milliseconds since 1970"),
    ("offset", "Rows to pass over, 0 when absent"),
    ("limit", "Rows of a page, 1 to 50; 10 when absent"),
];
const DETAIL_QUERY: &[(&str, &str)] = &[
    ("start_time", "Created at this moment or later, in milliseconds since 1970; needed"),
    ("end_time", "Created at this moment or before, in milliseconds since 1970"),
];
const FLAVORS_QUERY: &[(&str, &str)] =
    &[("version_name", "Only for this version"), ("spec_code", "Only of this code")];
const STORAGE_QUERY: &[(&str, &str)] = &[("version_name", "For this version; needed")];
const DATE_QUERY: &[(&str, &str)] = &[("date", "Only what reaches into this day, yyyy-mm-dd, UTC")];
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
    post("/v3/{project_id}/backups/batch-delete", "Delete manual backups, each by itself", "DeleteResults")
        .taking("BatchDeleteBody"),
    get("/v3/{project_id}/instances", "Instances, by pages", "InstanceList").with_query(INSTANCES_QUERY),
    post("/v3/{project_id}/instances", "Restore to a new instance; not offered yet", "ErrorBody")
        .taking("RestoreToNewBody")
        .with_status("400"),
    post("/v3/{project_id}/instances/recovery", "Restore into an instance; not offered yet", "ErrorBody")
        .taking("RecoveryBody")
        .with_status("400"),
    post("/v3.1/{project_id}/instances/recovery", "Restore into an instance; not offered yet", "ErrorBody")
        .taking("RecoveryBody")
        .with_status("400"),
    get("/v3/{project_id}/instances/{instance_id}/restore-time", "What can be restored", "RestoreTimes")
        .with_query(DATE_QUERY),
    get(
        "/v3/{project_id}/instances/{instance_id}/tasklist/detail",
        "The newest jobs of an instance",
        "InstanceJobs",
    )
    .with_query(DETAIL_QUERY),
    get("/v3/{project_id}/datastores/{engine}", "Versions of an engine", "DataStoreVersions"),
    get("/v3/{project_id}/flavors/{engine}", "Flavors: the one that there is", "FlavorList")
        .with_query(FLAVORS_QUERY),
    get("/v3/{project_id}/storage-type/{engine}", "Kinds of storage: the one that there is", "VolumeTypes")
        .with_query(STORAGE_QUERY),
    get("/v3/{project_id}/quotas", "What is limited", "Quotas"),
    get("/v3/{project_id}/tasklist", "Jobs, newest first, by pages", "ListedJobs").with_query(TASKS_QUERY),
    get("/v3/{project_id}/schedule-tasks", "Planned tasks; there are none", "ScheduledJobs")
        .with_query(TASKS_QUERY),
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
    collect::<wire::BatchDeleteBody>(out);
    collect::<wire::DeleteResults>(out);
    collect::<wire::InstanceList>(out);
    collect::<wire::RestoreToNewBody>(out);
    collect::<wire::RecoveryBody>(out);
    collect::<wire::RestoreTimes>(out);
    collect::<wire::InstanceJobs>(out);
    collect::<wire::DataStoreVersions>(out);
    collect::<wire::FlavorList>(out);
    collect::<wire::VolumeTypes>(out);
    collect::<wire::Quotas>(out);
    collect::<wire::ListedJobs>(out);
    collect::<wire::ScheduledJobs>(out);
    collect::<rds::jobs::JobShown>(out);
    collect::<rds::Nothing>(out);
};
