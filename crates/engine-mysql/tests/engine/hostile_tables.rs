//! Donors whose clone is good, and who lie about the rows of a table of another engine.

use std::sync::Arc;

use strongroom_core::engine::{BackupFacts, Source, TlsMode};
use strongroom_core::{Error, ErrorKind};

use crate::desk::{Taken, source_at};
use crate::fake_donor::{Answer, FakeDonor, Tell, good_clone};

const FILE: &str = "data/strongroom-other-tables.sql";

/// A backup of a donor with one such table, of one column.
fn backup_with(
    table: &'static str,
    column: [&'static str; 2],
    rows: impl Fn(&mut Answer<'_>) + Send + Sync + 'static,
) -> (Result<BackupFacts, Error>, Taken) {
    let tell: Tell = Arc::new(move |statement, answer| {
        let row = |fields: &[&str]| vec![fields.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()];
        if statement.starts_with("SELECT TABLE_SCHEMA") {
            answer.rows(4, &row(&["shop", table, "MyISAM", "1"]));
        } else if statement.starts_with("SELECT ENGINE") {
            answer.rows(2, &row(&["MyISAM", "2026-01-01 00:00:00"]));
        } else if statement.starts_with("SELECT COLUMN_NAME") {
            answer.rows(4, &row(&[column[0], column[1], "latin1", ""]));
        } else if statement.starts_with("SELECT DATE_FORMAT") {
            answer.rows(1, &row(&["2026-11-30T04:12:33.123456Z"]));
        } else if statement.contains(" FROM `shop`.") {
            rows(answer);
        } else {
            return false;
        }
        true
    });
    let donor = FakeDonor::start_telling(Arc::new(|answer| answer.all(&good_clone())), tell);
    let taken = Taken::new();
    let result = taken.take(&Source { tls: TlsMode::Disable, ..source_at(donor.port()) });
    (result, taken)
}

fn told(text: &'static str) -> impl Fn(&mut Answer<'_>) + Send + Sync {
    move |answer| answer.rows(1, &[vec![text.to_owned()]])
}

#[test]
fn h07_what_a_donor_calls_rows_and_names_is_never_obeyed() {
    let (facts, taken) = backup_with("t", ["a", "varchar"], told("x'); \\! touch /tmp/x\n"));
    assert!(taken.sink.paths().contains(&FILE.to_owned()));
    let text = std::fs::read_to_string(taken.sink.data_dir().join("strongroom-other-tables.sql")).unwrap();
    assert!(text.contains("VALUES (_latin1 0x7827293b205c2120746f756368202f746d702f780a);"), "{text}");
    assert_eq!(facts.unwrap().engine["tables_left_empty"][0]["dump"]["rows"].as_u64(), Some(1));

    let (facts, taken) = backup_with("t", ["`, (a) -- ", "int"], told("7"));
    assert!(facts.unwrap().warnings[0].contains("read at 2026-11-30"));
    let text = std::fs::read_to_string(taken.sink.data_dir().join("strongroom-other-tables.sql")).unwrap();
    assert!(text.contains("INSERT INTO `shop`.`t` (```, (a) -- `) VALUES (7);\n"), "{text}");
    for (table, column) in [("a\n\\! x", "a"), ("t", "a\ndelimiter x")] {
        let (facts, taken) = backup_with(table, [column, "int"], told("7"));
        assert!(facts.unwrap().warnings[0].contains("holds a line end"));
        assert!(!taken.sink.paths().contains(&FILE.to_owned()));
    }
}

#[test]
fn h06_a_donor_that_lies_about_the_rows_of_another_engine_is_refused() {
    for text in ["7); DROP TABLE x; -- ", "", "0x41", "NULL", "sleep(9)"] {
        let (result, taken) = backup_with("t", ["a", "bigint"], told(text));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::SourceHostile, "{text}");
        assert!(!taken.sink.is_settled());
    }
    let (result, _) = backup_with("t", ["a", "int"], |answer| answer.rows(2, &[]));
    assert_eq!(result.unwrap_err().kind(), ErrorKind::SourceHostile);
    for body in [&b"\xfc\xff\xff7"[..], b"\x027", b""] {
        let (result, _) = backup_with("t", ["a", "int"], move |answer| {
            answer.all(&[vec![1], b"\x03def".to_vec(), body.to_vec()]);
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::SourceHostile);
    }
}
