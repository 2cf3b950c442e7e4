//! Words and rules of strongroom.
//!
//! Owns the domain types, the state machines, the limits and the ports (clock, engine, sink).
//! Must never know a socket, a file, a clock or an async runtime: everything here is pure, and
//! everything outside is reached through a trait declared here.

pub mod backup;
pub mod engine;
mod error;
pub mod foreign_text;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod id;
pub mod instance;
pub mod job;
pub mod limits;
pub mod logs;
pub mod member;
pub mod network;
pub mod overwrite;
pub mod parent;
pub mod policy;
pub mod progress;
pub mod restore;
pub mod retention;
pub mod size;
pub mod tag;
pub mod text;
pub mod time;
pub mod verification;

pub use error::{Error, ErrorKind, Field, Result, Retry};
