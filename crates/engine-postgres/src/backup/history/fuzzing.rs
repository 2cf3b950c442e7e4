//! Timeline histories, as the fuzzer calls them.

use super::{Lsn, ancestors, descends, switches};

/// Whoever was left is an ancestor; the history that is read says the same when it is written again,
/// and a server went through its own.
pub(crate) fn timeline_history(bytes: &[u8]) -> bool {
    let (ancestors, switches) = (ancestors(bytes), switches(bytes));
    assert!(ancestors.is_sorted_by(|a, b| a < b));
    assert!(switches.iter().all(|(timeline, _)| ancestors.binary_search(timeline).is_ok()));
    assert_eq!(super::switches(written(&switches).as_bytes()), switches);
    assert!(descends(bytes, bytes, (7, Lsn(0)), 7));
    for (at, (timeline, position)) in switches.iter().enumerate() {
        let is_first = switches[..at].iter().all(|(other, _)| other != timeline);
        let earlier = written(&switches[..at]);
        let later = timeline.wrapping_add(1);
        assert!(!is_first || descends(bytes, earlier.as_bytes(), (*timeline, *position), later));
    }
    !switches.is_empty()
}

fn written(switches: &[(u32, Lsn)]) -> String {
    let line = |(timeline, position): &(u32, Lsn)| format!("{timeline}\t{position}\tx\n");
    switches.iter().map(line).collect::<Vec<_>>().concat()
}
