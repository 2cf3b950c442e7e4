//! HTTP: the wire formats, as thin adapters over the service.
//!
//! Owns sockets, headers and the JSON field names of each dialect (one folder each). Must never
//! know SQL, an engine, an object key or a clock. A new API version is a folder and a line in
//! `router.rs`.

mod app;
mod body;
mod caller;
mod connections;
mod dialect;
mod downloads;
mod entry;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod identity;
mod metrics;
pub mod native;
mod openapi;
mod path;
mod query;
mod rds;
mod router;
mod server;
mod shares;
mod signature;
mod trove;
mod v1;
mod v3;

pub use app::{ApiSettings, Pages};
pub use openapi::{identity_document, native_document, v1_document, v3_document};
pub use router::routes;
pub use server::{Listen, TlsFiles, serve};
