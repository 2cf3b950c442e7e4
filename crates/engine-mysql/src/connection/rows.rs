//! Rows that are handed on one by one: a table may be larger than any memory.

use super::result::{self, Beginning};
use super::{Connection, TICK, Watch, command};
use crate::fault::{Fault, Result, ServerError};

/// What comes next of a result.
pub(crate) enum Next<'r> {
    /// The fields of a row; `None` is NULL.
    Row(Vec<Option<&'r [u8]>>),
    /// A row that is larger than was asked for. It was not read: nothing else can be asked of this
    /// connection.
    TooLarge,
    End,
}

/// A result on its way.
pub(crate) struct Rows<'c> {
    connection: &'c mut Connection,
    columns: usize,
    row_bytes_max: usize,
    row: Vec<u8>,
}

impl Connection {
    /// Runs a statement whose rows are taken one after the other. The largest row that is taken is smaller
    /// than a packet.
    pub(crate) fn rows(
        &mut self,
        statement: &str,
        row_bytes_max: usize,
        watch: &Watch<'_>,
    ) -> Result<Rows<'_>> {
        self.command(&[&[command::QUERY], statement.as_bytes()].concat(), watch)?;
        let columns = match Beginning::parse(self.answer(watch)?)? {
            Beginning::Done => return Err(Fault::hostile("no rows where a table was read")),
            Beginning::Columns(count) => count,
        };
        for _ in 0..columns {
            self.answer(watch)?;
        }
        Ok(Rows { connection: self, columns, row_bytes_max, row: Vec::new() })
    }
}

impl Rows<'_> {
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn next(&mut self, watch: &Watch<'_>) -> Result<Next<'_>> {
        let mut body = loop {
            if let Some(body) = self.connection.incoming(TICK, watch)? {
                break body;
            }
        };
        let Some(length) = body.whole_length().filter(|length| *length <= self.row_bytes_max) else {
            return Ok(Next::TooLarge);
        };
        self.row.clear();
        self.connection.gather(&mut body, length, &mut self.row, watch)?;
        match self.row.first() {
            // No value that is taken is so long that its length begins like the mark of the end.
            Some(0xfe) => result::end_of_result(&self.row).map(|()| Next::End),
            Some(0xff) => Err(Fault::Server(Box::new(ServerError::decode(&self.row)))),
            _ => result::fields(&self.row, self.columns).map(Next::Row),
        }
    }
}
