//! The slot that holds log at the source for a capture: made once, there at every try, and given up
//! before the source's disk is in danger.

use strongroom_core::{Error, ErrorKind, Retry};

use crate::connection::{Connection, Watch};
use crate::fault::{Fault, Result};
use crate::lsn::Lsn;
use crate::remedy::{TakesEffect, change_setting, quote_identifier};
use crate::server::{self, Version};

/// The server's own bound on what slots keep. Without one, the slot of a capture that nobody goes on
/// with would fill the disk of the source.
pub(super) const BOUND: &str = "max_slot_wal_keep_size";
/// What is proposed where there is none.
const BOUND_PROPOSED: &str = "16GB";

/// What is known of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Absent,
    /// It holds log from here on.
    Holding(Lsn),
    /// The server has taken what it held.
    Lost,
    /// Servers before 15 do not tell.
    Unknown,
}

/// The name of a capture's slot. Slots take lower-case letters, digits and underscores.
pub(super) fn name(owner: &str) -> Result<String> {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if (1..=40).contains(&owner.len()) && owner.bytes().all(is_plain) {
        return Ok(format!("strongroom_log_{owner}"));
    }
    Err(Error::internal("a capture's owner has a plain name").into())
}

pub(super) fn look(
    connection: &mut Connection,
    slot: &str,
    version: Version,
    watch: &Watch<'_>,
) -> Result<Found> {
    if version.major() < 15 {
        return Ok(Found::Unknown);
    }
    let rows = connection.query(&format!("READ_REPLICATION_SLOT {}", quote_identifier(slot)), watch)?;
    let [row] = rows.as_slice() else { return Err(Fault::hostile("no answer to READ_REPLICATION_SLOT")) };
    match (row.bytes(0)?, row.bytes(1)?) {
        (None, _) => Ok(Found::Absent),
        (Some(_), None) => Ok(Found::Lost),
        (Some(_), Some(_)) => Lsn::parse(row.text(1)?)
            .map(Found::Holding)
            .ok_or_else(|| Fault::hostile("a malformed log position")),
    }
}

/// Makes the slot, unless it is there; answers from where it holds log, where the server tells.
pub(super) fn create(
    connection: &mut Connection,
    slot: &str,
    version: Version,
    watch: &Watch<'_>,
) -> Result<Option<Lsn>> {
    let command = format!("CREATE_REPLICATION_SLOT {} PHYSICAL RESERVE_WAL", quote_identifier(slot));
    match connection.query(&command, watch) {
        Ok(_) => {}
        Err(Fault::Server(error)) if error.code == "42710" => {}
        Err(fault) => return Err(explain(fault)),
    }
    match look(connection, slot, version, watch)? {
        Found::Holding(position) => Ok(Some(position)),
        Found::Absent | Found::Lost | Found::Unknown => Ok(None),
    }
}

/// Takes the slot away, if it is there.
pub(super) fn drop(connection: &mut Connection, slot: &str, watch: &Watch<'_>) -> Result<()> {
    // The server may not have noticed yet that the last one who streamed from it is gone.
    let command = format!("DROP_REPLICATION_SLOT {} WAIT", quote_identifier(slot));
    match connection.query(&command, watch) {
        Ok(_) => Ok(()),
        Err(Fault::Server(error)) if error.code == "42704" => Ok(()),
        Err(fault) => Err(fault),
    }
}

/// The server's own bound in its own words; `None` where it has none.
pub(super) fn server_bound(connection: &mut Connection, watch: &Watch<'_>) -> Result<Option<String>> {
    let bound = server::show(connection, BOUND, watch)?;
    Ok((bound.trim() != "-1").then_some(bound))
}

pub(super) fn bound_remedy() -> String {
    change_setting(BOUND, BOUND_PROPOSED, TakesEffect::Reload)
}

/// A capture is not begun at a source that would keep log for it without an end.
pub(super) fn refuse_boundless(connection: &mut Connection, watch: &Watch<'_>) -> Result<()> {
    if server_bound(connection, watch)?.is_some() {
        return Ok(());
    }
    Err(Fault::Domain(
        Error::new(
            ErrorKind::SourceRefused,
            format!(
                "The source would keep log for a capture that nobody goes on with until its disk is full: {BOUND} is -1. \
                 No log is captured."
            ),
        )
        .with_hint(bound_remedy())
        .with_retry(Retry::Later),
    ))
}

fn explain(fault: Fault) -> Fault {
    match fault.server() {
        Some(server) if server.code == "53400" => Fault::Domain(
            Error::new(
                ErrorKind::SourceRefused,
                format!("The source has no replication slot left: {}. No log is captured.", server.quoted()),
            )
            .with_hint(change_setting("max_replication_slots", "20", TakesEffect::Restart))
            .with_retry(Retry::Later),
        ),
        _ => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_a_name_that_servers_take() {
        let owner = "019a0000000070008000000000000001in03";
        let name = name(owner).unwrap();
        assert!(name.len() <= 63 && name.ends_with(owner));
        for bad in ["", "a-b", "A", "a\"b", &"a".repeat(41)] {
            assert!(super::name(bad).is_err(), "{bad}");
        }
    }
}
