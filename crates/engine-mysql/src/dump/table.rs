//! One table: what it looks like, its rows, and the statements that bring them back.

use std::fmt::Write as _;
use std::time::Instant;

use strongroom_core::foreign_text::for_people;
use strongroom_core::limits;

use super::column::{Column, DESCRIBED, write_literal};
use super::{Dump, Lack, MARGIN, MODE, definition, gone, is_broken_up, took_too_long};
use crate::connection::{Connection, Next, Watch};
use crate::facts::{EmptyTable, TableDump};
use crate::fault::{Fault, Result};
use crate::remedy::{quote, quote_name};

/// A statement that is as long takes no more rows. With one row more it is still shorter than what
/// servers and clients take as they come, 16 MiB.
const STATEMENT_BYTES: usize = 1 << 20;
const OF_ARCHIVE: &str = "ARCHIVE";
const OF_MYISAM: &str = "MyISAM";

/// What a table is. Equal before and after its rows were read.
#[derive(Debug, PartialEq, Eq)]
struct Description {
    engine: String,
    /// Of a table that cannot be opened nobody knows it.
    created: Option<Vec<u8>>,
    columns: Vec<Column>,
}

impl Dump<'_, '_> {
    /// Reads a table into the file. What is in the file of one that fails is taken back by the caller.
    pub(super) fn read(&mut self, table: &EmptyTable) -> Result<TableDump, Lack> {
        let watch = self.watch.with_deadline(self.bounds.time + MARGIN);
        let mut connection = match self.session.take() {
            Some(connection) => connection,
            None => self.open(&watch)?,
        };
        let outcome = self.read_over(&mut connection, table, &watch);
        // A session is asked again only when its last question was answered to the end.
        let is_whole = match &outcome {
            Ok(_) => true,
            Err((_, is_whole)) => *is_whole,
        };
        if is_whole {
            self.session = Some(connection);
        } else {
            connection.close();
        }
        outcome.map_err(|(lack, _)| lack)
    }

    /// A session that shows every value as it is stored.
    fn open(&self, watch: &Watch<'_>) -> Result<Connection> {
        let mut connection = (self.reach)()?;
        let limit = self.bounds.time.as_millis();
        let seconds = self.bounds.time.as_secs().max(1);
        for statement in [
            "SET NAMES utf8mb4".to_owned(),
            format!(
                "SET SESSION character_set_results = NULL, time_zone = '+00:00', sql_mode = '{MODE}', \
                 sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_quote_show_create = 1, \
                 information_schema_stats_expiry = 0, lock_wait_timeout = {seconds}, max_execution_time = {limit}"
            ),
        ] {
            connection.query(&statement, watch)?;
        }
        Ok(connection)
    }

    /// With a failure comes whether the session can be asked again.
    fn read_over(
        &mut self,
        connection: &mut Connection,
        table: &EmptyTable,
        watch: &Watch<'_>,
    ) -> Result<TableDump, (Lack, bool)> {
        let told = |fault: Fault| {
            let is_whole = matches!(fault, Fault::Server(_));
            (Lack::from(fault), is_whole)
        };
        let lacks = |reason: String| (Lack::Told(reason), true);
        let description = describe(connection, table, watch).map_err(told)?.map_err(lacks)?;
        let head = head_of(connection, table, &description, watch).map_err(told)?.map_err(lacks)?;
        let began = now(connection, watch).map_err(told)?;
        let begin = self.file.length();
        let name = table.shown();
        self.append(format!("-- {name} ({}), read at {began}\n{head}", table.engine).as_bytes())
            .map_err(|lack| (lack, true))?;
        let rows = self.read_rows(connection, table, &description.columns, watch)?;
        let ended = now(connection, watch).map_err(told)?;
        let again = describe(connection, table, watch).map_err(told)?.map_err(lacks)?;
        if again != description {
            return Err(lacks("its definition changed while it was read".to_owned()));
        }
        Ok(TableDump { began, ended, rows, bytes: self.file.length() - begin })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Lack> {
        match self.file.append(bytes) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Lack::Told(format!(
                "the file with all of them would be larger than {} GiB",
                limits::OTHER_TABLES_BYTES_MAX >> 30
            ))),
            Err(fault) => Err(Lack::from(fault)),
        }
    }

    fn read_rows(
        &mut self,
        connection: &mut Connection,
        table: &EmptyTable,
        columns: &[Column],
        watch: &Watch<'_>,
    ) -> Result<u64, (Lack, bool)> {
        let selected: Vec<String> = columns.iter().map(Column::selected).collect();
        let statement = format!("SELECT {} FROM {}", selected.join(", "), table.quoted());
        let until = Instant::now() + self.bounds.time;
        let mut rows = connection.rows(&statement, self.bounds.row_bytes, watch).map_err(|fault| {
            let is_whole = matches!(fault, Fault::Server(_));
            (Lack::from(fault), is_whole)
        })?;
        let halfway = |lack: Lack| (lack, false);
        if rows.columns() != columns.len() {
            return Err(halfway(Lack::Fatal(Fault::hostile(
                "a table with other columns than were asked for",
            ))));
        }
        let (insert, mut pending) = (insert_of(table, columns), Vec::new());
        let mut count = 0;
        loop {
            let fields = match rows.next(watch) {
                Ok(Next::Row(fields)) => fields,
                Ok(Next::End) => break,
                Ok(Next::TooLarge) => {
                    let limit = limits::OTHER_TABLE_ROW_BYTES_MAX >> 20;
                    return Err(halfway(Lack::Told(format!("it has a row of more than {limit} MiB"))));
                }
                // The server ends what takes too long, and goes on.
                Err(fault @ Fault::Server(_)) => return Err((Lack::from(fault), true)),
                Err(fault) => return Err(halfway(Lack::from(fault))),
            };
            pending.extend_from_slice(if pending.is_empty() { insert.as_bytes() } else { &b", ("[..] });
            for (at, (column, field)) in columns.iter().zip(fields).enumerate() {
                if at > 0 {
                    pending.extend_from_slice(b", ");
                }
                write_literal(&column.kind, field, &mut pending)
                    .map_err(|fault| halfway(Lack::from(fault)))?;
            }
            pending.push(b')');
            count += 1;
            if pending.len() >= STATEMENT_BYTES {
                self.end_statement(&mut pending).map_err(halfway)?;
                if Instant::now() > until {
                    return Err(halfway(Lack::Told(took_too_long())));
                }
            }
        }
        self.end_statement(&mut pending).map_err(|lack| (lack, true))?;
        Ok(count)
    }

    fn end_statement(&mut self, pending: &mut Vec<u8>) -> Result<(), Lack> {
        if !pending.is_empty() {
            pending.extend_from_slice(b";\n");
            self.append(pending)?;
            pending.clear();
        }
        Ok(())
    }
}

fn insert_of(table: &EmptyTable, columns: &[Column]) -> String {
    let names: Vec<String> = columns.iter().map(|column| quote_name(&column.name)).collect();
    format!("INSERT INTO {} ({}) VALUES (", table.quoted(), names.join(", "))
}

/// Just this table, however the server compares names.
fn exactly(table: &EmptyTable, schema_column: &str, table_column: &str) -> String {
    let (schema, name) = (quote(&table.schema), quote(&table.table));
    format!(
        "{schema_column} = {schema} AND {table_column} = {name} \
         AND CAST({schema_column} AS BINARY) = CAST({schema} AS BINARY) \
         AND CAST({table_column} AS BINARY) = CAST({name} AS BINARY)"
    )
}

fn now(connection: &mut Connection, watch: &Watch<'_>) -> Result<String> {
    let text =
        connection.query_value("SELECT DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%fZ')", watch)?;
    let is_moment = text.len() == 27
        && text
            .bytes()
            .zip(b"0000-00-00T00:00:00.000000Z")
            .all(|(byte, shape)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == *shape });
    if is_moment { Ok(text) } else { Err(Fault::hostile("a time that is none")) }
}

fn describe(
    connection: &mut Connection,
    table: &EmptyTable,
    watch: &Watch<'_>,
) -> Result<Result<Description, String>> {
    let statement = format!(
        "SELECT ENGINE, CREATE_TIME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND {}",
        exactly(table, "TABLE_SCHEMA", "TABLE_NAME")
    );
    let rows = connection.query(&statement, watch)?;
    let Some(row) = rows.first() else { return Ok(Err(gone())) };
    let engine = String::from_utf8_lossy(row.bytes(0)?.unwrap_or_default()).into_owned();
    if engine != table.engine {
        return Ok(Err("its engine changed meanwhile".to_owned()));
    }
    let created = row.bytes(1)?.map(<[u8]>::to_vec);
    let statement = format!(
        "SELECT {DESCRIBED} FROM information_schema.COLUMNS WHERE {} AND GENERATION_EXPRESSION = '' ORDER BY ORDINAL_POSITION",
        exactly(table, "TABLE_SCHEMA", "TABLE_NAME")
    );
    let mut columns = Vec::new();
    for row in connection.query(&statement, watch)? {
        match Column::of_row(&row)? {
            Ok(column) if is_broken_up(&column.name) => {
                return Ok(Err("the name of a column holds a line end".to_owned()));
            }
            Ok(column) => columns.push(column),
            Err(data_type) => {
                let shown = for_people(data_type.as_bytes());
                return Ok(Err(format!("it has a column of the type {shown}, which is not known here")));
            }
        }
    }
    if columns.is_empty() {
        return Ok(Err("it has no columns of its own".to_owned()));
    }
    Ok(Ok(Description { engine, created, columns }))
}

/// What comes before the rows: a table that takes rows, and that nothing is done to but to take them.
fn head_of(
    connection: &mut Connection,
    table: &EmptyTable,
    description: &Description,
    watch: &Watch<'_>,
) -> Result<Result<String, String>> {
    let name = table.quoted();
    // A mode that is none ends the loading with these words.
    let shown = table.shown().replace(',', " ");
    let triggers = quote(&format!("drop the INSERT triggers while this is loaded: {shown}"));
    let filled = quote(&format!("was this loaded already? there are rows in {shown}"));
    let mut head = format!(
        "SET SESSION sql_mode = IF(EXISTS (SELECT 1 FROM information_schema.TRIGGERS WHERE EVENT_MANIPULATION = 'INSERT' AND {}), \
         {triggers}, @@SESSION.sql_mode);\n",
        exactly(table, "EVENT_OBJECT_SCHEMA", "EVENT_OBJECT_TABLE")
    );
    if description.engine == OF_ARCHIVE {
        let rows = connection.query(&format!("SHOW CREATE TABLE {name}"), watch)?;
        let said = rows.first().map(|row| row.text(1)).transpose()?.unwrap_or_default();
        let Some(made) = definition::archive(said, &table.schema, &table.table) else {
            return Ok(Err("its definition is not as plain as it should be".to_owned()));
        };
        // One whose file is missing has neither rows nor a time at which they were changed.
        let _ = write!(
            head,
            "SET @strongroom_lost = IF(EXISTS (SELECT 1 FROM information_schema.TABLES WHERE {} AND COALESCE(TABLE_ROWS, 0) = 0 \
             AND UPDATE_TIME IS NULL), {}, 'DO 0');\n\
             PREPARE strongroom_lost FROM @strongroom_lost;\nEXECUTE strongroom_lost;\nDEALLOCATE PREPARE strongroom_lost;\n{made};\n",
            exactly(table, "TABLE_SCHEMA", "TABLE_NAME"),
            quote(&format!("DROP TABLE IF EXISTS {name}"))
        );
    }
    let _ = writeln!(
        head,
        "SET SESSION sql_mode = IF(EXISTS (SELECT 1 FROM {name}), {filled}, @@SESSION.sql_mode);"
    );
    if description.engine == OF_MYISAM && description.columns.iter().any(|column| column.is_counted) {
        let statement = format!(
            "SELECT AUTO_INCREMENT FROM information_schema.TABLES WHERE {}",
            exactly(table, "TABLE_SCHEMA", "TABLE_NAME")
        );
        let rows = connection.query(&statement, watch)?;
        if let Some(next) = rows.first().map(|row| row.number(0)).transpose()?.flatten() {
            let _ = writeln!(head, "ALTER TABLE {name} AUTO_INCREMENT = {next};");
        }
    }
    Ok(Ok(head))
}
