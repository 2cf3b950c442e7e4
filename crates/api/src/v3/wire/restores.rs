//! Restores, and what can be restored.

use serde::{Deserialize, Serialize};
use strongroom_core::restore::RestoreWindow;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RestoreTimes {
    restore_time: Vec<RestoreTime>,
}

/// Milliseconds since 1970, UTC; both ends can be restored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RestoreTime {
    start_time: i64,
    end_time: i64,
}

impl From<Vec<RestoreWindow>> for RestoreTimes {
    fn from(windows: Vec<RestoreWindow>) -> Self {
        let row = |window: RestoreWindow| RestoreTime {
            start_time: window.from.as_microsecond().div_euclid(1_000),
            end_time: window.until.as_microsecond().div_euclid(1_000),
        };
        Self { restore_time: windows.into_iter().map(row).collect() }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct RecoveryBody {
    source: RestoreSource,
    target: RestoreTargetBody,
}

#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct RestoreSource {
    #[schema(min_length = 1, max_length = 64)]
    instance_id: String,
    /// `backup`, which is meant when it is left out, or `timestamp`
    #[serde(rename = "type")]
    kind: Option<String>,
    backup_id: Option<String>,
    /// Milliseconds since 1970, UTC; their digits as a text are taken too
    restore_time: Option<i64>,
    /// From each database to its new names, with commas
    #[schema(value_type = Option<Object>)]
    database_name: Option<serde_json::Value>,
    restore_all_database: Option<bool>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct RestoreTargetBody {
    #[schema(min_length = 1, max_length = 64)]
    instance_id: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct RestoreToNewBody {
    #[schema(min_length = 4, max_length = 64, pattern = "^[A-Za-z][A-Za-z0-9_-]{3,63}$")]
    name: String,
    restore_point: RestoreSource,
    /// 8 to 32 characters of three kinds
    password: Option<String>,
    volume: Option<NewVolume>,
    ha: Option<NewHa>,
    port: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct NewVolume {
    /// GB
    size: Option<u64>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct NewHa {
    mode: String,
}
