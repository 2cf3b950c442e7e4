//! What a server says about itself when it is asked by statements.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::collections::BTreeMap;

use strongroom_core::engine::{EngineKind, SourceIdentity};
use strongroom_core::{Error, ErrorKind};

use crate::connection::{Connection, Watch};
use crate::fault::{Fault, Result, code};
use crate::remedy::Account;

/// A release, by its three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) patch: u32,
}

impl Version {
    /// The first whose clone lets definitions of tables change while it runs.
    pub(crate) const OLDEST: Self = Self { major: 8, minor: 0, patch: 27 };
    /// The newest series that was tried.
    pub(crate) const NEWEST_TRIED: u32 = 9;

    /// Of `9.7.4`, `8.0.36-0ubuntu0.22.04.1` or `8.4.3-3`: what follows the numbers is the packager's.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut numbers = text[..end].split('.');
        let mut next = || numbers.next()?.parse().ok();
        let (major, minor, patch) = (next()?, next()?, next()?);
        Some(Self { major, minor, patch })
    }

    pub(crate) fn text(self) -> String {
        format!("{}.{}.{}", self.major, self.minor, self.patch)
    }

    pub(crate) fn is_supported(self) -> bool {
        self >= Self::OLDEST
    }
}

/// Variables that a restore needs, that explain a backup, or that must be equal on the target.
const RECORDED: [&str; 37] = [
    "binlog_checksum",
    "binlog_encryption",
    "binlog_format",
    "binlog_row_image",
    "character_set_server",
    "collation_server",
    "datadir",
    "default_storage_engine",
    "early_plugin_load",
    "enforce_gtid_consistency",
    "explicit_defaults_for_timestamp",
    "gtid_mode",
    "innodb_buffer_pool_filename",
    "innodb_checksum_algorithm",
    "innodb_data_file_path",
    "innodb_data_home_dir",
    "innodb_directories",
    "innodb_page_size",
    "innodb_redo_log_capacity",
    "innodb_redo_log_encrypt",
    "innodb_undo_directory",
    "innodb_undo_log_encrypt",
    "innodb_undo_tablespaces",
    "log_bin",
    "lower_case_table_names",
    "max_allowed_packet",
    "max_connections",
    "plugin_load",
    "read_only",
    "require_secure_transport",
    "server_id",
    "server_uuid",
    "sql_mode",
    "system_time_zone",
    "time_zone",
    "version",
    "version_comment",
];

/// Persisted variables; a server has some hundreds of variables altogether.
const PERSISTED_MAX: usize = 5_000;

/// How the server is set up.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    values: BTreeMap<String, String>,
}

impl Settings {
    /// Needs no right. What a version does not know is left out.
    pub(crate) fn read(connection: &mut Connection, watch: &Watch<'_>) -> Result<Self> {
        // A server may have a limit for everybody; our answers are whole.
        connection.query("SET SESSION sql_select_limit = 18446744073709551615", watch)?;
        let names = RECORDED.map(|name| format!("'{name}'")).join(", ");
        let statement = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})");
        let mut values = BTreeMap::new();
        for row in connection.query(&statement, watch)? {
            values.insert(row.text(0)?.to_owned(), row.text(1)?.to_owned());
        }
        Ok(Self { values })
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    pub(crate) fn is_on(&self, name: &str) -> bool {
        matches!(self.get(name), "ON" | "1")
    }

    pub(crate) fn values(&self) -> &BTreeMap<String, String> {
        &self.values
    }

    /// Who answers: the server's own id, which a copy of it does not share.
    pub(crate) fn identity(&self) -> Result<SourceIdentity> {
        let (version, uuid) = (self.get("version"), self.get("server_uuid"));
        let version = Version::parse(version).ok_or_else(|| Fault::hostile("a malformed version"))?;
        if uuid.len() != 36 || !uuid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
            return Err(Fault::hostile("a server_uuid that is none"));
        }
        Ok(SourceIdentity {
            engine: EngineKind::MySql,
            version: version.text(),
            system_identifier: uuid.to_owned(),
        })
    }

    /// Size of InnoDB's pages.
    pub(crate) fn page_size_bytes(&self) -> Result<u32> {
        match self.get("innodb_page_size").parse() {
            Ok(size @ (4096 | 8192 | 16384 | 32768 | 65536)) => Ok(size),
            _ => Err(Fault::hostile("an innodb_page_size that is none")),
        }
    }
}

/// The account that we are for the server.
pub(crate) fn account(connection: &mut Connection, watch: &Watch<'_>) -> Result<Account> {
    let text = connection.query_value("SELECT CURRENT_USER()", watch)?;
    Ok(Account::of_current_user(&text))
}

/// The transactions that the server has executed, as a set.
pub(crate) fn executed_gtids(connection: &mut Connection, watch: &Watch<'_>) -> Result<String> {
    // The server breaks a long set into lines.
    Ok(connection.query_value("SELECT @@GLOBAL.gtid_executed", watch)?.replace('\n', ""))
}

/// Seconds since the epoch by the server's clock.
pub(crate) fn now_s(connection: &mut Connection, watch: &Watch<'_>) -> Result<i64> {
    let text = connection.query_value("SELECT UNIX_TIMESTAMP()", watch)?;
    text.parse().map_err(|_| Fault::hostile("a time that is none"))
}

/// What `SET PERSIST` has left in `mysqld-auto.cnf`; `None` when the account may not read it.
pub(crate) fn persisted(
    connection: &mut Connection,
    watch: &Watch<'_>,
) -> Result<Option<BTreeMap<String, String>>> {
    let statement = format!(
        "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.persisted_variables LIMIT {}",
        PERSISTED_MAX + 1
    );
    let rows = match connection.query(&statement, watch) {
        Ok(rows) => rows,
        Err(Fault::Server(error)) if error.code == code::TABLE_ACCESS_DENIED => return Ok(None),
        Err(fault) => return Err(fault),
    };
    if rows.len() > PERSISTED_MAX {
        return Err(Fault::hostile("more persisted variables than there are variables"));
    }
    let mut persisted = BTreeMap::new();
    for row in rows {
        // The value of a variable that is kept encrypted is NULL for those who may not see it.
        let value = row.bytes(1)?.map(|value| String::from_utf8_lossy(value).into_owned());
        persisted.insert(row.text(0)?.to_owned(), value.unwrap_or_default());
    }
    Ok(Some(persisted))
}

/// Whether the account sees every table's name. One that sees this one of the server's own, which all
/// servers have, has a right on all of them.
pub(crate) fn sees_tables(connection: &mut Connection, watch: &Watch<'_>) -> Result<bool> {
    let statement = "SELECT COUNT(*) FROM information_schema.TABLES \
                     WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'general_log'";
    Ok(connection.query_value(statement, watch)? != "0")
}

/// The registered database, and no other (faults.md B03).
pub(crate) fn check_identity(known: Option<&SourceIdentity>, found: &SourceIdentity) -> Result<()> {
    match known {
        Some(known) if known.system_identifier != found.system_identifier => Err(Fault::Domain(
            Error::new(
                ErrorKind::SourceRefused,
                format!(
                    "Another database answers at this address: its server_uuid is {}, the registered one has {}. \
                     Nothing was stored.",
                    found.system_identifier, known.system_identifier
                ),
            )
            .with_hint("Correct the address, or register the new database as an instance of its own."),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_what_packagers_add() {
        let version = |text| Version::parse(text).map(Version::text);
        assert_eq!(version("9.7.4").as_deref(), Some("9.7.4"));
        assert_eq!(version("8.0.36-0ubuntu0.22.04.1").as_deref(), Some("8.0.36"));
        assert_eq!(version("8.4.3-3").as_deref(), Some("8.4.3"));
        for bad in ["", "9", "9.7", "x9.7.4", "9..4", "99999999999.1.1"] {
            assert_eq!(version(bad), None, "{bad}");
        }
        assert!(!Version::parse("8.0.26").unwrap().is_supported());
        assert!(Version::parse("8.0.27").unwrap().is_supported());
    }
}
