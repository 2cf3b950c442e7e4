//! This machine, as engines need it: a restored directory to be finished, a server as a process of
//! ours, the walls around what a drill starts, and what a drill has found.
//!
//! Owns files it is told to write and processes it starts, and nothing else. Must never know which kind
//! of database it is used for.

mod cell;
mod directory;
mod findings;
mod process;
mod told;

pub use cell::Cell;
pub use directory::{Directory, io_failed};
pub use findings::{Findings, Halt};
pub use process::{Rise, ServerProcess};
pub use told::{Told, outcome_of};
