//! Parsers of what a source sends, as the fuzzer calls them. Whatever comes, nothing panics and
//! memory stays in proportion.

use crate::backup::fuzzing as backup;
use crate::clone::fuzzing as clone;
use crate::connection::fuzzing as connection;
use crate::dump::fuzzing as dump;
use crate::logs::fuzzing as logs;

/// Every target by its name.
pub const TARGETS: &[strongroom_core::fuzzing::Target] = &[
    ("mysql-clone", backup::clone),
    ("mysql-dump", dump::table),
    ("mysql-file-names", backup::file_names),
    ("mysql-greeting", connection::greeting),
    ("mysql-introduction", clone::introduction),
    ("mysql-log", logs::log),
    ("mysql-packets", connection::packets),
    ("mysql-server-values", crate::server::fuzzing::values),
];

/// Kept inputs that are made.
pub const SEEDS: &[strongroom_core::fuzzing::Seed] = &[
    ("mysql-clone", "whole", backup::whole_clone),
    ("mysql-dump", "archive", dump::archive),
    ("mysql-dump", "csv", dump::csv),
    ("mysql-dump", "myisam", dump::myisam),
    ("mysql-file-names", "table", backup::table_file),
    ("mysql-greeting", "mysql", connection::good_greeting),
    ("mysql-introduction", "short", clone::short_introduction),
    ("mysql-log", "whole", logs::whole_log),
    ("mysql-packets", "rows", connection::some_rows),
];
