//! What a backup says about itself: the engine's part of `BackupFacts`, as stored.
//!
//! The shape is documented in `docs/formats/mysql-facts.md`; a restore needs nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strongroom_core::engine::BackupFacts;
use strongroom_core::foreign_text::for_people;
use strongroom_core::{Error, ErrorKind, Result};

use crate::keyring::Keyring;
use crate::remedy::quote_name;

/// Version of this shape.
pub(crate) const FACTS_FORMAT: u32 = 1;
/// The same with `keyring`: a reader that does not know it would give back files that nobody opens.
pub(crate) const FACTS_FORMAT_WITH_KEYRING: u32 = 2;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MySqlFacts {
    pub(crate) format: u32,
    /// As the server prints it, such as `9.7.4` or `8.4.3-commercial`.
    pub(crate) server_version: String,
    pub(crate) server_uuid: String,
    /// Version of the clone protocol that was agreed upon.
    pub(crate) clone_protocol: u32,
    /// Size of InnoDB's pages in bytes.
    pub(crate) page_size_bytes: u32,
    /// Every plugin that was active, as the clone told it.
    pub(crate) plugins: Vec<PluginFact>,
    pub(crate) collations: Vec<String>,
    /// What the clone itself tells of the server's configuration.
    pub(crate) configuration: BTreeMap<String, String>,
    /// Variables of the server that a restore or a person asks for (see the format page).
    pub(crate) settings: BTreeMap<String, String>,
    /// `performance_schema.persisted_variables`: the content of `mysqld-auto.cnf`, which no clone
    /// holds. `None` when the account may not read it.
    pub(crate) persisted: Option<BTreeMap<String, String>>,
    pub(crate) gtid: GtidFacts,
    /// Files that stood outside the data directory and have a place inside it in the backup.
    pub(crate) outside_files: Vec<OutsideFile>,
    /// Files whose pages are compressed one by one: a restore gives their holes back.
    pub(crate) page_compressed_files: Vec<PageCompressedFile>,
    /// When there are encrypted files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keyring: Option<KeyringFact>,
    /// Tables of other engines. The clone holds them empty.
    pub(crate) tables_left_empty: Vec<EmptyTable>,
    /// How many more of them there are than are listed.
    pub(crate) tables_left_empty_unlisted: u64,
    pub(crate) transfer: TransferFacts,
}

/// An active plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PluginFact {
    pub(crate) name: String,
    /// File name of its library; empty when it is built in, `None` when an old server does not say.
    pub(crate) library: Option<String>,
}

/// The position is between the two; the first boot of a copy tells it exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GtidFacts {
    /// `ON`, `OFF`, or one of the states between.
    pub(crate) mode: String,
    /// `@@gtid_executed` before the copy began: logs from here on leave no gap.
    pub(crate) before: String,
    /// `@@gtid_executed` after it was complete.
    pub(crate) after: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutsideFile {
    /// Where it stands in the data directory of a restore, such as `shop/orders.ibd`.
    pub(crate) name: String,
    /// Where it was at the source; bytes that are not UTF-8 are replaced.
    pub(crate) source_path: String,
    pub(crate) space_id: u32,
    /// A general tablespace; otherwise the file of one table or partition.
    pub(crate) shared: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PageCompressedFile {
    pub(crate) name: String,
    /// Block of the source's file system: a hole is a multiple of it.
    pub(crate) block_bytes: u32,
}

/// What opens the encrypted files of the copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyringFact {
    pub(crate) files: u64,
    #[serde(flatten)]
    pub(crate) keyring: Keyring,
}

/// A table whose rows no clone carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EmptyTable {
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) engine: String,
    /// Counted by the server before the backup began; `None` when it could not be.
    pub(crate) rows: Option<u64>,
    /// Its rows stand beside the copy.
    #[serde(default)]
    pub(crate) dump: Option<TableDump>,
    /// Why they do not, as a clause.
    #[serde(default)]
    pub(crate) dump_lacks: Option<String>,
}

impl EmptyTable {
    pub(crate) fn new(schema: String, table: String, engine: String, rows: Option<u64>) -> Self {
        Self { schema, table, engine, rows, dump: None, dump_lacks: None }
    }

    /// Its name in statements.
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", quote_name(&self.schema), quote_name(&self.table))
    }

    /// Its name in sentences.
    pub(crate) fn shown(&self) -> String {
        for_people(format!("{}.{}", self.schema, self.table).as_bytes())
    }
}

/// The rows of a table, as they were read when the clone was complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableDump {
    /// Just before and just after they were read, by the server's clock: `2026-11-30T04:12:33.123456Z`.
    pub(crate) began: String,
    pub(crate) ended: String,
    pub(crate) rows: u64,
    /// Of the file.
    pub(crate) bytes: u64,
}

/// What came over the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TransferFacts {
    pub(crate) files: u64,
    pub(crate) file_bytes: u64,
    /// Pages that came again, over what the files held.
    pub(crate) pages: u64,
    pub(crate) redo_bytes: u64,
    /// Pages of the source whose checksum was wrong.
    #[serde(default)]
    pub(crate) damaged_pages: u64,
    /// How often a broken connection was taken up again.
    pub(crate) resumed: u32,
}

impl MySqlFacts {
    pub(crate) fn of(facts: &BackupFacts) -> Result<Self> {
        let unreadable = |source: String| {
            Error::new(ErrorKind::Damage, "The facts stored with the backup are not those of a MySQL backup.")
                .with_source(source)
        };
        let read = Self::deserialize(&facts.engine).map_err(|error| unreadable(error.to_string()))?;
        let wanted = if read.keyring.is_some() { FACTS_FORMAT_WITH_KEYRING } else { FACTS_FORMAT };
        if read.format != wanted {
            return Err(unreadable(format!("format {}", read.format)));
        }
        Ok(read)
    }

    /// A variable of the source that was recorded.
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }
}
