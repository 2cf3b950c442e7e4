//! Settings of the restored server: what it must not inherit from the source, and what it
//! lacks because the source keeps it outside the data directory.

use strongroom_core::Result;

use super::files::Folder;
use crate::facts::PostgresFacts;
use crate::remedy::quote_literal;

const AUTO_CONF: &str = "postgresql.auto.conf";
const CONF: &str = "postgresql.conf";

pub(super) const BLOCK_BEGIN: &str = "# --- strongroom restore: begin ---";
pub(super) const BLOCK_END: &str = "# --- strongroom restore: end ---";

/// What ties the source to others. A copy must not write into its archive, follow its primary,
/// wait for its standbys or consume its subscriptions.
const UNTIED: [(&str, &str); 15] = [
    ("archive_mode", "off"),
    ("archive_command", ""),
    ("archive_cleanup_command", ""),
    ("restore_command", ""),
    ("recovery_end_command", ""),
    ("primary_conninfo", ""),
    ("primary_slot_name", ""),
    ("recovery_target", ""),
    ("recovery_target_lsn", ""),
    ("recovery_target_name", ""),
    ("recovery_target_time", ""),
    ("recovery_target_xid", ""),
    ("recovery_target_timeline", "latest"),
    ("synchronous_standby_names", ""),
    ("max_logical_replication_workers", "0"),
];

/// The same, for versions that have it: one that does not would refuse to start.
const UNTIED_SINCE_15: (&str, &str) = ("archive_library", "");

/// Replay of the source's log needs at least as much room as the source had.
pub(crate) const NOT_LOWER: [&str; 5] = [
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
];

const MINIMAL_CONF: &str = "\
# Written at restore: the source keeps its configuration outside the data directory,
# so it is not part of the backup. Take over what the server needs (memory, preloaded
# libraries, TLS) from the source's own file.
listen_addresses = 'localhost'
";

/// `md5` takes both kinds of stored passwords; a role with a SCRAM secret is asked for SCRAM.
const MINIMAL_HBA: &str = "\
# Written at restore: roles log in from this machine with the passwords of the source.
local all all md5
host all all 127.0.0.1/32 md5
host all all ::1/128 md5
";

const MINIMAL_IDENT: &str = "# Written at restore: no user name maps.\n";

/// Files that the server wants and that may live elsewhere at the source.
const CONFIGURATION: [(&str, &str); 3] =
    [(CONF, MINIMAL_CONF), ("pg_hba.conf", MINIMAL_HBA), ("pg_ident.conf", MINIMAL_IDENT)];

/// Settings that name a place, a file or a library which may not exist on this machine.
const PLACES: [&str; 16] = [
    "archive_command",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "include",
    "include_dir",
    "include_if_exists",
    "log_directory",
    "shared_preload_libraries",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_crl_file",
    "ssl_key_file",
    "stats_temp_directory",
    "unix_socket_directories",
];

/// Writes what is missing and switches off what must not run; answers with notes.
pub(super) fn write(
    folder: &mut Folder<'_>,
    facts: &PostgresFacts,
    port: Option<u16>,
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let mut written = Vec::new();
    for (name, content) in CONFIGURATION {
        if folder.read(name)?.is_none() {
            folder.replace(name, content.as_bytes())?;
            written.push(name);
        }
    }
    if !written.is_empty() {
        notes.push(format!(
            "The source keeps {} outside its data directory, so the backup does not hold it; a minimal one was written.",
            written.join(", ")
        ));
    }
    let conf = folder.read(CONF)?.unwrap_or_default();
    let places = places_named(&String::from_utf8_lossy(&conf));
    if !places.is_empty() {
        notes.push(format!(
            "postgresql.conf names places that may not exist here; look at: {}.",
            places.join(", ")
        ));
    }
    let auto_conf = folder.read(AUTO_CONF)?.unwrap_or_default();
    folder.replace(AUTO_CONF, &with_block(&auto_conf, &block(facts, port)))?;
    notes.push(
        "Archiving, replication and subscriptions are switched off by a marked block at the end of \
         postgresql.auto.conf; remove it when this copy takes over from the source."
            .to_owned(),
    );
    Ok(notes)
}

fn block(facts: &PostgresFacts, port: Option<u16>) -> String {
    let mut lines = vec![BLOCK_BEGIN.to_owned()];
    let mut set = |name: &str, value: &str| lines.push(format!("{name} = {}", quote_literal(value)));
    let since_15 = (facts.major_version() >= 15).then_some(UNTIED_SINCE_15);
    for (name, value) in UNTIED.into_iter().chain(since_15) {
        set(name, value);
    }
    for name in NOT_LOWER {
        // A number, or it is not from a server.
        if let Some(value) = facts.setting(name).filter(|value| value.parse::<u32>().is_ok()) {
            set(name, value);
        }
    }
    if let Some(port) = port {
        set("port", &port.to_string());
    }
    lines.push(BLOCK_END.to_owned());
    lines.join("\n") + "\n"
}

/// The file with our block at its end, where it wins, and only once.
pub(super) fn with_block(content: &[u8], block: &str) -> Vec<u8> {
    let mut kept = Vec::with_capacity(content.len() + block.len());
    let mut is_ours = false;
    for line in content.split_inclusive(|b| *b == b'\n') {
        let text = line.trim_ascii();
        is_ours |= text == BLOCK_BEGIN.as_bytes();
        if !is_ours {
            kept.extend_from_slice(line);
        }
        is_ours &= text != BLOCK_END.as_bytes();
    }
    if !kept.is_empty() && !kept.ends_with(b"\n") {
        kept.push(b'\n');
    }
    kept.extend_from_slice(block.as_bytes());
    kept
}

/// Names of settings that are in force in the file and point to a place.
pub(super) fn places_named(conf: &str) -> Vec<&'static str> {
    let is_set = |name: &&str| {
        conf.lines().any(|line| {
            let line = line.trim_start();
            let (word, rest) = line.split_at_checked(name.len()).unwrap_or_default();
            let value = rest.trim_start().trim_start_matches('=').trim_start();
            let is_empty = value.is_empty() || value.starts_with('#') || value.starts_with("''");
            word.eq_ignore_ascii_case(name) && rest.starts_with([' ', '\t', '=']) && !is_empty
        })
    };
    PLACES.into_iter().filter(is_set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_stands_once_and_last() {
        let once = with_block(
            b"work_mem = '1MB'",
            "# --- strongroom restore: begin ---\nx\n# --- strongroom restore: end ---\n",
        );
        let text = String::from_utf8(once.clone()).unwrap();
        assert!(text.starts_with("work_mem = '1MB'\n# ---"));
        let mut longer = once.clone();
        longer.extend_from_slice(b"port = '1'\n");
        let again = String::from_utf8(with_block(
            &longer,
            "# --- strongroom restore: begin ---\ny\n# --- strongroom restore: end ---\n",
        ))
        .unwrap();
        assert_eq!(again.matches("begin").count(), 1);
        assert!(again.contains("port = '1'\n# ---") && again.contains("\ny\n") && !again.contains("\nx\n"));
    }

    #[test]
    fn places_in_force_are_found() {
        let conf = "#hba_file = '/x'\nHBA_FILE='/x'\ninclude_dir 'conf.d'\nssl_cert_file = ''\nlog_directory_x = 1\n  data_directory\t= '/d'\nssl_key_file = # none\n";
        assert_eq!(places_named(conf), ["data_directory", "hba_file", "include_dir"]);
    }
}
