//! The program, run as a person runs it, on repositories in scratch folders.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod damage;
mod database;
mod kept;
mod program;
mod python;
mod reading;
/// The small repository that the tests of the format use.
#[path = "../../../repository/tests/room/mod.rs"]
mod room;
