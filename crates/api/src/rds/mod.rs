//! What the RDS dialects have in common: how they write engines, states, times and jobs. A dialect
//! takes from here what fits it; nothing here knows a route or an error code.

pub(crate) mod jobs;
pub(crate) mod moment;
pub(crate) mod restore;
#[cfg(test)]
pub(crate) mod table;

use jiff::Timestamp;
use serde::Serialize;
use strongroom_core::engine::EngineKind;
use strongroom_core::instance::InstanceState;
use utoipa::ToSchema;

/// Empty success.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Nothing {}

/// Engine names as the RDS dialects write them.
pub(crate) fn engine_name(engine: EngineKind) -> &'static str {
    match engine {
        EngineKind::MySql => "MySQL",
        EngineKind::PostgreSql => "PostgreSQL",
        EngineKind::SqlServer => "SQLServer",
    }
}

/// The part of a version that names a series: `15` of `15.18`, `8.0` of `8.0.36`, all of `2019_SE`.
pub(crate) fn series(engine: EngineKind, version: &str) -> &str {
    let dots = match engine {
        EngineKind::PostgreSql => 1,
        EngineKind::MySql => 2,
        EngineKind::SqlServer => return version,
    };
    version.match_indices('.').nth(dots - 1).map_or(version, |(end, _)| &version[..end])
}

/// Of an instance on which nothing runs.
pub(crate) fn instance_status(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Registering => "BUILD",
        InstanceState::Ready => "ACTIVE",
        InstanceState::Unreachable | InstanceState::Retired => "FAILED",
    }
}

/// `yyyy-mm-ddThh:mm:ss`, UTC, without a zone.
pub(crate) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

pub(crate) fn moment_with_zone(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S+0000").to_string()
}

/// A stable id of an engine's version, in the form of a UUID.
pub(crate) fn version_id(engine: EngineKind, version: &str) -> String {
    let digest = blake3::hash(format!("strongroom version {engine} {version}").as_bytes());
    let mut raw = [0; 16];
    raw.copy_from_slice(&digest.as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(raw).into_uuid().to_string()
}

/// A stable id of an engine.
pub(crate) fn engine_id(engine: EngineKind) -> String {
    version_id(engine, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_ids_are_stable() {
        let id = version_id(EngineKind::PostgreSql, "15.18");
        assert_eq!(id, version_id(EngineKind::PostgreSql, "15.18"));
        assert_ne!(id, version_id(EngineKind::PostgreSql, "15.19"));
        assert_eq!(id.len(), 36);
    }

    #[test]
    fn a_series_is_what_one_can_upgrade_within() {
        for (engine, version, wanted) in [
            (EngineKind::PostgreSql, "15.18", "15"),
            (EngineKind::PostgreSql, "18", "18"),
            (EngineKind::MySql, "8.0.36", "8.0"),
            (EngineKind::MySql, "9.7", "9.7"),
            (EngineKind::SqlServer, "2019_SE", "2019_SE"),
            (EngineKind::MySql, "", ""),
        ] {
            assert_eq!(series(engine, version), wanted);
        }
    }
}
