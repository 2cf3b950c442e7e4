//! The log of an instance: whether it is captured, and what is held of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `PUT /instances/{instance}/logs`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogRequest {
    /// Whether the log of the instance is captured as it is written
    pub capture: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogView {
    pub schema: u32,
    /// `off`, `waiting` for a worker, `capturing`, `failing` or `ending`
    pub state: String,
    /// Since when log of the source may not be here, in seconds; null when off
    pub lag_s: Option<i64>,
    /// When all log of the source was last known to be here
    pub confirmed: Option<String>,
    /// Log that the source keeps until it is here
    pub retained_bytes: Option<u64>,
    /// Whether a backup leads to the log that is captured now; until one does, it leads nowhere
    pub has_backup: bool,
    /// Why it failed last, while it fails
    pub failure: Option<String>,
    /// The next step, while it fails
    pub hint: Option<String>,
    /// Log without a gap, oldest first
    pub ranges: Vec<LogRangeView>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogRangeView {
    /// One history of one server
    pub stream: String,
    pub from: LogPlaceView,
    pub until: LogPlaceView,
    /// The moment that it leads to, by the source's clock
    pub until_time: Option<String>,
}

/// A place in a stream
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogPlaceView {
    /// Number of a file of log; of PostgreSQL, of a segment
    pub file: u64,
    pub offset: u64,
}
