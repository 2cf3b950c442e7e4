//! The RDS v1 dialect: `/rds/v1/{project_id}/…`.

pub(crate) mod backups;
pub(crate) mod datastores;
pub(crate) mod discovery;
mod error;
pub(crate) mod instances;
pub(crate) mod jobs;
mod operations;
pub(crate) mod policies;
pub(crate) mod restores;
mod wire;

pub(crate) use error::{Refusal, refuse};
pub(crate) use operations::{OPERATIONS, SCHEMAS};

/// What handlers of this dialect answer.
pub(crate) type Answer<T> = Result<axum::Json<T>, Refusal>;
