//! The native API: `/strongroom/v1/…`, everything that the RDS dialects have no words for.

pub(crate) mod accounts;
pub(crate) mod backups;
pub(crate) mod content;
mod error;
pub(crate) mod instances;
pub(crate) mod jobs;
pub(crate) mod logs;
mod operations;
pub(crate) mod policies;
mod reference;
pub(crate) mod repository;
pub(crate) mod tags;
pub(crate) mod tokens;
pub(crate) mod views;
pub mod wire;

pub(crate) use error::{Refusal, refuse};
pub(crate) use operations::{OPERATIONS, SCHEMAS};

/// What handlers of this dialect answer.
pub(crate) type Answer<T> = Result<T, Refusal>;

pub(crate) async fn openapi_document() -> axum::Json<serde_json::Value> {
    axum::Json(crate::openapi::native_document())
}
