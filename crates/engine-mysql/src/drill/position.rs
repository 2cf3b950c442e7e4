//! What the server says of itself after it has replayed its log: its version, and the exact position of
//! the copy, which no clone tells.

use strongroom_core::foreign_text::for_people;
use strongroom_core::verification::Outcome;

use super::Drill;
use crate::connection::Connection;
use crate::fault::Fault;

/// The name of the check in reports.
const CHECK: &str = "gtid_position";

impl Drill<'_> {
    pub(super) fn ask_position(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        self.found.report.server_version = {
            let watch = self.watch()?;
            for_people(connection.query_value("SELECT VERSION()", &watch)?.as_bytes())
        };
        let position = {
            let watch = self.watch()?;
            connection.query_value("SELECT @@GLOBAL.gtid_executed", &watch)?
        };
        let gtid = &self.facts.gtid;
        if gtid.mode != "ON" && plain(&position).is_empty() {
            self.found.note_check(
                CHECK,
                Outcome::NotRun,
                format!("the source has gtid_mode {}", for_people(gtid.mode.as_bytes())),
            );
            return Ok(());
        }
        // A copy holds everything that was committed before it began, and nothing that came after it.
        let (before, after) = (quoted(&gtid.before), quoted(&gtid.after));
        let statement = format!(
            "SELECT GTID_SUBSET({before}, @@GLOBAL.gtid_executed), GTID_SUBSET(@@GLOBAL.gtid_executed, {after})"
        );
        let rows = {
            let watch = self.watch()?;
            connection.query(&statement, &watch)?
        };
        let is_between = match rows.as_slice() {
            [row] => row.text(0)? == "1" && row.text(1)? == "1",
            _ => return Err(Fault::hostile("not one row in answer to a question for two values")),
        };
        if !is_between {
            self.found.failures.tell(format!(
                "The copy stands at the GTIDs {}, which is not between those before and after the backup ({} and {}).",
                told(&position),
                told(&gtid.before),
                told(&gtid.after)
            ));
        }
        let outcome = if is_between { Outcome::Passed } else { Outcome::Failed };
        self.found.note_check(CHECK, outcome, format!("the copy stands at exactly {}", told(&position)));
        Ok(())
    }
}

/// The longest set that is told whole. One of a long history has thousands of gaps.
const TOLD_CHARS_MAX: usize = 16_384;

/// Nothing but what sets of GTIDs consist of.
fn plain(set: &str) -> String {
    set.chars().filter(|c| c.is_ascii_alphanumeric() || "-:,_".contains(*c)).collect()
}

/// A set as a value of a statement.
fn quoted(set: &str) -> String {
    format!("'{}'", plain(set))
}

/// A set in words.
fn told(set: &str) -> String {
    let set = plain(set);
    match set.len() {
        0 => "none".to_owned(),
        1..=TOLD_CHARS_MAX => set,
        length => format!("{} and so on ({length} characters)", &set[..TOLD_CHARS_MAX]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a16_only_a_set_of_gtids_gets_into_a_statement() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        assert_eq!(quoted(&format!("{uuid}:1-5,\n{uuid}:tag_1:7")), format!("'{uuid}:1-5,{uuid}:tag_1:7'"));
        assert_eq!(quoted("'), SLEEP(9) -- "), "',SLEEP9--'");
        assert_eq!(told(" \n"), "none");
    }
}
