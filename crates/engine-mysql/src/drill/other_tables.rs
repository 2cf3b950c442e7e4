//! The rows that came beside the copy, loaded into it as a person would, and counted.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use strongroom_core::verification::Outcome;
use strongroom_host::{io_failed, outcome_of};

use super::server::Server;
use super::{Drill, Halt, is_of_this_machine};
use crate::connection::Connection;
use crate::dump;
use crate::facts::EmptyTable;
use crate::fault::Fault;
use crate::remedy::{quote, quote_name};

/// The name of the check in reports.
const CHECK: &str = "other_tables";
/// The longest line; no statement of ours is as long, and no server takes a longer one unasked.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Why the rows did not come to their place.
enum Stopped {
    /// What is wrong with the file, or with what came of it.
    Wrong(String),
    /// The conversation ended.
    Broke(Fault),
    Halt(Halt),
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Broke(fault)
    }
}

impl From<Halt> for Stopped {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

impl Drill<'_> {
    /// Nothing is said of backups that have no such file.
    pub(super) fn load_other_tables(&mut self, server: &mut Server) -> Result<(), Halt> {
        let facts = self.facts;
        let dumped: Vec<&EmptyTable> =
            facts.tables_left_empty.iter().filter(|table| table.dump.is_some()).collect();
        if dumped.is_empty() {
            return Ok(());
        }
        if server.process.ends_within(Duration::ZERO) {
            self.found.note_check(CHECK, Outcome::NotRun, "the server has ended");
            return Ok(());
        }
        self.order.progress.set_phase("loading-other-tables");
        let (outcome, detail) = match self.load_and_count(&dumped) {
            Ok(rows) => (
                Outcome::Passed,
                format!(
                    "{} tables with {rows} rows were loaded from {} and counted",
                    dumped.len(),
                    dump::NAME
                ),
            ),
            Err(Stopped::Halt(halt)) => return Err(halt),
            Err(Stopped::Wrong(sentence)) => {
                let is_ours = is_of_this_machine(&sentence);
                let told = if is_ours { &mut self.found.unjudged } else { &mut self.found.failures };
                told.tell(sentence);
                let outcome = outcome_of(usize::from(!is_ours), usize::from(is_ours));
                (outcome, format!("{} was not loaded whole", dump::NAME))
            }
            Err(Stopped::Broke(fault)) => {
                self.broke_off(server, "rows of other engines were loaded", &fault)?;
                let has_ended = server.process.ends_within(Duration::ZERO);
                let outcome = outcome_of(usize::from(has_ended), usize::from(!has_ended));
                (outcome, format!("{} was not loaded whole", dump::NAME))
            }
        };
        self.found.note_check(CHECK, outcome, detail);
        Ok(())
    }

    fn load_and_count(&mut self, dumped: &[&EmptyTable]) -> Result<u64, Stopped> {
        let mut connection = self.connect()?;
        let mode = format!("SET SESSION sql_mode = '{}'", dump::MODE);
        connection.query(&mode, &self.watch()?).map_err(|fault| refused("The copy takes no mode", fault))?;
        for table in dumped {
            self.drop_triggers(&mut connection, table)?;
        }
        self.load(&mut connection)?;
        let mut rows = 0;
        for table in dumped {
            let wanted = table.dump.as_ref().map_or(0, |dump| dump.rows);
            let found = self.count_loaded(&mut connection, table)?;
            if found != wanted {
                return Err(Stopped::Wrong(format!(
                    "The table {} has {found} rows after {} was loaded, and {wanted} were read at the source.",
                    table.shown(),
                    dump::NAME
                )));
            }
            rows += found;
        }
        Ok(rows)
    }

    /// As the file asks for it: what a trigger does with a row was done when the row was written.
    fn drop_triggers(&mut self, connection: &mut Connection, table: &EmptyTable) -> Result<(), Stopped> {
        let statement = format!(
            "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_MANIPULATION = 'INSERT' \
             AND EVENT_OBJECT_SCHEMA = {} AND EVENT_OBJECT_TABLE = {}",
            quote(&table.schema),
            quote(&table.table)
        );
        let in_the_way = || format!("Triggers of the table {} are in the way", table.shown());
        let rows = connection.query_patiently(&statement, &self.watch()?);
        let rows = rows.map_err(|fault| refused(&in_the_way(), fault))?;
        for row in &rows {
            let statement =
                format!("DROP TRIGGER {}.{}", quote_name(&table.schema), quote_name(row.text(0)?));
            let dropped = connection.query_patiently(&statement, &self.watch()?);
            dropped.map_err(|fault| refused(&in_the_way(), fault))?;
        }
        if !rows.is_empty() {
            self.found.report.notes.push(format!(
                "Warning: {} has triggers on INSERT. Whoever loads {} drops them first and makes them again afterwards.",
                table.shown(),
                dump::NAME
            ));
        }
        Ok(())
    }

    /// Every statement is one line.
    fn load(&mut self, connection: &mut Connection) -> Result<(), Stopped> {
        let path = self.order.target.join(dump::NAME);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Stopped::Wrong(format!("The file {} is missing in the copy.", dump::NAME)));
            }
            Err(error) => return Err(Halt::from(io_failed(&path, &error)).into()),
        };
        let (mut lines, mut line, mut number) = (BufReader::new(file), Vec::new(), 0_u64);
        loop {
            line.clear();
            number += 1;
            let count = (&mut lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if count.map_err(|error| Halt::from(io_failed(&path, &error)))? == 0 {
                return Ok(());
            }
            if line == b"\n" || line.starts_with(b"-- ") {
                continue;
            }
            let statement = line.strip_suffix(b";\n").and_then(|line| std::str::from_utf8(line).ok());
            let Some(statement) = statement else {
                return Err(Stopped::Wrong(format!("Line {number} of {} is no statement.", dump::NAME)));
            };
            let loaded = connection.query_patiently(statement, &self.watch()?);
            let at = || format!("The file {} does not load at line {number}", dump::NAME);
            loaded.map_err(|fault| refused(&at(), fault))?;
        }
    }

    fn count_loaded(&mut self, connection: &mut Connection, table: &EmptyTable) -> Result<u64, Stopped> {
        let statement = format!("SELECT COUNT(*) FROM {}", table.quoted());
        let unread = || format!("The table {} cannot be read after {} was loaded", table.shown(), dump::NAME);
        let rows = connection.query_patiently(&statement, &self.watch()?);
        let rows = rows.map_err(|fault| refused(&unread(), fault))?;
        let count = rows.first().map(|row| row.number(0)).transpose()?.flatten();
        count.ok_or_else(|| Fault::hostile("a number of rows that is none").into())
    }
}

fn refused(what: &str, fault: Fault) -> Stopped {
    match fault {
        Fault::Server(error) => Stopped::Wrong(format!("{what}: {}", error.quoted())),
        fault => Stopped::Broke(fault),
    }
}
