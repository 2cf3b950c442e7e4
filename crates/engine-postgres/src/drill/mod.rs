//! The drill: a restored cluster is started where nobody can reach it, and the engine's own checks are
//! run on it: every table read and counted, `pg_amcheck` on heaps and indexes, then, on the
//! stopped cluster, `pg_checksums` on every page.
//!
//! Owns what happens inside the sandbox it is given. Must never run anything that the restored
//! data brought with it, as far as that is in our hands: no setting, library, command or trigger
//! of the source comes to life, neither of its files nor of its databases and roles.

mod count;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod room;
mod server;
mod superuser;
mod tools;

use std::path::PathBuf;
use std::time::Instant;

use strongroom_core::Result;
use strongroom_core::engine::{BackupFacts, DrillOrder, DrillReport};
use strongroom_host::{Cell, Findings, Halt};

use self::room::Room;
use crate::facts::PostgresFacts;
use crate::restore;

/// The postmaster takes its children with it.
const DEATH_SIGNAL: &str = "QUIT";

/// The program a drill of this backup would run.
pub(crate) fn find_server(facts: &BackupFacts) -> Result<PathBuf> {
    let major = PostgresFacts::of(facts)?.major_version();
    restore::find_postgres(major).ok_or_else(|| restore::no_server(major, "The backup was not touched."))
}

pub(crate) fn run(order: &DrillOrder<'_>) -> Result<DrillReport> {
    let facts = PostgresFacts::of(order.facts)?;
    let room = Room::furnish(order, &facts)?;
    let cell = Cell::strongest(order.account, DEATH_SIGNAL);
    let found = Findings::begin(order);
    let mut drill = Drill { order, facts: &facts, room, cell, found };
    drill.found.report.notes.extend(drill.cell.note());
    drill.found.tell_known_damage("Block");
    let ended = drill.run();
    drill.found.conclude(ended)
}

struct Drill<'a> {
    order: &'a DrillOrder<'a>,
    facts: &'a PostgresFacts,
    room: Room<'a>,
    cell: Cell,
    found: Findings<'a>,
}

impl Drill<'_> {
    fn run(&mut self) -> Result<(), Halt> {
        let Some(server) = self.start()? else { return Ok(()) };
        let begun = Instant::now();
        let done = self.check(server);
        self.found.report.check = begun.elapsed();
        done
    }

    fn check(&mut self, mut server: server::Server) -> Result<(), Halt> {
        if let Some(superuser) = self.count(&mut server)? {
            self.check_relations(&superuser)?;
        }
        if self.stop(server)? {
            self.check_pages()?;
        }
        Ok(())
    }
}

/// Words of a server or a tool that tell of this machine and not of the data. To accuse a backup of
/// a full disk, or of an extension that was not installed here, would be wrong.
fn is_of_this_machine(words: &str) -> bool {
    const WORDS: [&str; 9] = [
        "No space left on device",
        "Disk quota exceeded",
        "Cannot allocate memory",
        "could not create shared memory",
        "could not map anonymous shared memory",
        "database files are incompatible with server",
        "database locale is incompatible with operating system",
        "error while loading shared libraries",
        "could not access file \"",
    ];
    WORDS.iter().any(|word| words.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_this_machine_is_no_damage() {
        assert!(is_of_this_machine("could not access file \"$libdir/postgis-3\": No such file or directory"));
        assert!(is_of_this_machine("could not extend file: No space left on device"));
        assert!(!is_of_this_machine("invalid page in block 7 of relation base/5/16384"));
        assert!(!is_of_this_machine("could not open file \"base/5/16384\": No such file or directory"));
    }
}
