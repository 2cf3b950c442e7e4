//! The RDS v3 dialect: `/v3/{project_id}/…`, and `/v3.1/{project_id}/…` where that differs.

pub(crate) mod backups;
mod error;
pub(crate) mod files;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod instances;
pub(crate) mod jobs;
pub(crate) mod offers;
mod operations;
pub(crate) mod policies;
pub(crate) mod restores;
pub(crate) mod tags;
pub(crate) mod tasks;
mod wire;

pub(crate) use error::{Refusal, refuse};
pub(crate) use operations::{OPERATIONS, SCHEMAS};

/// What handlers of this dialect answer.
pub(crate) type Answer<T> = Result<axum::Json<T>, Refusal>;
