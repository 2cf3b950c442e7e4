//! Tables for people.

use comfy_table::{ContentArrangement, Table as Grid, TableStyle};
use strongroom_core::size::ByteSize;

/// A table without lines, one row a thing; the head is left out when there are no rows.
pub(crate) struct Table {
    grid: Grid,
    rows: usize,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        let mut grid = Grid::new();
        grid.load_style(TableStyle::new())
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(head);
        Self { grid, rows: 0 }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.grid.add_row(cells.into_iter().collect::<Vec<_>>());
        self.rows += 1;
    }

    /// Prints the rows, or says what to do when there are none.
    pub(crate) fn print(&self, when_empty: &str) {
        if self.rows == 0 {
            super::note(when_empty);
            return;
        }
        for line in self.grid.to_string().lines() {
            super::data(line.trim());
        }
    }
}

pub(crate) fn size(bytes: u64) -> String {
    ByteSize::new(bytes).to_string()
}

pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `2026-11-25T01:02:03Z` as people read it, still UTC and still said so.
pub(crate) fn moment(at: &str) -> String {
    at.replace('T', " ").replace('Z', " UTC")
}
