//! The timelines that a server went through, and where on them a capture goes on.

use serde_json::{Value, json};
use strongroom_core::engine::EngineKind;
use strongroom_core::logs::{LogPoint, LogPosition, LogStream, LogStreamId};

use crate::facts::Text;
use crate::lsn::{Lsn, SegmentSize};

/// A timeline as a server went through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) timeline: u32,
    /// Where it left the one before; 0 of the first one.
    pub(super) began: Lsn,
    /// Where the next one left it.
    ended: Option<Lsn>,
}

impl Stretch {
    pub(super) fn written_now(timeline: u32, began: Lsn) -> Self {
        Self { timeline, began, ended: None }
    }
}

/// From the first timeline to the one that is written now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Descent(Vec<Stretch>);

/// Where a capture goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resumption {
    pub(super) stretch: Stretch,
    pub(super) from: Lsn,
}

impl Descent {
    /// `switches` are the timelines before the current one, each with the position it was left at.
    pub(super) fn new(switches: &[(u32, Lsn)], current: u32) -> Self {
        let mut began = Lsn(0);
        let mut stretches = Vec::with_capacity(switches.len() + 1);
        for (timeline, ended) in switches {
            stretches.push(Stretch { timeline: *timeline, began, ended: Some(*ended) });
            began = *ended;
        }
        stretches.push(Stretch { timeline: current, began, ended: None });
        Self(stretches)
    }

    pub(super) fn current(&self) -> Stretch {
        *self.0.last().expect("there is always a current timeline")
    }

    /// The newest timeline of which log is held, and where that ends: or the next one, when it reaches
    /// to its end. What was captured of it behind that is another history by now.
    pub(super) fn resume(
        &self,
        size: SegmentSize,
        held_until: impl Fn(Stretch) -> Option<Lsn>,
    ) -> Option<Resumption> {
        let last = (0..self.0.len()).rev().find_map(|at| Some((at, held_until(self.0[at])?)));
        let (at, until) = last?;
        let stretch = self.0[at];
        match (stretch.ended, self.0.get(at + 1)) {
            (Some(ended), Some(next)) if until >= ended => {
                Some(Resumption { stretch: *next, from: size.start_of(size.segment_of(ended)) })
            }
            _ => Some(Resumption { stretch, from: until }),
        }
    }

    /// Where this timeline left the one before.
    pub(super) fn origin(&self, system: u64, stretch: Stretch, size: SegmentSize) -> Option<LogPoint> {
        let at = self.0.iter().position(|one| *one == stretch)?;
        let before = self.0.get(at.checked_sub(1)?)?;
        Some(LogPoint { stream: stream_id(system, *before), position: place(size, stretch.began) })
    }
}

/// A timeline number alone is not enough: a server that is brought back to an earlier state twice has
/// two of the same.
pub(super) fn stream_id(system: u64, stretch: Stretch) -> LogStreamId {
    let name = format!("{system:016x}-{:08x}-{:016x}", stretch.timeline, stretch.began.0);
    LogStreamId::parse(&name).expect("hex digits and dashes are a name")
}

/// Segments are files, by their number on the whole of the log.
pub(super) fn place(size: SegmentSize, position: Lsn) -> LogPosition {
    LogPosition { file: size.segment_of(position), offset: position.0 % size.bytes() }
}

/// The position of a place; `None` where no log can be.
pub(super) fn position(size: SegmentSize, place: LogPosition) -> Option<Lsn> {
    place.file.checked_mul(size.bytes())?.checked_add(place.offset).map(Lsn)
}

/// What is told about a timeline: what a restore needs of it beside its segments.
pub(super) fn stream(
    system: u64,
    stretch: Stretch,
    origin: Option<LogPoint>,
    size: SegmentSize,
    history: Option<&[u8]>,
) -> LogStream {
    LogStream {
        id: stream_id(system, stretch),
        engine: EngineKind::PostgreSql,
        origin,
        facts: json!({
            "format": 1,
            "system_identifier": system.to_string(),
            "timeline": stretch.timeline,
            "began": stretch.began,
            "segment_size_bytes": size,
            "history": history.map_or(Value::Null, |content| json!(Text::from(content))),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: u64 = 7;

    fn size() -> SegmentSize {
        SegmentSize::new(1 << 20).unwrap()
    }

    fn descent() -> Descent {
        Descent::new(&[(1, Lsn(0x35_0000)), (2, Lsn(0x70_0000))], 3)
    }

    #[test]
    fn a_capture_goes_on_where_it_was_and_along_the_way_the_server_went() {
        let resume = |held: &[(u32, u64)]| {
            let resumed = descent().resume(size(), |stretch| {
                held.iter().find(|(timeline, _)| *timeline == stretch.timeline).map(|(_, until)| Lsn(*until))
            });
            resumed.map(|found| (found.stretch.timeline, found.from.0))
        };
        assert_eq!(resume(&[]), None);
        assert_eq!(resume(&[(1, 0x30_0000)]), Some((1, 0x30_0000)));
        // To the end of it, or further than the server went: the segment of the switch comes again.
        assert_eq!(resume(&[(1, 0x35_0000)]), Some((2, 0x30_0000)));
        assert_eq!(resume(&[(1, 0x90_0000)]), Some((2, 0x30_0000)));
        assert_eq!(resume(&[(1, 0x35_0000), (2, 0x36_0000)]), Some((2, 0x36_0000)));
        assert_eq!(resume(&[(2, 0x70_0000)]), Some((3, 0x70_0000)));
        assert_eq!(resume(&[(1, 0x35_0000), (3, 0x71_0000)]), Some((3, 0x71_0000)));
        assert_eq!(resume(&[(4, 0x30_0000)]), None);
    }

    #[test]
    fn v03_streams_are_told_apart_by_where_they_began() {
        let (one, other) = (descent(), Descent::new(&[(1, Lsn(0x35_0000)), (2, Lsn(0x70_0001))], 3));
        assert_ne!(stream_id(SYSTEM, one.current()), stream_id(SYSTEM, other.current()));
        let origin = one.origin(SYSTEM, one.current(), size()).unwrap();
        assert_eq!(origin.position, LogPosition { file: 7, offset: 0 });
        assert_eq!(origin.stream.as_str(), "0000000000000007-00000002-0000000000350000");
        let first = Descent::new(&[], 1).current();
        assert_eq!(Descent::new(&[], 1).origin(SYSTEM, first, size()), None);
        assert_eq!(stream_id(SYSTEM, first).as_str(), "0000000000000007-00000001-0000000000000000");
        let place = place(size(), Lsn(0x35_0001));
        assert_eq!((place.file, place.offset, position(size(), place)), (3, 0x5_0001, Some(Lsn(0x35_0001))));
        assert_eq!(position(size(), LogPosition { file: u64::MAX, offset: 1 }), None);
    }
}
