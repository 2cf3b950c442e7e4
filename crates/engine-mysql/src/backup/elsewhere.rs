//! Tables of other engines than InnoDB. A clone has their definitions and none of their rows, and does
//! not say so: they are looked for before it begins.

use strongroom_core::engine::BackupOrder;

use crate::connection::{Connection, Watch};
use crate::dump;
use crate::facts::EmptyTable;
use crate::fault::{Fault, Result, code};
use crate::server;

/// Tables that are listed by name, and those of them whose rows are counted one by one.
const LISTED_MAX: usize = 1_000;
const COUNTED_MAX: usize = 100;
/// The longest that the server may count the rows of one table.
const COUNT_TIMEOUT_MS: u32 = 5_000;
/// The longest that it may take to say whether we may read one.
const LOOK_TIMEOUT_MS: u32 = 1_000;

/// Engines whose tables lose nothing: no rows of their own, or none that outlive a restart.
const KEPT: &str = "'InnoDB', 'MEMORY', 'BLACKHOLE', 'FEDERATED', 'MRG_MYISAM', 'PERFORMANCE_SCHEMA'";
const OF_SERVER: &str = "'mysql', 'information_schema', 'performance_schema', 'sys'";

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// The account sees all tables; otherwise there may be more.
    pub(crate) is_complete: bool,
    pub(crate) tables: Vec<EmptyTable>,
    pub(crate) unlisted: u64,
}

/// Looks for them, in time that does not grow with the database.
pub(crate) fn look(connection: &mut Connection, watch: &Watch<'_>) -> Result<Elsewhere> {
    let is_complete = server::sees_tables(connection, watch)?;
    // Counts as the engine has them now, not as somebody once asked for them.
    connection.query(
        &format!("SET SESSION information_schema_stats_expiry = 0, max_execution_time = {COUNT_TIMEOUT_MS}"),
        watch,
    )?;
    let matching = format!(
        "FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE IS NOT NULL \
         AND ENGINE NOT IN ({KEPT}) AND TABLE_SCHEMA NOT IN ({OF_SERVER})"
    );
    let rows = match connection.query(
        &format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_ROWS {matching} ORDER BY 1, 2 LIMIT {LISTED_MAX}"
        ),
        watch,
    ) {
        Ok(rows) => rows,
        Err(Fault::Server(error)) if error.code == code::STATEMENT_TIMEOUT => {
            return Ok(Elsewhere { is_complete: false, ..Elsewhere::default() });
        }
        Err(fault) => return Err(fault),
    };
    let mut tables = Vec::new();
    for row in rows {
        let (schema, table) = (row.text(0)?.to_owned(), row.text(1)?.to_owned());
        let engine = row.text(2)?.to_owned();
        // These know exactly how many they have.
        let rows = if matches!(engine.as_str(), "MyISAM" | "ARCHIVE") { row.number(3)? } else { None };
        tables.push(EmptyTable::new(schema, table, engine, rows));
    }
    let unlisted = if tables.len() == LISTED_MAX {
        let all = connection.query_value(&format!("SELECT COUNT(*) {matching}"), watch)?;
        all.parse::<u64>().unwrap_or(0).saturating_sub(LISTED_MAX as u64)
    } else {
        0
    };
    for table in tables.iter_mut().filter(|table| table.rows.is_none()).take(COUNTED_MAX) {
        table.rows = count(connection, table, watch)?;
    }
    connection.query("SET SESSION max_execution_time = 0", watch)?;
    Ok(Elsewhere { is_complete, tables, unlisted })
}

/// Which of them the account may not read, of the first that are counted: their rows would not be dumped.
pub(crate) fn closed<'t>(
    connection: &mut Connection,
    tables: &'t [EmptyTable],
    watch: &Watch<'_>,
) -> Result<Vec<&'t EmptyTable>> {
    // The rights come before the locks; a table that somebody holds is none that may not be read.
    connection.query(&format!("SET SESSION max_execution_time = {LOOK_TIMEOUT_MS}"), watch)?;
    let mut closed = Vec::new();
    for table in tables.iter().take(COUNTED_MAX) {
        let statement = format!("SELECT 1 FROM {} LIMIT 0", table.quoted());
        match connection.query(&statement, watch) {
            Err(Fault::Server(error)) if error.is_denied() => closed.push(table),
            // What else may be wrong with a table is told when it is read.
            Ok(_) | Err(Fault::Server(_)) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(closed)
}

/// `None` when the account may not read the table, or it takes too long.
fn count(connection: &mut Connection, table: &EmptyTable, watch: &Watch<'_>) -> Result<Option<u64>> {
    let statement = format!("SELECT COUNT(*) FROM {}", table.quoted());
    match connection.query(&statement, watch) {
        Ok(rows) => rows.first().map_or(Ok(None), |row| row.number(0)),
        Err(Fault::Server(_)) => Ok(None),
        Err(fault) => Err(fault),
    }
}

impl Elsewhere {
    /// What a person has to know about a backup of this server, in whole sentences.
    pub(crate) fn warnings(&self, order: &BackupOrder<'_>) -> Vec<String> {
        let mut warnings = dump::sentences(&self.tables, self.unlisted);
        if !self.is_complete {
            warnings.push(format!(
                "Whether there are tables of other engines than InnoDB, whose rows no clone holds, is not known: \
                 the account {} sees no names of tables. The check of the instance names the statement that mends it.",
                order.source.user
            ));
        }
        warnings
    }
}
