//! For tests only: real servers, conformance suites and broken specimens.
//!
//! May be used from `tests/` folders, never by the product and never from unit tests, so that
//! nothing in here can become something the product leans on.

pub mod account;
pub mod debian;
pub mod depth;
pub mod disk;
pub mod line;
#[cfg(feature = "store")]
#[expect(clippy::unwrap_used, reason = "what fails here fails the test")]
pub mod log_archive;
pub mod mysql;
pub mod mysql_binaries;
pub mod mysql_ledger;
mod mysql_template;
pub mod npm;
pub mod port;
pub mod postgres;
pub mod postgres_binaries;
pub mod postgres_ledger;
pub mod session;
pub mod skip;
#[cfg(feature = "store")]
pub mod store;
