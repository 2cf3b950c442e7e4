//! Rows of tables that no clone carries, in one file of statements beside the copy.
//!
//! Read when the clone is complete, table by table: each is what it was at its own moment, which is told.
//! What cannot be read whole is not there at all, and is told with the reason. Must never put a text of the
//! server into the file that could be obeyed.

mod column;
mod definition;
mod file;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
#[cfg(any(test, feature = "fuzzing"))]
mod kept;
#[cfg(any(test, feature = "fuzzing"))]
mod reader;
mod table;
mod told;

use std::time::{Duration, Instant};

use strongroom_core::engine::BackupSink;
use strongroom_core::{Error, limits};

use self::file::DumpFile;
pub(crate) use self::told::{count_in_words, named, sentences};
use crate::clone::Donor;
use crate::connection::{Connection, Watch};
use crate::facts::{EmptyTable, TableDump};
use crate::fault::{Fault, Result, ServerError, code};

/// The file, at the top of the data directory.
pub(crate) const NAME: &str = "strongroom-other-tables.sql";
/// Reads it as it is meant: no line of it is for the program itself, and its text is UTF-8.
pub(crate) const COMMAND: &str = "mysql --binary-mode --default-character-set=utf8mb4";

/// Under which every value can be read: a CSV table with a date that is none counts as crashed otherwise.
pub(crate) const MODE: &str = "ALLOW_INVALID_DATES";

/// Engines whose tables were seen to come back.
const DUMPED: [&str; 3] = ["MyISAM", "CSV", "ARCHIVE"];
/// Connections that break, of all tables together, before no more is made.
const BROKEN_MAX: u32 = 4;
/// Tries for one table whose connection breaks.
const TRIES_MAX: u32 = 2;
/// Between the server's end of a table that takes too long and ours.
const MARGIN: Duration = Duration::from_secs(5);

/// How much is read, and how long.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    time: Duration,
    row_bytes: usize,
    file_bytes: u64,
}

impl Bounds {
    const USUAL: Self = Self {
        time: Duration::from_millis(limits::OTHER_TABLE_TIMEOUT_MS),
        row_bytes: limits::OTHER_TABLE_ROW_BYTES_MAX,
        file_bytes: limits::OTHER_TABLES_BYTES_MAX,
    };
}

/// Why a table is not in the file.
enum Lack {
    /// In words, as a clause.
    Told(String),
    /// The connection broke; another one may do.
    Lost(Error),
    /// Nothing of this backup can be believed, or nobody wants it any more.
    Fatal(Fault),
}

impl From<Fault> for Lack {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Server(error) => Self::Told(refused(&error)),
            Fault::Lost(error) => Self::Lost(error),
            Fault::Domain(_) | Fault::Foreign(_) => Self::Fatal(fault),
        }
    }
}

impl From<Error> for Lack {
    fn from(error: Error) -> Self {
        Self::Fatal(Fault::Domain(error))
    }
}

fn refused(error: &ServerError) -> String {
    match error.code {
        _ if error.is_denied() => "the account may not read it".to_owned(),
        code::NO_SUCH_TABLE => gone(),
        code::STATEMENT_TIMEOUT | code::LOCK_WAIT_TIMEOUT => took_too_long(),
        _ => format!("the server said {}", error.quoted()),
    }
}

fn gone() -> String {
    "it was not there any more".to_owned()
}

fn took_too_long() -> String {
    let seconds = limits::OTHER_TABLE_TIMEOUT_MS / 1000;
    format!("it could not be read within {seconds} s, and who writes to it waits meanwhile")
}

/// Reads the rows of these tables, and notes at each what became of it.
pub(crate) fn run(
    donor: &Donor<'_>,
    sink: &dyn BackupSink,
    began_s: i64,
    tables: &mut [EmptyTable],
    watch: &Watch<'_>,
) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let reach = || donor.reach(watch);
    let bounds = Bounds::USUAL;
    let file = DumpFile::new(sink, began_s, bounds.file_bytes)?;
    Dump { reach: &reach, watch, bounds, file, session: None, broken: 0 }.take_all(tables)
}

struct Dump<'d, 's> {
    reach: &'d dyn Fn() -> Result<Connection>,
    watch: &'d Watch<'d>,
    bounds: Bounds,
    file: DumpFile<'s>,
    session: Option<Connection>,
    /// Connections that broke.
    broken: u32,
}

impl Dump<'_, '_> {
    fn take_all(mut self, tables: &mut [EmptyTable]) -> Result<()> {
        self.file.append(HEAD.as_bytes())?;
        for table in &mut *tables {
            match self.take(table)? {
                Ok(dump) => table.dump = Some(dump),
                Err(reason) => table.dump_lacks = Some(reason),
            }
        }
        if tables.iter().all(|table| table.dump.is_none()) {
            return self.file.discard();
        }
        self.file.append_end(FOOT.as_bytes());
        self.file.finish()
    }

    /// The table in the file, or the reason why it is not.
    fn take(&mut self, table: &EmptyTable) -> Result<Result<TableDump, String>> {
        if !DUMPED.contains(&table.engine.as_str()) {
            return Ok(Err(format!("only tables of {} are read", DUMPED.join(", "))));
        }
        if [&table.schema, &table.table].iter().any(|name| is_broken_up(name)) {
            return Ok(Err("its name holds a line end".to_owned()));
        }
        let begin = self.file.length();
        for left in (0..TRIES_MAX).rev() {
            if self.broken >= BROKEN_MAX {
                break;
            }
            let until = Instant::now() + self.bounds.time;
            let lack = match self.read(table) {
                Ok(dump) => return Ok(Ok(dump)),
                Err(lack) => lack,
            };
            self.file.rewind(begin)?;
            match lack {
                Lack::Told(reason) => return Ok(Err(reason)),
                Lack::Fatal(fault) => return Err(fault),
                Lack::Lost(error) => {
                    self.session = None;
                    self.watch.check()?;
                    if Instant::now() >= until {
                        return Ok(Err(took_too_long()));
                    }
                    self.broken += 1;
                    tracing::info!(
                        "the connection broke while {} was read, {left} more tries: {}",
                        table.shown(),
                        error.chain()
                    );
                }
            }
        }
        Ok(Err("the connection to the source broke again and again".to_owned()))
    }
}

/// Each statement of the file is one line.
fn is_broken_up(name: &str) -> bool {
    name.contains(char::is_control)
}

/// What loading needs of a session. Every statement is one line.
const HEAD: &str = "\
-- Rows of tables of other engines than InnoDB, read by strongroom beside a backup.
-- Load this once, after the first start of the restored server:
--   mysql --binary-mode --default-character-set=utf8mb4 < strongroom-other-tables.sql
SET @strongroom_sql_mode = @@SESSION.sql_mode, @strongroom_time_zone = @@SESSION.time_zone, @strongroom_keys = @@SESSION.foreign_key_checks;
SET @strongroom_client = @@SESSION.character_set_client, @strongroom_results = @@SESSION.character_set_results, @strongroom_connection = @@SESSION.collation_connection;
SET @strongroom_expiry = @@SESSION.information_schema_stats_expiry;
SET NAMES utf8mb4;
SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone = '+00:00', foreign_key_checks = 0, information_schema_stats_expiry = 0;
";

const FOOT: &str = "\
SET SESSION sql_mode = @strongroom_sql_mode, time_zone = @strongroom_time_zone, foreign_key_checks = @strongroom_keys;
SET SESSION character_set_client = @strongroom_client, character_set_results = @strongroom_results, collation_connection = @strongroom_connection;
SET SESSION information_schema_stats_expiry = @strongroom_expiry;
-- This is the end of it.
";

#[cfg(test)]
#[path = "dump_tests.rs"]
mod tests;
