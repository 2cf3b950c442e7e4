//! What a server must be told to start on the files, and what must not come to life in a copy.

use std::fmt::Write as _;

use strongroom_core::{Error, ErrorKind, Result};

use crate::facts::MySqlFacts;

/// Our option file in the data directory. A server reads it only when it is told to.
pub(super) const OPTION_FILE: &str = "strongroom.cnf";
/// Names below the data directory that a server started by us has.
pub(super) const PID_FILE: &str = "strongroom.pid";
pub(super) const SOCKET: &str = "strongroom.sock";

/// The longest path of a socket file that the operating system takes.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The files of the system tablespace unless something else was said.
const USUAL_DATA_FILES: &str = "ibdata1:12M:autoextend";

/// A copy takes up no replication, runs no event, and makes no log that continues the source's.
const QUIET: [(&str, &str); 2] = [("event_scheduler", "OFF"), ("skip_replica_start", "ON")];

/// Of the files that a server writes for itself; tables carry their own.
const ENCRYPTIONS: [&str; 2] = ["innodb_redo_log_encrypt", "innodb_undo_log_encrypt"];

/// Settings under which the files were written, and without which no server reads them.
pub(crate) fn must_be_the_same(facts: &MySqlFacts) -> Result<Vec<(&'static str, String)>> {
    let mut out = vec![
        ("innodb_page_size", facts.page_size_bytes.to_string()),
        ("innodb_data_file_path", data_files(facts)),
    ];
    if let Some(value) = facts.setting("lower_case_table_names") {
        out.push(("lower_case_table_names", value.to_owned()));
    }
    for (name, value) in &out {
        // It goes into a file that a server obeys.
        let is_plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b":;._-".contains(&b));
        if value.is_empty() || !is_plain {
            return Err(Error::new(
                ErrorKind::Damage,
                format!(
                    "The backup names a {name} that no server has; it was not written to a configuration."
                ),
            )
            .with_source(value.clone()));
        }
    }
    Ok(out)
}

pub(super) fn option_file(facts: &MySqlFacts, port: Option<u16>) -> Result<String> {
    let mut text = String::from(
        "# Written by strongroom restore: what a server needs to start on this directory.\n\
         # mysqld --defaults-file=<this file> --datadir=<this directory>\n[mysqld]\n",
    );
    for (name, value) in must_be_the_same(facts)? {
        let _ = writeln!(text, "{name}={value}");
    }
    if facts.keyring.is_some() {
        text.push_str("# As at the source: what is written from now on is encrypted, too.\n");
        for name in ENCRYPTIONS {
            if facts.setting(name).is_some_and(|value| value == "ON") {
                let _ = writeln!(text, "{name}=ON");
            }
        }
    }
    text.push_str("# A copy must not act like the source. Remove these when it takes over.\n");
    for (name, value) in QUIET {
        let _ = writeln!(text, "{name}={value}");
    }
    if let Some(port) = port {
        let _ = writeln!(text, "port={port}");
    }
    Ok(text)
}

/// The system tablespace's files and sizes. Directories are left out: a clone brings all of them into
/// the data directory.
fn data_files(facts: &MySqlFacts) -> String {
    let said = facts.setting("innodb_data_file_path").unwrap_or(USUAL_DATA_FILES);
    let parts = said.split(';').map(|part| {
        let (path, rest) = part.split_once(':').unwrap_or((part, ""));
        let name = path.rsplit('/').next().unwrap_or(path);
        format!("{name}:{rest}")
    });
    parts.collect::<Vec<_>>().join(";")
}

/// Names of the system tablespace's files.
pub(crate) fn system_files(facts: &MySqlFacts) -> Vec<String> {
    let names = data_files(facts);
    names.split(';').filter_map(|part| part.split(':').next()).map(str::to_owned).collect()
}

/// What a person should know of the way to the first start.
pub(super) fn notes(facts: &MySqlFacts) -> Vec<String> {
    let mut notes = vec![format!(
        "Start it with mysqld --defaults-file=<directory>/{OPTION_FILE} --datadir=<directory>. The first start \
         replays the log and makes a new server UUID; afterwards SELECT @@GLOBAL.gtid_executed tells the exact \
         position of the copy. Events and replication are switched off in {OPTION_FILE}; remove that when this \
         copy takes over from the source."
    )];
    if !facts.outside_files.is_empty() {
        let places: Vec<String> = facts
            .outside_files
            .iter()
            .take(5)
            .map(|file| format!("{} (was {})", file.name, file.source_path))
            .collect();
        let more = facts.outside_files.len() - places.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        notes.push(format!(
            "Files that stood outside the source's data directory are inside this one, where the server finds \
             them: {}{more}.",
            places.join(", ")
        ));
    }
    if let Some(persisted) = facts.persisted.as_ref().filter(|persisted| !persisted.is_empty()) {
        let names: Vec<&str> = persisted.keys().map(String::as_str).collect();
        notes.push(format!(
            "The source had settings of its own in mysqld-auto.cnf, which no clone carries; they stand in the \
             backup's facts and were not set here: {}.",
            names.join(", ")
        ));
    }
    notes
}
