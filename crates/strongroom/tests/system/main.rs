//! Stories through the executable: a real server process, real commands, a real PostgreSQL or MySQL.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;
mod site;
mod source;

mod block_lists;
mod clients;
mod command_line;
mod damage;
mod disks;
mod downloads;
mod drills;
mod encrypted_mysql;
mod fairness;
mod first_start;
mod identity;
mod kills;
mod leaks;
mod logs;
mod mysql;
mod policies;
mod random_kills;
mod seed_call;
mod sweeps;
mod tls;
mod versions;
mod workers;
