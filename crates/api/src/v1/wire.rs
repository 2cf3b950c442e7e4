//! The v1 documents: every JSON field name of this dialect.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strongroom_core::backup::Backup;
use strongroom_core::instance::{Instance, InstanceState};
use strongroom_core::policy::BackupPolicy;
use strongroom_core::size::ByteSize;
use utoipa::ToSchema;

use crate::rds::{engine_name, instance_status, moment, moment_with_zone, version_id};

/// `GET /rds`
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Versions {
    pub(crate) versions: Vec<VersionRow>,
}

/// `GET /rds/{version}`: some clients look for the one key, some for the other.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Version {
    pub(crate) version: VersionRow,
    pub(crate) versions: VersionRow,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionRow {
    pub(crate) id: String,
    pub(crate) links: Vec<String>,
    pub(crate) status: String,
    pub(crate) updated: String,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorBody {
    pub(crate) err_code: String,
    pub(crate) external_message: String,
}

/// `POST /rds/v1/{project_id}/backups`, for the document; the handler reads it field by field, so
/// that each error names its field.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct CreateBackupBody {
    backup: CreateBackup,
}

#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct CreateBackup {
    /// 4 to 64 characters: a letter, then letters, digits, `-` and `_`
    #[schema(min_length = 4, max_length = 64, pattern = "^[A-Za-z][A-Za-z0-9_-]{3,63}$")]
    name: String,
    /// The id of the primary node
    #[schema(min_length = 1, max_length = 64)]
    instance: String,
    /// At most 256 characters, none of `! < > = ' & "`
    #[schema(max_length = 256)]
    description: Option<String>,
}

/// `POST /rds/v1/{project_id}/instances`, for the document.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct RestoreToNewBody {
    instance: RestoreToNew,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct RestoreToNew {
    #[schema(min_length = 4, max_length = 64, pattern = "^[A-Za-z][A-Za-z0-9_-]{3,63}$")]
    name: String,
    flavor_ref: String,
    volume: NewVolume,
    restore_point: RestorePointBody,
}

#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct NewVolume {
    /// GB, by tens
    #[schema(minimum = 40, maximum = 4000, multiple_of = 10)]
    size: u64,
}

/// A backup or a moment; the backup where both are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct RestorePointBody {
    backup_ref: Option<String>,
    /// Milliseconds since 1970, UTC
    restore_time: Option<i64>,
    /// Needed with a time alone
    source_instance_id: Option<String>,
}

/// `POST /rds/v1/{project_id}/instances/{node_id}/action`, for the document.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct ActionBody {
    restore: RestorePointBody,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupCreated {
    backup: BackupView,
    extendparam: CreatedJobs,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedJobs {
    jobs: Vec<String>,
}

impl From<&Backup> for BackupCreated {
    fn from(backup: &Backup) -> Self {
        let jobs = vec![backup.job_id.as_str().to_owned()];
        Self { backup: BackupView::from(backup), extendparam: CreatedJobs { jobs } }
    }
}

/// All twelve keys, always.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupView {
    id: String,
    name: String,
    description: Option<String>,
    /// The node id
    instance_id: String,
    status: String,
    /// `"1"`: manual
    backuptype: String,
    created: String,
    updated: Option<String>,
    /// GB
    size: Option<f64>,
    #[serde(rename = "locationRef")]
    location_ref: Option<String>,
    parent_id: Option<String>,
    #[serde(rename = "dataStore")]
    data_store: DataStore,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DataStore {
    #[serde(rename = "type")]
    kind: String,
    version: String,
    version_id: String,
}

impl From<&Backup> for BackupView {
    fn from(backup: &Backup) -> Self {
        Self {
            id: backup.id.as_str().to_owned(),
            name: backup.name.as_str().to_owned(),
            description: backup.description.as_ref().map(|text| text.as_str().to_owned()),
            instance_id: backup.node_id.as_str().to_owned(),
            status: crate::native::views::backup_status(backup.state).to_owned(),
            backuptype: "1".to_owned(),
            created: moment(backup.created),
            updated: backup.finished.map(moment),
            size: backup.source_bytes.map(gigabytes),
            location_ref: None,
            parent_id: None,
            data_store: DataStore {
                kind: engine_name(backup.engine).to_owned(),
                version: backup.engine_version.clone(),
                version_id: version_id(backup.engine, &backup.engine_version),
            },
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupList {
    backups: Vec<BackupView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceList {
    pub(crate) instances: Vec<InstanceRow>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InstanceRow {
    id: String,
    status: String,
    name: String,
    created: String,
    hostname: String,
    #[serde(rename = "type")]
    kind: String,
    region: String,
    updated: String,
    availability_zone: String,
    vpc: String,
    nics: Nics,
    security_group: Named,
    flavor: Named,
    volume: Volume,
    data_store_info: DataStoreInfo,
    db_port: u16,
    backup_strategy: BackupStrategy,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Nics {
    subnet_id: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Named {
    id: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Volume {
    #[serde(rename = "type")]
    kind: String,
    size: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DataStoreInfo {
    #[serde(rename = "type")]
    kind: String,
    version: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackupStrategy {
    start_time: String,
    keep_days: u32,
}

impl InstanceRow {
    pub(crate) fn new(instance: &Instance, policy: &BackupPolicy, region: &str) -> Self {
        let empty = || Named { id: String::new() };
        // An instance that is still being registered has no times yet (contract section 3.7).
        let known = |at: Timestamp| match instance.state {
            InstanceState::Registering => String::new(),
            InstanceState::Ready | InstanceState::Unreachable | InstanceState::Retired => {
                moment_with_zone(at)
            }
        };
        Self {
            id: instance.node_id.as_str().to_owned(),
            status: instance_status(instance.state).to_owned(),
            name: instance.name.as_str().to_owned(),
            created: known(instance.created),
            hostname: instance.host.clone(),
            kind: "master".to_owned(),
            region: region.to_owned(),
            updated: known(instance.updated),
            availability_zone: String::new(),
            vpc: String::new(),
            nics: Nics { subnet_id: String::new() },
            security_group: empty(),
            flavor: empty(),
            volume: Volume { kind: String::new(), size: 0 },
            data_store_info: DataStoreInfo {
                kind: engine_name(instance.engine).to_owned(),
                version: instance.version.clone(),
            },
            db_port: instance.port,
            backup_strategy: BackupStrategy {
                start_time: start_time(policy),
                keep_days: policy.keep().days().into(),
            },
        }
    }
}

/// When a policy's window opens, also while automated backups are off; empty when nobody ever said.
fn start_time(policy: &BackupPolicy) -> String {
    policy.schedule().map_or(String::new(), |schedule| {
        let (hour, minute) = schedule.window.opens();
        format!("{hour:02}:{minute:02}:00")
    })
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyShown {
    policy: Policy,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Policy {
    keepday: u16,
    starttime: String,
}

impl From<&BackupPolicy> for PolicyShown {
    fn from(policy: &BackupPolicy) -> Self {
        Self { policy: Policy { keepday: policy.keep().days(), starttime: start_time(policy) } }
    }
}

/// `PUT …/backups/policy`, for the document; the handler reads it field by field.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct SetPolicyBody {
    policy: SetPolicy,
}

#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct SetPolicy {
    /// Days; 0 switches automated backups off
    #[schema(minimum = 0, maximum = 732)]
    keepday: u16,
    /// `hh:mm:ss` or `hh:mm` in UTC; rounded down to a quarter of an hour
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$")]
    starttime: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceShown {
    pub(crate) instance: InstanceSummary,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InstanceSummary {
    instance_id: String,
    status: String,
    instance_name: String,
}

impl From<&Instance> for InstanceSummary {
    fn from(instance: &Instance) -> Self {
        Self {
            instance_id: instance.node_id.as_str().to_owned(),
            status: instance_status(instance.state).to_owned(),
            instance_name: instance.name.as_str().to_owned(),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DataStoreVersions {
    pub(crate) data_stores: Vec<DataStoreVersion>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DataStoreVersion {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) datastore: String,
    pub(crate) image: String,
    pub(crate) packages: String,
    pub(crate) active: u8,
}

/// GB as a double with six decimals, rounded up: a backup that holds a byte is never 0.
#[expect(clippy::cast_precision_loss, reason = "a double is exact far beyond the millions of GB that exist")]
fn gigabytes(size: ByteSize) -> f64 {
    let millionths = (u128::from(size.bytes()) * 1_000_000).div_ceil(1 << 30).max(1);
    millionths as f64 / 1_000_000.0
}

/// The list, piece by piece: rows are rendered one at a time.
pub(crate) const LIST_BEGIN: &str = "{\"backups\":[";
pub(crate) const LIST_END: &str = "]}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_gigabytes_and_never_zero() {
        assert!((gigabytes(ByteSize::new(1 << 30)) - 1.0).abs() < f64::EPSILON);
        assert!((gigabytes(ByteSize::new(400_000)) - 0.000_373).abs() < 1e-9);
        assert!(gigabytes(ByteSize::ZERO) > 0.0);
    }
}
