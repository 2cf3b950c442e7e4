//! The history of the timelines a cluster went through, stored beside its log.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use strongroom_core::engine::BackupSink;
use strongroom_core::member::Dedupe;

use super::small;
use crate::connection::{Connection, Watch};
use crate::fault::{Fault, Result};
use crate::lsn::Lsn;

/// Stores the history file of this timeline and of each one it descends from; answers with
/// their names. The file of this timeline names its ancestors. Files of ancestors that the
/// server no longer has are left out: a restore of this backup does not need them.
pub(super) fn capture(
    connection: &mut Connection,
    sink: &dyn BackupSink,
    timeline: u32,
    watch: &Watch<'_>,
) -> Result<Vec<String>> {
    // The first timeline has no history.
    if timeline <= 1 {
        return Ok(Vec::new());
    }
    let content = fetch(connection, timeline, watch)?;
    let mut names = vec![store(sink, timeline, &content)?];
    for ancestor in ancestors(&content) {
        if ancestor <= 1 || ancestor >= timeline {
            continue;
        }
        match fetch(connection, ancestor, watch) {
            Ok(content) => names.push(store(sink, ancestor, &content)?),
            Err(Fault::Server(error)) if !error.is_fatal() => {
                tracing::debug!(ancestor, "the history of an ancestor is gone: {}", error.quoted());
            }
            Err(fault) => return Err(fault),
        }
    }
    names.sort();
    Ok(names)
}

pub(crate) fn fetch(connection: &mut Connection, timeline: u32, watch: &Watch<'_>) -> Result<Vec<u8>> {
    let rows = connection.query(&format!("TIMELINE_HISTORY {timeline}"), watch)?;
    let [row] = rows.as_slice() else { return Err(Fault::hostile("no answer to TIMELINE_HISTORY")) };
    if row.text(0)? != file_name(timeline) {
        return Err(Fault::hostile("the history of another timeline"));
    }
    Ok(row.bytes(1)?.unwrap_or_default().to_vec())
}

/// Where a timeline left the one before; 0 of the first one.
pub(super) fn beginning(connection: &mut Connection, timeline: u32, watch: &Watch<'_>) -> Result<Lsn> {
    if timeline <= 1 {
        return Ok(Lsn(0));
    }
    Ok(switches(&fetch(connection, timeline, watch)?).last().map_or(Lsn(0), |(_, position)| *position))
}

fn store(sink: &dyn BackupSink, timeline: u32, content: &[u8]) -> Result<String> {
    let name = file_name(timeline);
    small::store(sink, &format!("wal/{name}"), content, Dedupe::Never)?;
    Ok(name)
}

pub(crate) fn file_name(timeline: u32) -> String {
    format!("{timeline:08X}.history")
}

/// Whether a server that stands on `timeline`, with this history, went through `point` (a timeline
/// and a position on it) of a cluster with the history `earlier`.
pub(super) fn descends(servers: &[u8], earlier: &[u8], point: (u32, Lsn), timeline: u32) -> bool {
    let (servers, earlier) = (switches(servers), switches(earlier));
    if timeline == point.0 {
        return servers == earlier;
    }
    let Some(at) = servers.iter().position(|(ancestor, _)| *ancestor == point.0) else { return false };
    servers[..at] == earlier && servers[at].1 >= point.1
}

/// Each timeline of a history with the position at which it was left.
pub(crate) fn switches(content: &[u8]) -> Vec<(u32, Lsn)> {
    let text = String::from_utf8_lossy(content);
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        if let (Some(timeline), Some(position)) = (fields.next(), fields.next())
            && let (Ok(timeline), Some(position)) = (timeline.parse(), Lsn::parse(position))
        {
            found.push((timeline, position));
        }
    }
    found
}

/// The first field of each line is a timeline; comments and empty lines may stand between.
fn ancestors(content: &[u8]) -> Vec<u32> {
    let text = String::from_utf8_lossy(content);
    let mut found: Vec<u32> =
        text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::{ancestors, descends};
    use crate::lsn::Lsn;

    #[test]
    fn a_descendant_went_through_the_end_of_the_earlier_backup() {
        let history = b"1\t0/3000000\tpromoted\n2\t0/5000000\tpromoted\n";
        let through = |point: (u32, u64), earlier: &[u8], timeline| {
            descends(history, earlier, (point.0, Lsn(point.1)), timeline)
        };
        assert!(through((1, 0x300_0000), b"", 3));
        assert!(!through((1, 0x300_0001), b"", 3), "the switch came before its end");
        assert!(through((2, 0x400_0000), b"1\t0/3000000\tother words\n", 3));
        assert!(!through((2, 0x400_0000), b"1\t0/2000000\tpromoted\n", 3), "another second timeline");
        assert!(through((3, 0x900_0000), history, 3));
        assert!(!through((3, 0x900_0000), b"1\t0/3000000\tx\n", 3));
        assert!(!through((7, 0), b"", 3));
        assert!(descends(b"", b"", (1, Lsn(5)), 1));
    }

    #[test]
    fn a_history_names_its_ancestors() {
        let history =
            b"1\t0/30000D8\tno recovery target specified\n\n# kept\n3\t0/5000000\tbefore 2026\n3\t0/6\tx\n";
        assert_eq!(ancestors(history), [1, 3]);
        assert!(ancestors(b"\xff\xfe\n").is_empty());
    }
}
