//! What the document of the v3 dialect tells of each route.

use std::ops::RangeInclusive;

use strongroom_core::limits::{LIST_ROWS_MAX, TASK_ROWS_MAX};

use super::backups::OFFSET_MAX;
use super::{backups, instances, tasks, wire};
use crate::openapi::{
    Collect, Operation, Param, collect, day, delete, get, moment, post, put, text, whole, word,
};
use crate::rds;

const OFFSET: Param = whole("offset", "Rows to pass over", 0..=OFFSET_MAX).or(0);
const LIMIT: Param = whole("limit", "Rows of a page", 1..=LIST_ROWS_MAX).or(LIST_ROWS_MAX);
const MILLIS: RangeInclusive<u64> = 0..=tasks::MILLIS_MAX;

const BACKUPS_QUERY: &[Param] = &[
    text("instance_id", "Backups of this instance; may be left out when backup_id is given"),
    text("backup_id", "Only this one; whatever text names none lists none"),
    word("backup_type", "All when absent", backups::TYPES),
    word("status", "All when absent", backups::STATUSES),
    OFFSET,
    LIMIT,
    moment("begin_time", "Begun at this moment or later; goes with end_time"),
    moment("end_time", "Begun at this moment or before; goes with begin_time"),
];
const FILES_QUERY: &[Param] = &[text("backup_id", "The backup").needed()];
const INSTANCES_QUERY: &[Param] = &[
    text("id", "Only the one of this id; whatever text is none lists none"),
    text("name", "Only the one of this name; after a leading asterisk a part of it"),
    word("type", "All instances here are single ones", instances::TYPES),
    word("datastore_type", "The engine, in any case", &["MySQL", "PostgreSQL", "SQLServer"]),
    text("tags", "Only with all of these tags, key=value,other=value; a key without a value: with any"),
    OFFSET,
    LIMIT,
];
const TASKS_QUERY: &[Param] = &[
    text("id", "Only this job"),
    text("instance_id", "Only of this instance"),
    text("name", "Only of this name"),
    word("status", "All when absent", tasks::STATUSES),
    whole("start_time", "Created at this moment or later, in milliseconds since 1970", MILLIS),
    whole("end_time", "Created at this moment or before, in milliseconds since 1970", MILLIS),
    OFFSET,
    whole("limit", "Rows of a page", 1..=TASK_ROWS_MAX).or(tasks::ROWS),
];
const DETAIL_QUERY: &[Param] = &[
    whole("start_time", "Created at this moment or later, in milliseconds since 1970", MILLIS).needed(),
    whole("end_time", "Created at this moment or before, in milliseconds since 1970", MILLIS),
];
const FLAVORS_QUERY: &[Param] =
    &[text("version_name", "Only for this version"), text("spec_code", "Only of this code")];
const STORAGE_QUERY: &[Param] = &[text("version_name", "For this version").needed()];
const DATE_QUERY: &[Param] = &[day("date", "Only what reaches into this day, UTC")];
const JOB_QUERY: &[Param] = &[text("id", "The id of the job").needed()];

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
    get("/v3/{project_id}/instances/{instance_id}/tags", "The tags of an instance", "InstanceTags"),
    post(
        "/v3/{project_id}/instances/{instance_id}/tags/action",
        "Put tags on an instance, or remove them",
        "Nothing",
    )
    .taking("TagActionBody"),
    get("/v3/{project_id}/tags", "Every key of a tag with all its values", "ProjectTags"),
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
    collect::<wire::InstanceTags>(out);
    collect::<wire::TagActionBody>(out);
    collect::<wire::ProjectTags>(out);
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
