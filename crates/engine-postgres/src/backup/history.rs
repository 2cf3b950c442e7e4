//! The history of the timelines a cluster went through, stored beside its log.

use strongroom_core::engine::BackupSink;
use strongroom_core::member::Dedupe;

use super::small;
use crate::connection::{Connection, Watch};
use crate::fault::{Fault, Result};

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

fn fetch(connection: &mut Connection, timeline: u32, watch: &Watch<'_>) -> Result<Vec<u8>> {
    let rows = connection.query(&format!("TIMELINE_HISTORY {timeline}"), watch)?;
    let [row] = rows.as_slice() else { return Err(Fault::hostile("no answer to TIMELINE_HISTORY")) };
    if row.text(0)? != file_name(timeline) {
        return Err(Fault::hostile("the history of another timeline"));
    }
    Ok(row.bytes(1)?.unwrap_or_default().to_vec())
}

fn store(sink: &dyn BackupSink, timeline: u32, content: &[u8]) -> Result<String> {
    let name = file_name(timeline);
    small::store(sink, &format!("wal/{name}"), content, Dedupe::Never)?;
    Ok(name)
}

fn file_name(timeline: u32) -> String {
    format!("{timeline:08X}.history")
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
    use super::ancestors;

    #[test]
    fn a_history_names_its_ancestors() {
        let history =
            b"1\t0/30000D8\tno recovery target specified\n\n# kept\n3\t0/5000000\tbefore 2026\n3\t0/6\tx\n";
        assert_eq!(ancestors(history), [1, 3]);
        assert!(ancestors(b"\xff\xfe\n").is_empty());
    }
}
