//! Parsers of what a source sends, as the fuzzer calls them. Whatever comes, nothing panics and
//! memory stays in proportion.

use crate::backup::fuzzing as backup;
use crate::connection::fuzzing as connection;
use crate::drill::fuzzing as drill;
use crate::lsn::Lsn;
use crate::relation::RelationFile;
use crate::restore::fuzzing as restore;

/// Every target by its name.
pub const TARGETS: &[strongroom_core::fuzzing::Target] = &[
    ("postgres-archive", backup::archive),
    ("postgres-base-backup", backup::base_backup),
    ("postgres-block-list", backup::block_list),
    ("postgres-control-file", backup::control_file),
    ("postgres-log-message", backup::log_message),
    ("postgres-manifest", backup::manifest),
    ("postgres-manifest-compare", backup::manifest_compare),
    ("postgres-messages", connection::messages),
    ("postgres-names", names),
    ("postgres-password-table", drill::password_table),
    ("postgres-server-values", crate::server::fuzzing::values),
    ("postgres-settings", restore::settings),
    ("postgres-timeline-history", backup::timeline_history),
];

/// Kept inputs that are made.
pub const SEEDS: &[strongroom_core::fuzzing::Seed] = &[
    ("postgres-base-backup", "plain", backup::plain_copies),
    ("postgres-base-backup", "typed", backup::typed_copy),
];

/// Positions have one spelling up to leading zeros and case; a path is a relation's or is not.
fn names(bytes: &[u8]) -> bool {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(position) = Lsn::parse(text)
    {
        assert_eq!(Lsn::parse(&position.to_string()), Some(position));
        return true;
    }
    RelationFile::of_path(bytes).is_some()
}
