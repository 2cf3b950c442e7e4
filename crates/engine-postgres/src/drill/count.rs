//! Reads every table of every database from its first row to its last, and counts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use strongroom_core::engine::TableCount;
use strongroom_core::foreign_text::for_people;
use strongroom_core::limits;
use strongroom_host::outcome_of;

use super::room::MAJOR_WITH_EVENT_TRIGGER_SWITCH;
use super::server::Server;
use super::{Drill, Halt, is_of_this_machine, superuser};
use crate::connection::{Connection, Row, Watch};
use crate::fault::Fault;
use crate::remedy::quote_literal;
use crate::server::Version;

/// What a session says for itself, above anything that a database or a role has stored for its
/// sessions: no library is loaded, nothing is written, and tables are read and not their indexes.
pub(super) const SESSION: [(&str, &str); 16] = [
    ("client_encoding", "UTF8"),
    ("default_transaction_read_only", "on"),
    ("enable_bitmapscan", "off"),
    ("enable_indexonlyscan", "off"),
    ("enable_indexscan", "off"),
    ("ignore_checksum_failure", "off"),
    ("ignore_system_indexes", "off"),
    ("jit", "off"),
    ("local_preload_libraries", ""),
    ("lock_timeout", "0"),
    ("max_parallel_workers_per_gather", "0"),
    ("role", "none"),
    ("search_path", "pg_catalog"),
    ("session_preload_libraries", ""),
    ("statement_timeout", "0"),
    ("zero_damaged_pages", "off"),
];

/// As above for versions that have it: triggers at the login would run before anything else.
pub(super) const NO_EVENT_TRIGGERS: (&str, &str) = ("event_triggers", "off");

/// Tables asked for at once.
const TABLES_PER_PAGE: usize = 1000;

/// Databases that take connections; one whose removal was cut short takes none.
const DATABASES: &str = "SELECT datname FROM pg_catalog.pg_database
     WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname";

/// Ordinary tables with their partitions, and materialised views that hold something. What other
/// sessions had for themselves is gone; foreign tables are elsewhere.
const TABLES: &str =
    "SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.pg_relation_size(c.oid)
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND (c.relkind = 'r' OR c.relispopulated)";

const COLLATIONS: &str = "SELECT datname, datcollversion, pg_catalog.pg_database_collation_actual_version(oid)
     FROM pg_catalog.pg_database
     WHERE datallowconn AND datcollversion <> pg_catalog.pg_database_collation_actual_version(oid) ORDER BY datname";

/// The first version that remembers the version of a database's collation.
const MAJOR_WITH_COLLATION_VERSIONS: u32 = 15;

const EVENT_TRIGGERS: &str = "SELECT pg_catalog.format('ALTER EVENT TRIGGER %I DISABLE', evtname)
     FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D'";

/// Who logs in, and a database that exists.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) database: String,
}

/// The table of a database, as it is asked for.
struct Table {
    oid: u32,
    name: String,
    size_bytes: u64,
}

/// What was counted so far.
#[derive(Default)]
struct Tally {
    databases: u64,
    tables: u64,
    rows: u64,
    failed: usize,
    unjudged: usize,
    /// The smallest of those told on top.
    largest: BinaryHeap<Reverse<(u64, String, String)>>,
}

impl Tally {
    fn add(&mut self, database: &str, table: String, rows: u64) {
        self.tables += 1;
        self.rows += rows;
        self.largest.push(Reverse((rows, database.to_owned(), table)));
        if self.largest.len() > limits::DRILL_TABLES_TOLD_MAX {
            self.largest.pop();
        }
    }
}

impl Drill<'_> {
    /// Counts all tables; answers with a login for the next check, unless there is none.
    pub(super) fn count(&mut self, server: &mut Server) -> Result<Option<Login>, Halt> {
        self.order.progress.set_phase("counting");
        let (done, total) = (0, 0);
        self.order.progress.set_done(done);
        self.order.progress.set_total(total);
        let mut tally = Tally::default();
        let login = self.count_all(server, &mut tally)?;
        self.found.report.databases = tally.databases;
        self.found.report.tables = tally.tables;
        self.found.report.rows = tally.rows;
        self.found.report.largest = tally
            .largest
            .into_sorted_vec()
            .into_iter()
            .map(|Reverse((rows, database, table))| TableCount { database, table, rows })
            .collect();
        let outcome = outcome_of(tally.failed, tally.unjudged);
        let detail = format!(
            "{} tables with {} rows in {} databases were read and counted",
            tally.tables, tally.rows, tally.databases
        );
        self.found.note_check("tables", outcome, detail);
        Ok(login)
    }

    fn count_all(&mut self, server: &mut Server, tally: &mut Tally) -> Result<Option<Login>, Halt> {
        let Some((login, mut connection)) = self.log_in(server, tally)? else { return Ok(None) };
        let asked = self.ask_about(&mut connection);
        drop(connection);
        let databases = match asked {
            Ok(databases) => databases,
            Err(fault) => {
                self.broke_off(server, tally, &login.database, &fault)?;
                return Ok(None);
            }
        };
        for row in databases {
            let Ok(database) = row.text(0) else {
                tally.unjudged += 1;
                self.found.unjudged.tell("A database whose name is not text was not looked into.".to_owned());
                continue;
            };
            if let Err(fault) = self.count_database(&login.user, database, tally) {
                self.broke_off(server, tally, database, &fault)?;
            }
        }
        Ok(Some(login))
    }

    /// The first login that works of those that may.
    fn log_in(
        &mut self,
        server: &mut Server,
        tally: &mut Tally,
    ) -> Result<Option<(Login, Connection)>, Halt> {
        let mut last = "its pages name no superuser that may log in".to_owned();
        for user in superuser::superusers(self.order.target) {
            for database in superuser::databases(self.order.target) {
                match self.connect(&user, &database) {
                    Ok(connection) => return Ok(Some((Login { user, database }, connection))),
                    Err(Fault::Server(error)) => last = error.quoted(),
                    Err(fault) => {
                        self.broke_off(server, tally, &database, &fault)?;
                        return Ok(None);
                    }
                }
            }
        }
        tally.unjudged += 1;
        self.found
            .unjudged
            .tell(format!("Nobody could log in to the restored server to look at it: {last}."));
        Ok(None)
    }

    fn connect(&self, user: &str, database: &str) -> Result<Connection, Fault> {
        let mut settings = SESSION.to_vec();
        if self.facts.major_version() >= MAJOR_WITH_EVENT_TRIGGER_SWITCH {
            settings.push(NO_EVENT_TRIGGERS);
        }
        let watch = self.watch()?;
        Connection::open_local(&self.room.socket(), user, database, &settings, &watch)
    }

    /// A long silence is a large table at work; the time of the drill bounds it.
    fn watch(&self) -> Result<Watch<'_>, Fault> {
        match self.found.remaining() {
            Ok(left) => Ok(Watch::new(self.order.cancel).with_silence(left).with_deadline(left)),
            Err(Halt::Stop(error)) => Err(error.into()),
            Err(Halt::OutOfTime) => Err(Fault::unreachable("The time of the drill is over.")),
        }
    }

    /// The server's version, its databases, and which of them sort by rules of another machine.
    fn ask_about(&mut self, connection: &mut Connection) -> Result<Vec<Row>, Fault> {
        let version = {
            let watch = self.watch()?;
            Version::parse(&connection.query_value("SHOW server_version_num", &watch)?)?
        };
        self.found.report.server_version = version.text();
        if version.major() >= MAJOR_WITH_COLLATION_VERSIONS {
            let rows = connection.query(COLLATIONS, &self.watch()?)?;
            for row in rows {
                let text = |field| for_people(row.bytes(field).ok().flatten().unwrap_or_default());
                self.found.report.notes.push(format!(
                    "Note: the database {} was made with collation version {}, this machine has {}. Indexes \
                     on text may be in another order here; rebuild them where a restore is to stay.",
                    text(0),
                    text(1),
                    text(2)
                ));
            }
        }
        connection.query(DATABASES, &self.watch()?)
    }

    fn count_database(&mut self, user: &str, database: &str, tally: &mut Tally) -> Result<(), Fault> {
        let mut connection = self.connect(user, database)?;
        tally.databases += 1;
        let mut after = 0;
        loop {
            let page = self.tables_after(&mut connection, after)?;
            let Some(last) = page.last() else { break };
            after = last.oid;
            for table in page {
                self.count_table(&mut connection, database, table, tally)?;
            }
        }
        if self.facts.major_version() < MAJOR_WITH_EVENT_TRIGGER_SWITCH {
            self.disable_event_triggers(&mut connection)?;
        }
        Ok(())
    }

    fn tables_after(&self, connection: &mut Connection, after: u32) -> Result<Vec<Table>, Fault> {
        let statement = format!(
            "{TABLES} AND c.oid > {}::pg_catalog.oid ORDER BY c.oid LIMIT {TABLES_PER_PAGE}",
            quote_literal(&after.to_string())
        );
        let rows = connection.query_patiently(&statement, &self.watch()?)?;
        rows.iter()
            .map(|row| {
                // A table that vanished has no size.
                let size_bytes = row.bytes(2)?.map_or(Ok(0), |_| row.parse(2))?;
                Ok(Table { oid: row.parse(0)?, name: row.text(1)?.to_owned(), size_bytes })
            })
            .collect()
    }

    fn count_table(
        &mut self,
        connection: &mut Connection,
        database: &str,
        table: Table,
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        let statement = format!("SELECT pg_catalog.count(*) FROM ONLY {}", table.name);
        let counted = {
            let watch = self.watch()?;
            connection.query_patiently(&statement, &watch)
        };
        match counted {
            Ok(rows) => {
                let [row] = rows.as_slice() else { return Err(Fault::hostile("a count of no row")) };
                tally.add(database, table.name, row.parse(0)?);
            }
            Err(Fault::Server(error)) if !error.is_fatal() => {
                let (database, table) = (for_people(database.as_bytes()), for_people(table.name.as_bytes()));
                let sentence =
                    format!("Table {table} of database {database} cannot be read: {}.", error.quoted());
                if is_of_this_machine(&error.message) {
                    tally.unjudged += 1;
                    self.found.unjudged.tell(sentence);
                } else {
                    tally.failed += 1;
                    self.found.failures.tell(sentence);
                }
            }
            Err(fault) => return Err(fault),
        }
        self.order.progress.add_done(table.size_bytes);
        Ok(())
    }

    /// The next check makes an extension, and what waits for that to happen must not.
    fn disable_event_triggers(&self, connection: &mut Connection) -> Result<(), Fault> {
        for row in connection.query(EVENT_TRIGGERS, &self.watch()?)? {
            let disable = format!("BEGIN READ WRITE; {}; COMMIT", row.text(0)?);
            connection.query(&disable, &self.watch()?)?;
        }
        Ok(())
    }

    /// A session that ended by itself: asked to, out of time, or a finding.
    fn broke_off(
        &mut self,
        server: &mut Server,
        tally: &mut Tally,
        database: &str,
        fault: &Fault,
    ) -> Result<(), Halt> {
        self.found.remaining()?;
        let how = match fault {
            Fault::Server(error) => error.quoted(),
            // Its own words tell more than ours, when it has any.
            Fault::Domain(_) | Fault::Abandoned => server.process.last_words(for_people),
        };
        let database = for_people(database.as_bytes());
        let sentence = format!("Database {database} could not be read to its end: {how}.");
        if is_of_this_machine(&how) {
            tally.unjudged += 1;
            self.found.unjudged.tell(sentence);
        } else {
            tally.failed += 1;
            self.found.failures.tell(sentence);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use strongroom_core::verification::Outcome;

    use super::*;

    #[test]
    fn only_the_largest_tables_are_told() {
        let mut tally = Tally::default();
        for number in 0..limits::DRILL_TABLES_TOLD_MAX as u64 + 5 {
            tally.add("d", format!("t{number}"), number);
        }
        assert_eq!(tally.largest.len(), limits::DRILL_TABLES_TOLD_MAX);
        let sorted = tally.largest.into_sorted_vec();
        assert_eq!(sorted[0].0.0, limits::DRILL_TABLES_TOLD_MAX as u64 + 4, "the largest first");
        assert_eq!(outcome_of(0, 0), Outcome::Passed);
        assert_eq!((outcome_of(0, 1), outcome_of(1, 1)), (Outcome::NotRun, Outcome::Failed));
    }
}
