//! Stories through the executable: a real server process, real commands, a real PostgreSQL.

mod room;
mod source;

mod command_line;
mod damage;
mod first_start;
mod kills;
mod leaks;
mod seed_call;
mod tls;
