//! The error table of a dialect as a text file that people read; a change shows there.

use std::path::Path;

use strongroom_core::{ErrorKind, Field};
use strongroom_service::{KINDS, code_of};

/// Fields that have a row of their own in at least one dialect.
const FIELDS: [(Field, &str); 10] = [
    (Field::BackupName, "backup name"),
    (Field::Description, "description"),
    (Field::InstanceRef, "id"),
    (Field::Engine, "engine"),
    (Field::Password, "password"),
    (Field::Databases, "databases"),
    (Field::NewDatabaseName, "new database name"),
    (Field::KeepDays, "keep days"),
    (Field::Period, "period"),
    (Field::StartTime, "start time"),
];

/// Compares the whole table with the file, or writes it.
pub(crate) fn check(
    path: impl AsRef<Path>,
    head: &str,
    row: fn(ErrorKind) -> (u16, &'static str, &'static str),
) {
    let kinds = KINDS.into_iter().map(|kind| (kind, code_of(kind).to_owned()));
    let fields =
        FIELDS.into_iter().map(|(field, word)| (ErrorKind::Parameter(field), format!("parameter ({word})")));
    let lines = kinds.chain(fields).map(|(kind, word)| {
        let (status, code, sentence) = row(kind);
        format!("{word:24} {status} {code}  {sentence}\n")
    });
    let table = head.to_owned() + &lines.collect::<String>();
    if std::env::var_os("STRONGROOM_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    assert_eq!(table, std::fs::read_to_string(path).unwrap());
}
