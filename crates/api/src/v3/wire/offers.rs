//! What could be chosen for an instance.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DataStoreVersions {
    pub(crate) data_stores: Vec<DataStoreVersion>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DataStoreVersion {
    pub(crate) id: String,
    pub(crate) name: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FlavorList {
    pub(crate) flavors: Vec<Flavor>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Flavor {
    /// Empty: the machine is its owner's
    pub(crate) vcpus: String,
    /// 0: the machine is its owner's
    pub(crate) ram: u64,
    pub(crate) id: String,
    pub(crate) spec_code: String,
    pub(crate) version_name: Vec<String>,
    pub(crate) instance_mode: String,
    #[schema(value_type = Object)]
    pub(crate) az_status: Value,
    #[schema(value_type = Object)]
    pub(crate) az_desc: Value,
    pub(crate) group_type: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VolumeTypes {
    pub(crate) storage_type: Vec<VolumeType>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VolumeType {
    pub(crate) name: String,
    #[schema(value_type = Object)]
    pub(crate) az_status: Value,
    pub(crate) support_compute_group_type: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Quotas {
    pub(crate) quotas: QuotaRows,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuotaRows {
    pub(crate) resources: Vec<QuotaRow>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuotaRow {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// -1: no limit
    pub(crate) quota: i64,
    pub(crate) used: u64,
}

/// The one zone of a region.
pub(crate) fn zone(region: &str) -> String {
    format!("{region}-01")
}

pub(crate) fn zones(region: &str) -> Value {
    let mut zones = serde_json::Map::new();
    zones.insert(zone(region), Value::from("normal"));
    Value::Object(zones)
}
