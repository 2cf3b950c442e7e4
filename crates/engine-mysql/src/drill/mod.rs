//! The drill: a restored directory is started where nobody can reach it, replays its log, and every
//! table is checked with all its indexes and counted, and what came beside it is loaded; then, on the
//! stopped one, every page.
//!
//! Owns what happens inside the sandbox it is given. Must never run anything that the restored data
//! brought with it, as far as that is in our hands: no plugin, component, function, event or replica
//! of the source comes to life.

mod check;
mod other_tables;
mod pages;
mod position;
mod room;
mod server;

use std::path::PathBuf;
use std::time::Instant;

use strongroom_core::Result;
use strongroom_core::engine::{BackupFacts, DrillOrder, DrillReport};
use strongroom_host::{Cell, Findings, Halt};

use self::room::Room;
use self::server::Server;
use crate::connection::{Connection, Watch};
use crate::dump;
use crate::facts::MySqlFacts;
use crate::fault::Fault;
use crate::restore;

/// The server has no children; it must not go on without us.
const DEATH_SIGNAL: &str = "KILL";

/// The program a drill of this backup would run.
pub(crate) fn find_server(facts: &BackupFacts) -> Result<PathBuf> {
    restore::find_mysqld(&MySqlFacts::of(facts)?, "The backup was not touched.")
}

pub(crate) fn run(order: &DrillOrder<'_>) -> Result<DrillReport> {
    let facts = MySqlFacts::of(order.facts)?;
    let room = Room::furnish(order, &facts)?;
    let cell = Cell::strongest(order.account, DEATH_SIGNAL);
    let found = Findings::begin(order);
    let mut drill = Drill { order, facts: &facts, room, cell, found };
    drill.found.report.notes.extend(drill.cell.note());
    drill.found.tell_known_damage("Page");
    drill.tell_empty_tables();
    let ended = drill.run();
    drill.found.conclude(ended)
}

struct Drill<'a> {
    order: &'a DrillOrder<'a>,
    facts: &'a MySqlFacts,
    room: Room<'a>,
    cell: Cell,
    found: Findings<'a>,
}

impl Drill<'_> {
    fn run(&mut self) -> Result<(), Halt> {
        let Some(mut server) = self.start()? else { return Ok(()) };
        let begun = Instant::now();
        let checked = self.look(&mut server);
        self.found.report.check = begun.elapsed();
        checked?;
        if self.stop(server)? {
            let begun = Instant::now();
            self.check_pages()?;
            self.found.report.check += begun.elapsed();
        }
        Ok(())
    }

    fn look(&mut self, server: &mut Server) -> Result<(), Halt> {
        let mut connection = match self.connect() {
            Ok(connection) => connection,
            Err(fault) => return self.broke_off(server, "it was logged in to", &fault),
        };
        if let Err(fault) = self.ask_position(&mut connection) {
            self.broke_off(server, "it was asked for its position", &fault)?;
        }
        self.check_tables(server, connection)?;
        self.load_other_tables(server)
    }

    /// The server takes whoever reaches its socket, and only we do.
    fn connect(&self) -> Result<Connection, Fault> {
        Connection::open_local(&self.room.socket(), "root", &self.watch()?)
    }

    /// A long silence is a large table at work; the time of the drill bounds it.
    fn watch(&self) -> Result<Watch<'_>, Fault> {
        match self.found.remaining() {
            Ok(left) => Ok(Watch::new(self.order.cancel).with_silence(left).with_deadline(left)),
            Err(Halt::Stop(error)) => Err(error.into()),
            Err(Halt::OutOfTime) => Err(Fault::lost("The time of the drill is over.")),
        }
    }

    /// Tells why a conversation ended, which may be that of the drill.
    fn broke_off(&mut self, server: &mut Server, when: &str, fault: &Fault) -> Result<(), Halt> {
        self.found.remaining()?;
        if server.has_ended() {
            let words = restore::reasons(&server.process);
            self.tell_end(format!("The restored server ended while {when}. It says: {words}"), &words);
        } else {
            let words = match fault {
                Fault::Server(error) => error.quoted(),
                Fault::Lost(error) | Fault::Domain(error) => error.public().to_owned(),
                Fault::Foreign(foreign) => foreign.found(),
            };
            self.found.unjudged.tell(format!("Nothing more can be said from where {when}: {words}."));
        }
        Ok(())
    }

    /// What ended a server accuses the copy, unless it speaks of this machine.
    fn tell_end(&mut self, sentence: String, words: &str) {
        if is_of_this_machine(words) {
            self.found.unjudged.tell(sentence);
        } else {
            self.found.failures.tell(sentence);
        }
    }

    /// As with damaged pages: a restore gives these tables empty.
    fn tell_empty_tables(&mut self) {
        let others = dump::sentences(&self.facts.tables_left_empty, self.facts.tables_left_empty_unlisted);
        self.found.report.notes.extend(others.into_iter().map(|text| format!("Warning: {text}")));
    }
}

/// Words of a server that tell of this machine and not of the data. To accuse a backup of a full disk
/// would be wrong.
fn is_of_this_machine(words: &str) -> bool {
    const WORDS: [&str; 9] = [
        "No space left on device",
        "Disk is full",
        "Disk quota exceeded",
        "Cannot allocate memory",
        "Out of memory",
        "Too many open files",
        "error while loading shared libraries",
        "errno: 28",
        "errno: 24",
    ];
    WORDS.iter().any(|word| words.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_this_machine_is_no_damage_of_mysql() {
        assert!(is_of_this_machine(
            "[ERROR] [MY-012144] [InnoDB] posix_fallocate(): ... No space left on device"
        ));
        assert!(is_of_this_machine("OS errno: 24 - Too many open files"));
        assert!(!is_of_this_machine(
            "[ERROR] [InnoDB] Database page corruption on disk or a failed file read"
        ));
        assert!(!is_of_this_machine("[ERROR] Tablespace 7 was not found at ./shop/t.ibd"));
    }
}
