//! Instances as v3 lists them: every key always, lists empty rather than null.

use std::net::IpAddr;

use serde::Serialize;
use strongroom_core::engine::{EngineKind, TlsMode};
use strongroom_core::instance::{Instance, InstanceState};
use strongroom_core::policy::BackupPolicy;
use strongroom_core::size::ByteSize;
use strongroom_service::{InstanceFacts, ListedInstance};
use utoipa::ToSchema;

use super::backups::start_time;
use super::tags::{TagPair, pairs};
use super::zone;
use crate::rds::{engine_name, instance_status, moment_with_zone, series};
use crate::v3::offers::{STORAGE, flavor};

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceList {
    pub(crate) instances: Vec<InstanceRow>,
    /// All that pass the filter, whatever the page
    pub(crate) total_count: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceRow {
    id: String,
    name: String,
    /// `BUILD`, `ACTIVE`, `BACKING UP` or `FAILED`
    status: String,
    alias: String,
    #[serde(rename = "type")]
    kind: String,
    region: String,
    datastore: InstanceDatastore,
    port: u16,
    enable_ssl: bool,
    private_ips: Vec<String>,
    public_ips: Vec<String>,
    private_dns_names: Vec<String>,
    public_dns_names: Vec<String>,
    db_user_name: String,
    created: String,
    updated: String,
    vpc_id: String,
    subnet_id: String,
    security_group_id: String,
    cpu: String,
    mem: String,
    flavor_ref: String,
    volume: InstanceVolume,
    switch_strategy: String,
    backup_strategy: InstanceStrategy,
    maintenance_window: String,
    nodes: Vec<InstanceNode>,
    related_instance: Vec<String>,
    disk_encryption_id: String,
    enterprise_project_id: String,
    time_zone: String,
    charge_info: ChargeInfo,
    tags: Vec<TagPair>,
    associated_with_ddm: bool,
    /// GB that the backups cost; where it is asked for by its id
    #[serde(skip_serializing_if = "Option::is_none")]
    backup_used_space: Option<f64>,
    /// GB of the newest backup's content; where it is asked for by its id
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_used_space: Option<f64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceDatastore {
    #[serde(rename = "type")]
    kind: String,
    version: String,
    complete_version: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceVolume {
    #[serde(rename = "type")]
    kind: String,
    /// GB of the newest backup's content, rounded up; 0 before the first
    size: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceStrategy {
    start_time: String,
    keep_days: u16,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceNode {
    id: String,
    name: String,
    role: String,
    status: String,
    availability_zone: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChargeInfo {
    charge_mode: String,
}

const GB: u64 = 1 << 30;

#[expect(clippy::cast_precision_loss, reason = "a double is exact far beyond the millions of GB that exist")]
fn gigabytes(size: ByteSize) -> f64 {
    (size.bytes() as f64 / GB as f64 * 100.0).ceil() / 100.0
}

impl InstanceRow {
    /// `stored_bytes` is there for the one that was asked for by its id.
    pub(crate) fn new(
        ListedInstance { instance, facts, tags }: &ListedInstance,
        policy: &BackupPolicy,
        stored_bytes: Option<ByteSize>,
        region: &str,
    ) -> Self {
        let engine = instance.engine;
        let (ips, names) = match instance.host.parse::<IpAddr>() {
            Ok(ip) => (vec![ip.to_string()], Vec::new()),
            Err(_) => (Vec::new(), vec![instance.host.clone()]),
        };
        let tells_space = matches!(engine, EngineKind::PostgreSql | EngineKind::SqlServer);
        let stored = stored_bytes.filter(|_| tells_space);
        Self {
            id: instance.id.as_str().to_owned(),
            name: instance.name.as_str().to_owned(),
            status: status(instance.state, *facts).to_owned(),
            alias: String::new(),
            kind: "Single".to_owned(),
            region: region.to_owned(),
            datastore: InstanceDatastore {
                kind: engine_name(engine).to_owned(),
                version: series(engine, &instance.version).to_owned(),
                complete_version: instance.version.clone(),
            },
            port: instance.port,
            enable_ssl: instance.tls != TlsMode::Disable,
            private_ips: ips,
            public_ips: Vec::new(),
            private_dns_names: names,
            public_dns_names: Vec::new(),
            db_user_name: instance.user.clone(),
            created: moment_with_zone(instance.created),
            updated: moment_with_zone(instance.updated),
            vpc_id: String::new(),
            subnet_id: String::new(),
            security_group_id: String::new(),
            cpu: String::new(),
            mem: String::new(),
            flavor_ref: flavor(engine),
            volume: InstanceVolume {
                kind: STORAGE.to_owned(),
                size: facts.source_bytes.map_or(0, |size| size.bytes().div_ceil(GB)),
            },
            switch_strategy: String::new(),
            backup_strategy: InstanceStrategy {
                start_time: start_time(policy),
                keep_days: policy.keep().days(),
            },
            maintenance_window: String::new(),
            nodes: vec![node(instance, *facts, region)],
            related_instance: Vec::new(),
            disk_encryption_id: String::new(),
            enterprise_project_id: String::new(),
            time_zone: "UTC".to_owned(),
            charge_info: ChargeInfo { charge_mode: "postPaid".to_owned() },
            tags: pairs(tags),
            associated_with_ddm: false,
            backup_used_space: stored.map(gigabytes),
            storage_used_space: stored.map(|_| facts.source_bytes.map_or(0.0, gigabytes)),
        }
    }
}

fn node(instance: &Instance, facts: InstanceFacts, region: &str) -> InstanceNode {
    InstanceNode {
        id: instance.node_id.as_str().to_owned(),
        name: format!("{}_node0", instance.name),
        role: "master".to_owned(),
        status: status(instance.state, facts).to_owned(),
        availability_zone: zone(region),
    }
}

/// An instance is told to be backed up for as long as a backup of it is BUILDING.
fn status(state: InstanceState, facts: InstanceFacts) -> &'static str {
    match state {
        InstanceState::Ready if facts.backing_up => "BACKING UP",
        _ => instance_status(state),
    }
}
