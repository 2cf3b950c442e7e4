//! What the document of the native API tells of each route, and of the pages that are for everybody.

use strongroom_core::limits::KEEP_DAYS_MAX;

use super::{backups, jobs, wire};
use crate::openapi::{Collect, Operation, Param, collect, delete, flag, get, post, put, text, whole, word};

const LIST_QUERY: &[Param] = &[
    text("instance", "Only backups of this instance: its id, its node's id or its name"),
    text("after", "The `next` of the page before"),
    whole("limit", "Rows of a page", 1..=backups::LIMIT_MAX as u64).or(backups::LIMIT_DEFAULT as u64),
];
const LINK_QUERY: &[Param] = &[
    text("project", "Project of the backup"),
    text("user", "Who asked for the link"),
    text("content", "Digest that tells the archive from every other"),
    text("expires", "Until when the link is good, seconds since the epoch"),
    text("signature", "Over the file and all of these"),
];
const JOBS_QUERY: &[Param] = &[
    word("state", "All when absent", jobs::STATES),
    whole("limit", "Rows", 1..=jobs::LIMIT_MAX as u64).or(jobs::LIMIT_DEFAULT as u64),
];
const POLICY_QUERY: &[Param] = &[
    flag("explain", "For each backup of the instance, why it is still here and when it goes"),
    whole(
        "keep_days",
        "Explain as if automated backups were kept for so many days",
        0..=KEEP_DAYS_MAX as u64,
    ),
    flag("remove_automated", "With keep_days 0: as if the automated backups that exist were to go"),
];

pub(crate) const OPERATIONS: &[Operation] = &[
    get("/healthz", "Whether the process lives", "Health").for_everybody(),
    get("/readyz", "Whether requests can be served; 503 when not", "Health").for_everybody(),
    get("/metrics", "Numbers for a collector, as Prometheus text or OpenMetrics", "text/plain")
        .for_everybody(),
    get("/strongroom/v1/openapi.json", "This document", "Nothing").for_everybody(),
    get(
        "/downloads/{file}",
        "A backup as one file, by a signed link; ranges (206, 416) and HEAD",
        "application/zstd",
    )
    .with_query(LINK_QUERY)
    .for_everybody(),
    get("/strongroom/v1/instances", "Registered instances", "InstanceList"),
    post(
        "/strongroom/v1/instances",
        "Check a source and register it; 422 with the check when something is missing, and nothing is saved",
        "InstanceAdded",
    )
    .taking("InstanceRequest")
    .with_status("201"),
    get("/strongroom/v1/instances/{instance}", "One instance", "InstanceView"),
    delete("/strongroom/v1/instances/{instance}", "Retire an instance; its backups stay", "Nothing"),
    post("/strongroom/v1/instances/{instance}/check", "Look at the source again", "CheckView"),
    get(
        "/strongroom/v1/instances/{instance}/policy",
        "When automated backups begin and how long they stay",
        "PolicyView",
    )
    .with_query(POLICY_QUERY),
    put(
        "/strongroom/v1/instances/{instance}/policy",
        "Set the policy; what is absent stays as it is",
        "PolicyView",
    )
    .taking("PolicyRequest"),
    get("/strongroom/v1/instances/{instance}/tags", "What an instance is filed under", "TagsView"),
    put("/strongroom/v1/instances/{instance}/tags", "Set the tags: these, and no others", "TagsView")
        .taking("TagsRequest"),
    get(
        "/strongroom/v1/instances/{instance}/logs",
        "Whether the log is captured as it is written, and what is held of it",
        "LogView",
    ),
    put(
        "/strongroom/v1/instances/{instance}/logs",
        "Switch the capture of the log on or off; 409 with the statement that mends it where the source is not made for it",
        "LogView",
    )
    .taking("LogRequest"),
    post(
        "/strongroom/v1/retention/resume",
        "Say that the clock is right, after rules were held because it moved",
        "Nothing",
    ),
    get("/strongroom/v1/backups", "Backups, newest first, by pages", "BackupList").with_query(LIST_QUERY),
    post("/strongroom/v1/backups", "Create a manual backup", "BackupView")
        .taking("BackupRequest")
        .with_status("202"),
    get("/strongroom/v1/backups/{backup}", "One backup with all its facts", "BackupView"),
    delete("/strongroom/v1/backups/{backup}", "Delete a backup, manual or automated", "Accepted")
        .with_status("202"),
    post("/strongroom/v1/backups/{backup}/verify", "Check a backup at a level", "Accepted")
        .taking("CheckRequest")
        .with_status("202"),
    get("/strongroom/v1/backups/{backup}/plan", "What a restore would write", "RestorePlanView"),
    get(
        "/strongroom/v1/backups/{backup}/members",
        "Files and directories, one MemberLine a line; a MembersFailure ends a list that cannot be read on",
        "application/x-ndjson",
    ),
    post(
        "/strongroom/v1/backups/{backup}/content",
        "Segments, as a content stream",
        "application/octet-stream",
    )
    .taking("ContentRequest"),
    post(
        "/strongroom/v1/backups/{backup}/download-link",
        "A link to the backup as one file, good for an hour",
        "DownloadLinkView",
    ),
    get("/strongroom/v1/jobs", "Jobs, newest first", "JobList").with_query(JOBS_QUERY),
    get("/strongroom/v1/jobs/{job}", "One job with its steps", "JobView"),
    post("/strongroom/v1/jobs/{job}/cancel", "Ask for the end of a job", "Accepted").with_status("202"),
    get(
        "/strongroom/v1/jobs/{job}/events",
        "Server-sent events, each with a JobView: `progress` while the job runs, `end` once",
        "text/event-stream",
    ),
    get("/strongroom/v1/repository", "Numbers of the repository", "RepositoryView"),
    post("/strongroom/v1/repository/check", "Check the repository at a level", "Accepted")
        .taking("CheckRequest")
        .with_status("202"),
    post(
        "/strongroom/v1/repository/sweep",
        "Take away what no backup needs, or say what that would be",
        "Accepted",
    )
    .taking("SweepRequest")
    .with_status("202"),
    post("/strongroom/v1/repository/forget", "Forget a backup by what the repository knows", "Nothing")
        .taking("ForgetRequest"),
    get("/strongroom/v1/tokens", "Tokens of the project", "TokenList"),
    post("/strongroom/v1/tokens", "Make a token; it is shown once", "TokenView")
        .taking("TokenRequest")
        .with_status("201"),
    delete("/strongroom/v1/tokens/{token}", "Revoke a token at once", "Nothing"),
    get("/strongroom/v1/access-keys", "Access keys of the project, without their secrets", "AccessKeyList"),
    post("/strongroom/v1/access-keys", "Make an access key; its secret is shown once", "AccessKeyView")
        .taking("AccessKeyRequest")
        .with_status("201"),
    delete("/strongroom/v1/access-keys/{access_key}", "End an access key at once", "Nothing"),
    get("/strongroom/v1/projects", "Projects of the domain", "ProjectList"),
    post("/strongroom/v1/projects", "Make a project; the caller becomes its administrator", "ProjectView")
        .taking("ProjectRequest")
        .with_status("201"),
    delete("/strongroom/v1/projects/{project}", "Remove a project that never had an instance", "Nothing"),
    get("/strongroom/v1/users", "Users of the domain and their roles", "UserList"),
    post("/strongroom/v1/users", "Make a user; their roles are given afterwards", "UserView")
        .taking("UserRequest")
        .with_status("201"),
    delete("/strongroom/v1/users/{user}", "Remove a user with their tokens and keys, at once", "Nothing"),
    post("/strongroom/v1/users/{user}/password", "Set a password; log-ins by the old one end", "Nothing")
        .taking("PasswordRequest"),
    post(
        "/strongroom/v1/users/{user}/roles",
        "Give a role in a project, instead of the one before",
        "Nothing",
    )
    .taking("RoleRequest"),
    delete(
        "/strongroom/v1/users/{user}/roles/{project}",
        "Take the role in a project away, at once",
        "Nothing",
    ),
    get("/strongroom/v1/recovery-kit", "The recovery kit", "RecoveryKitView"),
    get("/strongroom/v1/doctor", "The server's look at itself", "DoctorView"),
];

pub(crate) const SCHEMAS: Collect = |out| {
    collect::<crate::health::Health>(out);
    collect::<wire::ErrorBody>(out);
    collect::<wire::InstanceRequest>(out);
    collect::<wire::InstanceAdded>(out);
    collect::<wire::InstanceList>(out);
    collect::<wire::PolicyRequest>(out);
    collect::<wire::PolicyView>(out);
    collect::<wire::TagsRequest>(out);
    collect::<wire::TagsView>(out);
    collect::<wire::LogRequest>(out);
    collect::<wire::LogView>(out);
    collect::<wire::BackupRequest>(out);
    collect::<wire::BackupList>(out);
    collect::<wire::JobList>(out);
    collect::<wire::CheckRequest>(out);
    collect::<wire::Accepted>(out);
    collect::<wire::ForgetRequest>(out);
    collect::<wire::SweepRequest>(out);
    collect::<wire::RepositoryView>(out);
    collect::<wire::RestorePlanView>(out);
    collect::<wire::MemberLine>(out);
    collect::<wire::MembersFailure>(out);
    collect::<wire::ContentRequest>(out);
    collect::<wire::DownloadLinkView>(out);
    collect::<wire::TokenRequest>(out);
    collect::<wire::TokenList>(out);
    collect::<wire::AccessKeyRequest>(out);
    collect::<wire::AccessKeyList>(out);
    collect::<wire::ProjectRequest>(out);
    collect::<wire::ProjectList>(out);
    collect::<wire::UserRequest>(out);
    collect::<wire::PasswordRequest>(out);
    collect::<wire::RoleRequest>(out);
    collect::<wire::UserList>(out);
    collect::<wire::RecoveryKitView>(out);
    collect::<wire::DoctorView>(out);
};
