//! The native API's documents: what `/strongroom/v1` sends and takes, shared with the commands.
//!
//! Owns the JSON field names of the native API and nothing else. Times are RFC 3339 in UTC,
//! sizes are bytes, backup and instance states are the words of the RDS dialects, job states are
//! our own (`ready`, `leased`, `succeeded`, `failed`, `cancelled`). Unknown fields are refused: one
//! that is misspelt would be ignored without a word otherwise.

mod logs;
mod repository;
mod tags;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use logs::{LogPlaceView, LogRangeView, LogRequest, LogView};
pub use repository::{NextSweepView, RepositoryView, SweepRequest};
pub use tags::{TagEntry, TagsRequest, TagsView};

/// Version of every document below; grows only when a field changes its meaning or goes away.
pub const SCHEMA: u32 = 1;

/// The answer to anything that failed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// Stable code in snake_case, such as `backup_name_taken`; `strongroom explain CODE` tells more.
    pub code: String,
    /// What happened, and whether data is safe.
    pub message: String,
    /// The next step; empty when there is none.
    pub hint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    pub request_id: String,
}

/// `POST /instances`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceRequest {
    pub name: String,
    /// `postgresql`, `mysql` or `sqlserver`
    pub engine: String,
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    /// `disable`, `require` (default) or `verify-full`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// PEM certificates to trust instead of the system's
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Answer an MD5 challenge
    #[serde(default)]
    pub allow_md5: bool,
}

/// One line of a check: what, found, wanted, the exact next step.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CheckLineView {
    pub what: String,
    /// `ok`, `warning` or `missing`
    pub state: String,
    pub found: String,
    pub wanted: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What a check of an instance found.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CheckView {
    pub schema: u32,
    pub passed: bool,
    pub lines: Vec<CheckLineView>,
}

/// Answer of `POST /instances`: 201 with the instance, or 422 with `instance` null and nothing saved.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct InstanceAdded {
    pub schema: u32,
    pub instance: Option<InstanceView>,
    pub check: CheckView,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    pub schema: u32,
    pub id: String,
    pub primary_node_id: String,
    pub name: String,
    pub engine: String,
    pub version: String,
    /// `BUILD`, `ACTIVE` or `FAILED`
    pub status: String,
    pub host: String,
    pub port: u16,
    pub user: String,
    pub tls: String,
    pub created: String,
    pub updated: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct InstanceList {
    pub schema: u32,
    pub instances: Vec<InstanceView>,
}

/// `PUT /instances/{instance}/policy`; what is absent stays as it is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyRequest {
    /// 1 to 732 days after its end an automated backup goes; 0 switches automated backups off
    #[schema(minimum = 0, maximum = 732)]
    pub keep_days: i64,
    /// One hour in UTC such as `01:00-02:00`, from a quarter of an hour on
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// Days of the week such as `1,3,5`, where 1 is Monday; all of them when none was ever named
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// With 0 days: the automated backups that exist go too
    #[serde(default)]
    pub remove_automated: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    pub schema: u32,
    pub instance_id: String,
    pub instance_name: String,
    /// Whether automated backups are made
    pub automated: bool,
    pub keep_days: u16,
    /// Remembered while automated backups are off; empty when nobody ever said
    pub start_time: String,
    pub period: String,
    /// The moment inside the window is the same on every day, and another for each instance; in the past
    /// while the backup waits for its turn
    pub next_start: Option<String>,
    pub last_start: Option<PolicyStartView>,
    /// Set while nothing is removed by a rule
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_held: Option<RetentionHoldView>,
    /// With `explain`, newest first
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<Vec<BackupFateView>>,
}

/// An automated backup that was begun.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PolicyStartView {
    /// The moment it was begun for
    pub due: String,
    pub started: String,
    pub backup_id: String,
}

/// The clock moved, and nobody has said yet that it is right.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RetentionHoldView {
    pub at: String,
    pub moved_s: i64,
}

/// Why a backup is still here, and when it goes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BackupFateView {
    pub id: String,
    pub name: String,
    /// `manual` or `auto`
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub created: String,
    pub finished: Option<String>,
    /// `manual`, `building`, `deleting`, `automation_off`, `within_keep_days`, `policy_shortened`,
    /// `protected` or `due`
    pub why: String,
    /// The same for people
    pub explanation: String,
    /// When a rule removes it, as things stand; null: no rule does
    pub goes: Option<String>,
}

/// `POST /backups`; `instance` is an id, a node id or a unique name.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    pub name: String,
    pub instance: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct VerificationView {
    /// `presence`, `digest`, `decode`, `engine`; null while nothing was verified
    pub level: Option<String>,
    /// `passed`, `failed`, `not_run`
    pub result: String,
    pub at: Option<String>,
    #[serde(default)]
    pub findings: Vec<String>,
    /// What was measured, when a restored server accepted connections (level `engine`)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillView>,
}

/// A restore into a sandbox, a start, and what the server then said.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DrillView {
    pub server_version: String,
    pub restored_bytes: u64,
    /// From the first byte read to the last one durable
    pub restore_seconds: f64,
    /// From the start of the server to its first answer, replay of the log included
    pub start_seconds: f64,
    /// All checks together
    pub check_seconds: f64,
    pub databases: u64,
    pub tables: u64,
    pub rows: u64,
    pub checks: Vec<DrillCheckView>,
}

/// One check of a drill.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DrillCheckView {
    /// `tables`, `pg_amcheck`, `pg_checksums`
    pub what: String,
    /// `passed`, `failed`, `not_run`
    pub result: String,
    /// What it looked at, or why it was not done
    pub detail: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BackupView {
    pub schema: u32,
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub instance_id: String,
    pub primary_node_id: String,
    pub engine: String,
    pub engine_version: String,
    /// `BUILDING`, `COMPLETED`, `FAILED`, `DELETING`
    pub status: String,
    /// `manual` or `auto`
    #[serde(rename = "type")]
    pub kind: String,
    pub created: String,
    pub finished: Option<String>,
    /// Bytes a restore writes
    pub source_bytes: Option<u64>,
    /// Bytes this backup added to the repository, everything counted
    pub stored_bytes: Option<u64>,
    pub verification: VerificationView,
    pub job_id: String,
    pub warnings: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureView>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BackupList {
    pub schema: u32,
    pub backups: Vec<BackupView>,
    /// Pass as `?after=` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct ProgressView {
    pub phase: String,
    pub done_bytes: u64,
    /// 0 while unknown
    pub total_bytes: u64,
    pub stored_bytes: u64,
    pub rate_bytes_per_s: u64,
    /// Seconds left; null while unknown
    pub eta_s: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobStepView {
    pub attempt: u32,
    pub name: String,
    pub at: String,
    pub output: serde_json::Value,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    pub schema: u32,
    pub id: String,
    /// `backup`, `delete`, `verify`, `check_repository`, `sweep`, `plan_sweep`
    pub kind: String,
    /// `ready`, `leased`, `succeeded`, `failed`, `cancelled`
    pub state: String,
    pub backup_id: Option<String>,
    pub instance_id: Option<String>,
    pub attempts: u32,
    pub created: String,
    pub started: Option<String>,
    pub finished: Option<String>,
    pub progress: ProgressView,
    pub result: Option<serde_json::Value>,
    pub failure: Option<FailureView>,
    /// The recorded steps; empty in lists
    #[serde(default)]
    pub steps: Vec<JobStepView>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    pub schema: u32,
    pub jobs: Vec<JobView>,
}

/// `POST /backups/{id}/verify` and `POST /repository/check`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// `presence`, `digest`, `decode` or `engine`
    pub level: String,
}

/// Accepted work: watch it at `/jobs/{job_id}`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    pub schema: u32,
    pub job_id: String,
}

/// `POST /repository/forget`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// Backup id or unique name, looked up in the repository itself
    pub backup: String,
}

/// `GET /backups/{id}/plan`: what a restore has to know before its first byte.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RestorePlanView {
    pub schema: u32,
    pub backup_id: String,
    pub name: String,
    pub engine: String,
    pub engine_version: String,
    pub source_bytes: u64,
    /// Facts of the engine, as sealed in the manifest; finishing the restore needs them
    pub facts: serde_json::Value,
    pub tablespaces: Vec<TablespaceView>,
    pub warnings: Vec<String>,
    pub member_count: u64,
    /// Digest of the sealed manifest, hex; ties a restore journal to its backup
    pub manifest_digest: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TablespaceView {
    pub id: String,
    pub source_path: String,
}

/// `POST /backups/{id}/download-link`: the backup as one file, for whoever has the address.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DownloadLinkView {
    pub schema: u32,
    pub backup_id: String,
    pub file_name: String,
    /// Exact size of the file
    pub bytes: u64,
    /// Needs no header, takes ranges and HEAD
    pub url: String,
    pub expires: String,
}

/// One line of the members stream (`application/x-ndjson`), sorted by path.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MemberLine {
    pub index: u64,
    /// Path as text when it is UTF-8 …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// … else its bytes in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// `file` or `directory`
    pub kind: String,
    pub size: u64,
    pub mode: u32,
    pub mtime_s: i64,
    pub segments: u32,
}

/// The last line of a members stream that failed on its way.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MembersFailure {
    pub error: ErrorBody,
}

/// `POST /backups/{id}/content`: the segments to stream, as (member index, segment number).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentRequest {
    pub segments: Vec<(u64, u32)>,
}

/// `POST /tokens`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    pub name: String,
    /// `viewer`, `operator`, `restorer` or `admin` (default)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Seconds until it expires; absent = never
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// A token's row. The token itself is shown once, at creation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    pub schema: u32,
    pub id: String,
    pub name: String,
    pub role: String,
    pub created: String,
    pub expires: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    pub schema: u32,
    pub tokens: Vec<TokenView>,
}

/// `GET /recovery-kit`: for administrators only.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RecoveryKitView {
    pub schema: u32,
    pub repository_id: String,
    pub location: String,
    pub recovery_key: String,
    /// The page itself, ready to print
    pub text: String,
}

/// `GET /doctor`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DoctorView {
    pub schema: u32,
    pub passed: bool,
    pub lines: Vec<CheckLineView>,
}

/// `POST /projects`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectRequest {
    pub name: String,
    /// How many manual backups it may have; absent = no limit
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_quota: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProjectView {
    pub schema: u32,
    pub id: String,
    pub name: String,
    pub backup_quota: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProjectList {
    pub schema: u32,
    pub projects: Vec<ProjectView>,
}

/// `POST /users`
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    pub name: String,
    /// 8 to 256 characters; absent = cannot log in with a password
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// May make projects and users, and see the repository and its recovery kit
    #[serde(default)]
    pub domain_admin: bool,
}

/// `POST /users/{user}/password`
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    pub password: String,
}

/// `POST /users/{user}/roles`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleRequest {
    /// `viewer`, `operator`, `restorer` or `admin`
    pub role: String,
    /// Id or name; absent = the project of the caller
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    pub schema: u32,
    pub id: String,
    pub name: String,
    pub domain_admin: bool,
    /// Whether a password was set
    pub can_log_in: bool,
    pub roles: Vec<RoleView>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RoleView {
    pub project_id: String,
    pub project_name: String,
    pub role: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UserList {
    pub schema: u32,
    pub users: Vec<UserView>,
}

/// `POST /access-keys`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessKeyRequest {
    /// `viewer`, `operator`, `restorer` or `admin` (default)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// An access key's row. The secret is shown once, at creation.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct AccessKeyView {
    pub schema: u32,
    pub access_key: String,
    pub user_id: String,
    pub role: String,
    pub created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<String>,
}

#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct AccessKeyList {
    pub schema: u32,
    pub access_keys: Vec<AccessKeyView>,
}
