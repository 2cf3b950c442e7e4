//! The service over a real catalog, a real repository and a real store, with a scripted engine:
//! each step repeated, failed, and killed around. Tests own the clock; nothing sleeps to be right.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod backups;
mod block_lists;
mod checks;
mod damage;
mod deletes;
mod drills;
mod engine;
mod hostile;
mod kills;
mod logs;
mod rebases;
mod requests;
mod restores;
mod room;
mod schedule_faults;
mod schedules;
mod source_log;
mod steps;
mod store_faults;
mod storm;
mod subject;
mod sweeps;
mod workers;
