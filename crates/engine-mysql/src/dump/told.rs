//! What became of the rows of such tables, in whole sentences: the same in the backup's record, at a
//! restore, in a download and in a drill.

use strongroom_core::foreign_text::for_people;

use super::{COMMAND, NAME};
use crate::facts::EmptyTable;

/// Tables that a sentence names.
const NAMED_MAX: usize = 20;

pub(crate) fn sentences(tables: &[EmptyTable], unlisted: u64) -> Vec<String> {
    let (dumped, lacking): (Vec<_>, Vec<_>) = tables.iter().partition(|table| table.dump.is_some());
    let mut sentences = Vec::new();
    if !dumped.is_empty() {
        sentences.push(format!(
            "The rows of {} are beside the copy and not in it: a restore brings these tables back empty (of ARCHIVE without \
             their file) and their rows in the file {NAME}, each table as it was when it was read, after the moment of \
             the backup itself: {}. Load the file once, after the first start: {COMMAND} < {NAME}",
            count_in_words(dumped.len() as u64),
            named(&dumped, 0)
        ));
    }
    if !lacking.is_empty() || unlisted > 0 {
        sentences.push(format!(
            "The rows of {} are not in this backup, and a restore brings these tables back empty: {}. \
             A clone holds InnoDB tables only; let the account read them, dump them by other means, or turn them into \
             InnoDB tables.",
            count_in_words(lacking.len() as u64 + unlisted),
            named(&lacking, unlisted)
        ));
    }
    sentences
}

pub(crate) fn count_in_words(count: u64) -> String {
    match count {
        1 => "1 table of another engine than InnoDB".to_owned(),
        count => format!("{count} tables of other engines than InnoDB"),
    }
}

/// The first of them, with what they hold.
pub(crate) fn named(tables: &[&EmptyTable], unlisted: u64) -> String {
    let mut named: Vec<String> = tables.iter().take(NAMED_MAX).map(|table| describe(table)).collect();
    let more = tables.len().saturating_sub(NAMED_MAX) as u64 + unlisted;
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named.join(", ")
}

fn describe(table: &EmptyTable) -> String {
    let rows = match table.dump.as_ref().map(|dump| dump.rows).or(table.rows) {
        Some(1) => "1 row".to_owned(),
        Some(count) => format!("{count} rows"),
        None => "rows not counted".to_owned(),
    };
    let more = match (&table.dump, &table.dump_lacks) {
        (Some(dump), _) => format!("; read at {}", for_people(dump.began.as_bytes())),
        (None, Some(reason)) => format!("; {reason}"),
        (None, None) => String::new(),
    };
    format!("{} ({}, {rows}{more})", table.shown(), table.engine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::TableDump;

    fn table(number: usize) -> EmptyTable {
        let rows = (number > 0).then_some(number as u64);
        EmptyTable::new("s".to_owned(), format!("t{number}"), "MyISAM".to_owned(), rows)
    }

    #[test]
    fn many_tables_are_a_short_sentence() {
        let [few] = &sentences(&[table(0), table(1), table(2)], 0)[..] else { panic!() };
        assert!(
            few.starts_with("The rows of 3 tables of other engines than InnoDB are not in this backup"),
            "{few}"
        );
        assert!(
            few.contains("s.t0 (MyISAM, rows not counted), s.t1 (MyISAM, 1 row), s.t2 (MyISAM, 2 rows)"),
            "{few}"
        );
        let tables: Vec<EmptyTable> = (0..1000).map(table).collect();
        let [many] = &sentences(&tables, 7)[..] else { panic!() };
        assert!(many.starts_with("The rows of 1007 tables of other engines"), "{many}");
        assert!(many.contains("s.t19 (MyISAM, 19 rows), and 987 more"), "{many}");
        assert_eq!(sentences(&[], 0), [""; 0]);
    }

    #[test]
    fn rows_beside_the_copy_are_told_with_their_moment_and_the_others_with_the_reason() {
        let (mut read, mut not) = (table(5), table(6));
        let moment = "2026-11-30T04:12:33.123456Z".to_owned();
        read.dump = Some(TableDump { began: moment.clone(), ended: moment, rows: 4, bytes: 9 });
        not.dump_lacks = Some("the account may not read it".to_owned());
        let [beside, missing] = &sentences(&[read, not], 0)[..] else { panic!() };
        assert!(
            beside.starts_with("The rows of 1 table of another engine than InnoDB are beside the copy"),
            "{beside}"
        );
        assert!(beside.contains("s.t5 (MyISAM, 4 rows; read at 2026-11-30T04:12:33.123456Z)"), "{beside}");
        assert!(
            beside.ends_with(
                "mysql --binary-mode --default-character-set=utf8mb4 < strongroom-other-tables.sql"
            )
        );
        assert!(missing.contains("s.t6 (MyISAM, 6 rows; the account may not read it)"), "{missing}");
    }
}
