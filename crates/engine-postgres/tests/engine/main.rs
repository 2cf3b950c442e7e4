//! The engine against real servers, and against servers that lie.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod backup;
mod desk;
mod folder_sink;
