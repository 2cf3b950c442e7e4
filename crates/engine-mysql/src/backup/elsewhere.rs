//! Tables of other engines than InnoDB. A clone has their definitions and none of their rows, and does
//! not say so: they are looked for before it begins.

use strongroom_core::engine::BackupOrder;
use strongroom_core::foreign_text::for_people;

use crate::connection::{Connection, Watch};
use crate::facts::EmptyTable;
use crate::fault::{Fault, Result, code};
use crate::remedy::quote_name;
use crate::server;

/// Tables that are listed by name, and those of them whose rows are counted one by one.
const LISTED_MAX: usize = 1_000;
const COUNTED_MAX: usize = 100;
/// Tables that a sentence names.
const NAMED_MAX: usize = 20;
/// The longest that the server may count the rows of one table.
const COUNT_TIMEOUT_MS: u32 = 5_000;

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
        tables.push(EmptyTable { schema, table, engine, rows });
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

/// `None` when the account may not read the table, or it takes too long.
fn count(connection: &mut Connection, table: &EmptyTable, watch: &Watch<'_>) -> Result<Option<u64>> {
    let statement =
        format!("SELECT COUNT(*) FROM {}.{}", quote_name(&table.schema), quote_name(&table.table));
    match connection.query(&statement, watch) {
        Ok(rows) => rows.first().map_or(Ok(None), |row| row.number(0)),
        Err(Fault::Server(_)) => Ok(None),
        Err(fault) => Err(fault),
    }
}

impl Elsewhere {
    /// What a person has to know about a backup of this server, in whole sentences.
    pub(crate) fn warnings(&self, order: &BackupOrder<'_>) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.tables.is_empty() {
            warnings.push(format!(
                "The rows of {} are not in this backup, and a restore brings these tables back empty: {}. \
                 A clone holds InnoDB tables only; dump these by other means, or turn them into InnoDB tables.",
                self.count_in_words(),
                self.named()
            ));
        }
        if !self.is_complete {
            warnings.push(format!(
                "Whether there are tables of other engines than InnoDB, whose rows no clone holds, is not known: \
                 the account {} sees no names of tables. The check of the instance names the statement that mends it.",
                order.source.user
            ));
        }
        warnings
    }

    pub(crate) fn count_in_words(&self) -> String {
        match self.tables.len() as u64 + self.unlisted {
            1 => "1 table of another engine than InnoDB".to_owned(),
            count => format!("{count} tables of other engines than InnoDB"),
        }
    }

    /// The first of them, with what they hold.
    pub(crate) fn named(&self) -> String {
        let mut named: Vec<String> = self.tables.iter().take(NAMED_MAX).map(describe).collect();
        let more = self.tables.len().saturating_sub(NAMED_MAX) as u64 + self.unlisted;
        if more > 0 {
            named.push(format!("and {more} more"));
        }
        named.join(", ")
    }
}

fn describe(table: &EmptyTable) -> String {
    let rows = match table.rows {
        Some(1) => "1 row".to_owned(),
        Some(count) => format!("{count} rows"),
        None => "rows not counted".to_owned(),
    };
    let name = for_people(format!("{}.{}", table.schema, table.table).as_bytes());
    format!("{name} ({}, {rows})", table.engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tables_are_a_short_sentence() {
        let table = |number: usize| EmptyTable {
            schema: "s".to_owned(),
            table: format!("t{number}"),
            engine: "MyISAM".to_owned(),
            rows: (number > 0).then_some(number as u64),
        };
        let few = Elsewhere { is_complete: true, tables: vec![table(0), table(1), table(2)], unlisted: 0 };
        assert_eq!(
            few.named(),
            "s.t0 (MyISAM, rows not counted), s.t1 (MyISAM, 1 row), s.t2 (MyISAM, 2 rows)"
        );
        let many = Elsewhere { is_complete: true, tables: (0..1000).map(table).collect(), unlisted: 7 };
        assert_eq!(many.count_in_words(), "1007 tables of other engines than InnoDB");
        assert!(many.named().ends_with("s.t19 (MyISAM, 19 rows), and 987 more"));
    }
}
