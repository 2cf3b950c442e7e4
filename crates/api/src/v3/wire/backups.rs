//! Backups.

use serde::{Deserialize, Serialize};
use strongroom_core::backup::{Backup, BackupState};
use strongroom_core::policy::BackupPolicy;
use strongroom_core::size::ByteSize;
use strongroom_service::BackupSlice;
use utoipa::ToSchema;

use super::Datastore;
use crate::rds::{engine_name, moment_with_zone, series};

/// `POST /v3/{project_id}/backups`, for the document; the handler reads it field by field, so that
/// each error names its field.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct CreateBackupBody {
    /// The id of the instance; that of its primary node is taken too
    #[schema(min_length = 1, max_length = 64)]
    instance_id: String,
    /// 4 to 64 characters: a letter, then letters, digits, `-` and `_`
    #[schema(min_length = 4, max_length = 64, pattern = "^[A-Za-z][A-Za-z0-9_-]{3,63}$")]
    name: String,
    /// At most 256 characters, none of `! < > = ' & "`
    #[schema(max_length = 256)]
    description: Option<String>,
    /// Only these, where the engine can; absent or empty = all
    databases: Option<Vec<Database>>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Database {
    pub(crate) name: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupCreated {
    backup: NewBackupView,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewBackupView {
    id: String,
    instance_id: String,
    name: String,
    description: Option<String>,
    begin_time: String,
    status: String,
    #[serde(rename = "type")]
    kind: String,
    databases: Vec<Database>,
}

impl From<&Backup> for BackupCreated {
    fn from(backup: &Backup) -> Self {
        let backup = NewBackupView {
            id: backup.id.as_str().to_owned(),
            instance_id: backup.instance_id.as_str().to_owned(),
            name: backup.name.as_str().to_owned(),
            description: backup.description.as_ref().map(|text| text.as_str().to_owned()),
            begin_time: moment_with_zone(backup.created),
            status: backup_status(backup.state).to_owned(),
            kind: backup.kind.word().to_owned(),
            databases: Vec::new(),
        };
        Self { backup }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupList {
    backups: Vec<BackupView>,
    /// All that pass the filter, whatever the page
    total_count: u64,
}

impl From<&BackupSlice> for BackupList {
    fn from(slice: &BackupSlice) -> Self {
        Self { backups: slice.rows.iter().map(Into::into).collect(), total_count: slice.total }
    }
}

/// A row of the list. The description is not in the published row, but clients read it back.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupView {
    id: String,
    instance_id: String,
    name: String,
    description: Option<String>,
    /// `manual` or `auto`
    #[serde(rename = "type")]
    kind: String,
    /// KB, rounded up; 0 until it is known
    size: u64,
    status: String,
    begin_time: String,
    end_time: Option<String>,
    datastore: Datastore,
    databases: Vec<Database>,
    associated_with_ddm: bool,
}

impl From<&Backup> for BackupView {
    fn from(backup: &Backup) -> Self {
        Self {
            id: backup.id.as_str().to_owned(),
            instance_id: backup.instance_id.as_str().to_owned(),
            name: backup.name.as_str().to_owned(),
            description: backup.description.as_ref().map(|text| text.as_str().to_owned()),
            kind: backup.kind.word().to_owned(),
            size: backup.source_bytes.map_or(0, kilobytes),
            status: backup_status(backup.state).to_owned(),
            begin_time: moment_with_zone(backup.created),
            end_time: backup.finished.map(moment_with_zone),
            datastore: Datastore {
                kind: engine_name(backup.engine).to_owned(),
                version: series(backup.engine, &backup.engine_version).to_owned(),
            },
            databases: Vec::new(),
            associated_with_ddm: false,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupFiles {
    pub(crate) files: Vec<BackupFile>,
    pub(crate) bucket: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupFile {
    pub(crate) name: String,
    /// Of the file, in KB, rounded up
    pub(crate) size: u64,
    /// Needs no header, takes ranges and HEAD
    pub(crate) download_link: String,
    pub(crate) link_expired_time: String,
    /// Set where a file holds one database only
    pub(crate) database_name: Option<String>,
}

pub(crate) fn backup_status(state: BackupState) -> &'static str {
    crate::native::views::backup_status(state)
}

#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct BatchDeleteBody {
    #[schema(min_items = 1, max_items = 50)]
    backup_ids: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeleteResults {
    pub(crate) delete_results: Vec<DeleteResult>,
}

/// One id, and what came of it: `"0"` is success.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeleteResult {
    pub(crate) backup_id: String,
    pub(crate) error_code: String,
    pub(crate) error_msg: String,
}

/// Whole KB, rounded up: a backup that is there is never 0.
fn kilobytes(size: ByteSize) -> u64 {
    size.bytes().div_ceil(1024).max(1)
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyShown {
    backup_policy: PolicyView,
}

/// Both texts are empty while automated backups are off.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyView {
    keep_days: u16,
    start_time: String,
    period: String,
}

/// The hour in which automated backups begin; empty while they are off.
pub(super) fn start_time(policy: &BackupPolicy) -> String {
    policy.active().map(|schedule| schedule.window.to_string()).unwrap_or_default()
}

impl From<&BackupPolicy> for PolicyShown {
    fn from(policy: &BackupPolicy) -> Self {
        let schedule = policy.active();
        let backup_policy = PolicyView {
            keep_days: policy.keep().days(),
            start_time: start_time(policy),
            period: schedule.map(|schedule| schedule.weekdays.to_string()).unwrap_or_default(),
        };
        Self { backup_policy }
    }
}

/// `PUT …/backups/policy`, for the document; the handler reads it field by field.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct SetPolicyBody {
    backup_policy: SetPolicy,
    /// With 0 days: whether the automated backups that exist stay; they do when absent
    reserve_backups: Option<bool>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct SetPolicy {
    /// Days; 0 switches automated backups off, and the other fields may be absent
    #[schema(minimum = 0, maximum = 732)]
    keep_days: u16,
    /// `hh:mm-HH:mm` in UTC, one hour from a quarter of an hour on
    start_time: Option<String>,
    /// Days of the week with commas between, 1 is Monday
    period: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_kilobytes_and_never_zero() {
        for (bytes, wanted) in [(0, 1), (1, 1), (1024, 1), (1025, 2), (400_000, 391), (u64::MAX, 1 << 54)] {
            assert_eq!(kilobytes(ByteSize::new(bytes)), wanted, "{bytes}");
        }
    }
}
