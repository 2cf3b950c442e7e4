//! Every table checked by the server, with all its indexes, and counted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use strongroom_core::engine::TableCount;
use strongroom_core::foreign_text::for_people;
use strongroom_core::limits;
use strongroom_core::verification::Outcome;
use strongroom_host::outcome_of;

use super::server::Server;
use super::{Drill, Halt, is_of_this_machine};
use crate::connection::Connection;
use crate::fault::Fault;
use crate::remedy::quote_name;

/// The names of the checks in reports.
const CHECK: &str = "check_table";
const COUNT: &str = "tables";

/// Tables asked for at once.
const TABLES_PER_PAGE: usize = 1000;

/// Schemas that are views of the server and hold nothing.
const VIRTUAL: &str = "'information_schema','performance_schema'";
/// The server's own schemas: checked, and not counted among those of people.
const OWN_SCHEMAS: [&str; 2] = ["mysql", "sys"];
const OWN: &str = "'mysql','sys'";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Table {
    schema: String,
    name: String,
}

impl Table {
    fn quoted(&self) -> String {
        format!("{}.{}", quote_name(&self.schema), quote_name(&self.name))
    }
}

/// What was looked at so far.
#[derive(Default)]
struct Tally {
    databases: u64,
    last_schema: String,
    checked: u64,
    tables: u64,
    rows: u64,
    failed: usize,
    unjudged: usize,
    count_failed: usize,
    /// The smallest of those told on top.
    largest: BinaryHeap<Reverse<(u64, String, String)>>,
}

impl Tally {
    fn add(&mut self, table: &Table, rows: u64) {
        if self.last_schema != table.schema {
            self.last_schema.clone_from(&table.schema);
            self.databases += 1;
        }
        self.tables += 1;
        self.rows += rows;
        self.largest.push(Reverse((rows, table.schema.clone(), quote_name(&table.name))));
        if self.largest.len() > limits::DRILL_TABLES_TOLD_MAX {
            self.largest.pop();
        }
    }
}

impl Drill<'_> {
    /// Checks and counts all tables.
    pub(super) fn check_tables(&mut self, server: &mut Server, connection: Connection) -> Result<(), Halt> {
        self.order.progress.set_phase("checking-tables");
        self.order.progress.set_done(0);
        self.order.progress.set_total(0);
        let mut tally = Tally::default();
        self.check_all(server, connection, &mut tally)?;
        self.found.report.databases = tally.databases;
        self.found.report.tables = tally.tables;
        self.found.report.rows = tally.rows;
        let detail = format!("{} tables were checked with all their indexes", tally.checked);
        self.found.note_check(CHECK, outcome_of(tally.failed, tally.unjudged), detail);
        let detail = format!(
            "{} tables with {} rows in {} databases were read and counted",
            tally.tables, tally.rows, tally.databases
        );
        let is_broken = tally.count_failed > 0 || tally.unjudged > 0 && tally.tables == 0;
        let outcome =
            if is_broken { outcome_of(tally.count_failed, tally.unjudged) } else { Outcome::Passed };
        self.found.note_check(COUNT, outcome, detail);
        self.found.report.largest = tally
            .largest
            .into_sorted_vec()
            .into_iter()
            .map(|Reverse((rows, database, table))| TableCount { database, table, rows })
            .collect();
        Ok(())
    }

    fn check_all(
        &mut self,
        server: &mut Server,
        mut connection: Connection,
        tally: &mut Tally,
    ) -> Result<(), Halt> {
        let mut after: Option<Table> = None;
        loop {
            let page = match self.tables_after(&mut connection, after.as_ref()) {
                Ok(page) => page,
                Err(fault) => {
                    tally.unjudged += 1;
                    return self.broke_off(server, "its tables were listed", &fault);
                }
            };
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for table in &page {
                if let Err(fault) = self.check_table(&mut connection, table, tally) {
                    // A server that ends over a table is the strongest finding there is.
                    tally.failed += 1;
                    let when = format!("the table {} was checked", for_people(table.quoted().as_bytes()));
                    self.broke_off(server, &when, &fault)?;
                    match self.connect() {
                        Ok(another) if !server.process.ends_within(std::time::Duration::ZERO) => {
                            connection = another;
                        }
                        _ => return Ok(()),
                    }
                }
            }
        }
    }

    /// The next tables that a clone carries. Those of other engines are told by name, and are empty or, of
    /// ARCHIVE, have lost their file: there is nothing in them to judge.
    fn tables_after(&self, connection: &mut Connection, after: Option<&Table>) -> Result<Vec<Table>, Fault> {
        let beyond = after.map_or_else(String::new, |table| {
            format!(
                " AND (TABLE_SCHEMA, TABLE_NAME) > ({}, {})",
                quote_text(&table.schema),
                quote_text(&table.name)
            )
        });
        // Bytes compare alike wherever the copy comes from, so that no table is left out between two pages.
        let statement = format!(
            "SELECT s, n FROM (SELECT CAST(TABLE_SCHEMA AS BINARY) AS TABLE_SCHEMA, CAST(TABLE_NAME AS BINARY) AS \
             TABLE_NAME, CONVERT(TABLE_SCHEMA USING utf8mb4) AS s, CONVERT(TABLE_NAME USING utf8mb4) AS n \
             FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN ({VIRTUAL}) \
             AND (ENGINE IS NULL OR ENGINE = 'InnoDB' OR TABLE_SCHEMA IN ({OWN}))) \
             AS t WHERE TRUE{beyond} ORDER BY TABLE_SCHEMA, TABLE_NAME LIMIT {TABLES_PER_PAGE}"
        );
        let rows = connection.query_patiently(&statement, &self.watch()?)?;
        rows.iter()
            .map(|row| Ok(Table { schema: row.text(0)?.to_owned(), name: row.text(1)?.to_owned() }))
            .collect()
    }

    /// Asks the server for its judgement of a table and for its rows. What it says is told; an error
    /// means that it does not answer any more.
    fn check_table(
        &mut self,
        connection: &mut Connection,
        table: &Table,
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        let name = table.quoted();
        let rows = {
            let watch = self.watch()?;
            connection.query_patiently(&format!("CHECK TABLE {name}"), &watch)
        };
        tally.checked += 1;
        match rows {
            Ok(rows) => {
                for row in rows {
                    self.judge(&name, row.text(2)?, row.text(3)?, tally);
                }
            }
            Err(Fault::Server(error)) => {
                tally.failed += 1;
                self.found.failures.tell(format!(
                    "The table {} cannot be checked: {}",
                    for_people(name.as_bytes()),
                    error.quoted()
                ));
            }
            Err(other) => return Err(other),
        }
        self.count(connection, table, tally)
    }

    /// One line of an answer to CHECK TABLE.
    fn judge(&mut self, name: &str, kind: &str, text: &str, tally: &mut Tally) {
        let is_fine = match kind {
            "status" => text == "OK" || text == "Table is already up to date",
            "note" | "info" => !text.contains("doesn't support"),
            _ => false,
        };
        if is_fine {
            return;
        }
        let sentence = format!("CHECK TABLE {name} says: {kind}: {text}");
        let sentence = for_people(sentence.as_bytes());
        if kind == "note" || is_of_this_machine(text) {
            tally.unjudged += 1;
            self.found.unjudged.tell(sentence);
        } else {
            tally.failed += 1;
            self.found.failures.tell(sentence);
        }
    }

    fn count(&mut self, connection: &mut Connection, table: &Table, tally: &mut Tally) -> Result<(), Fault> {
        if OWN_SCHEMAS.contains(&table.schema.as_str()) {
            return Ok(());
        }
        let statement = format!("SELECT COUNT(*) FROM {}", table.quoted());
        let rows = {
            let watch = self.watch()?;
            connection.query_patiently(&statement, &watch)
        };
        match rows {
            Ok(rows) => {
                let count =
                    rows.first().map(|row| row.text(0)).transpose()?.and_then(|text| text.parse().ok());
                let count = count.ok_or_else(|| Fault::hostile("a number of rows that is none"))?;
                tally.add(table, count);
                self.order.progress.set_done(tally.rows);
                Ok(())
            }
            Err(Fault::Server(error)) => {
                tally.count_failed += 1;
                self.found.failures.tell(format!(
                    "The table {} cannot be read: {}",
                    for_people(table.quoted().as_bytes()),
                    error.quoted()
                ));
                Ok(())
            }
            Err(other) => Err(other),
        }
    }
}

/// A text as statements take it, whatever the server's mode says of backslashes.
fn quote_text(text: &str) -> String {
    format!("0x{}", hex::encode(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h08_names_stay_names() {
        let table = Table { schema: "a`b".to_owned(), name: "`; DROP TABLE x; -- ".to_owned() };
        assert_eq!(table.quoted(), "`a``b`.```; DROP TABLE x; -- `");
        assert_eq!(quote_text("a'\\"), "0x61275c");
    }
}
