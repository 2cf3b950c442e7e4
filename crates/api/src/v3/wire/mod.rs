//! The v3 documents: every JSON field name of this dialect.

mod backups;
mod instances;
mod offers;
mod restores;
mod tags;
mod tasks;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use backups::*;
pub(crate) use instances::*;
pub(crate) use offers::*;
pub(crate) use restores::*;
pub(crate) use tags::*;
pub(crate) use tasks::*;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ErrorBody {
    pub(crate) error_code: String,
    pub(crate) error_msg: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Datastore {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The series, such as `15`
    pub(crate) version: String,
}
