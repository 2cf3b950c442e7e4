//! The engine against real servers, and against servers that lie.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod backup;
mod block_lists;
mod cluster;
mod damage;
mod desk;
mod drill;
mod fake_server;
mod folder_sink;
mod hostile;
mod interruption;
mod locks;
mod log_desk;
mod login;
mod logs;
mod lying_lists;
mod mutating;
mod probe;
mod restore;
mod standby;
