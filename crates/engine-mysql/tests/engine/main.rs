//! The engine against real servers, and against donors that lie.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod backup;
mod desk;
mod drill;
mod encrypted;
mod fake_donor;
mod folder_sink;
mod hostile;
mod hostile_tables;
mod interruption;
mod locks;
mod log_desk;
mod logs;
mod other_tables;
mod probe;
mod proxy;
mod restore;
mod world;
