//! The way to a source, whatever protocol is spoken on it: an address that is allowed, a socket, TLS,
//! and waits that a person or a deadline can end.
//!
//! Owns sockets and nothing that goes over them. Must never know which kind of database answers.

mod tls;
mod transport;
mod trouble;
mod watch;

pub use transport::{Transport, broken, is_tick};
pub use trouble::{Result, Trouble};
pub use watch::{TICK, Watch};
