//! A restore that is too big for the page cache, from a connection that breaks.

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use strongroom_core::engine::{BackupFacts, CancelToken, EngineKind, SourceIdentity};
use strongroom_core::member::{MemberKind, MemberPath};
use strongroom_core::parent::Reading;
use strongroom_core::progress::Progress;
use strongroom_core::{Error, ErrorKind, Result, Retry};
use strongroom_repository::{Frame, FrameBody, SEGMENT_SIZE_BYTES};
use strongroom_restore::{ContentEvent, ContentSource, MemberInfo, RestoreOptions, plan, run};

const CHUNK_BYTES: u64 = 128 << 10;
/// Mostly holes, with an odd end.
const BIG_BYTES: u64 = 24 * SEGMENT_SIZE_BYTES + 3 * CHUNK_BYTES + 77;
const SMALL_BYTES: u64 = 5_000;
/// In each segment the first chunks are data, then there are zeroes, then one more chunk of data.
const DATA_CHUNKS: u64 = 21;

/// Two files; every third request ends in the middle.
struct Breaking {
    asked: AtomicU32,
    /// Segments that came whole.
    told: Mutex<Vec<(u64, u32)>>,
}

fn chunk(member: u64, offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&member.to_le_bytes()).update(&offset.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// The frames of a segment, as offset, length and whether it is data.
fn frames(size: u64, segment: u32) -> Vec<(u64, u64, bool)> {
    let begin = u64::from(segment) * SEGMENT_SIZE_BYTES;
    let end = size.min(begin + SEGMENT_SIZE_BYTES);
    let (mut frames, mut offset) = (Vec::new(), begin);
    while offset < end {
        let chunks_before = (offset - begin) / CHUNK_BYTES;
        let rest = end - offset;
        let frame = if chunks_before < DATA_CHUNKS || rest <= CHUNK_BYTES {
            (offset, rest.min(CHUNK_BYTES), true)
        } else {
            (offset, rest.div_ceil(CHUNK_BYTES).saturating_sub(1) * CHUNK_BYTES, false)
        };
        frames.push(frame);
        offset += frame.1;
    }
    frames
}

impl ContentSource for Breaking {
    fn members(&self, out: &mut dyn FnMut(MemberInfo) -> Result<()>) -> Result<()> {
        for (index, (path, size)) in [("data/big", BIG_BYTES), ("data/small", SMALL_BYTES)].iter().enumerate()
        {
            out(MemberInfo {
                index: index as u64,
                path: MemberPath::parse(path.as_bytes())?,
                kind: MemberKind::File,
                size: *size,
                mode: 0o600,
                mtime_s: 1_700_000_000,
                segments: size.div_ceil(SEGMENT_SIZE_BYTES) as u32,
            })?;
        }
        Ok(())
    }

    fn content(
        &self,
        segments: &[(u64, u32)],
        out: &mut dyn FnMut(ContentEvent) -> Result<()>,
    ) -> Result<()> {
        let breaks = self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(3);
        for (member, segment) in segments {
            let size = if *member == 0 { BIG_BYTES } else { SMALL_BYTES };
            for (at, (offset, length, is_data)) in frames(size, *segment).into_iter().enumerate() {
                if breaks && at == 13 {
                    return Err(
                        Error::new(ErrorKind::Unavailable, "The connection broke.").with_retry(Retry::Later)
                    );
                }
                let body = if is_data {
                    FrameBody::Data(chunk(*member, offset, length))
                } else {
                    FrameBody::Fill { byte: 0, length }
                };
                out(ContentEvent::Frame(Frame { member: *member, segment: *segment, offset, body }))?;
            }
            out(ContentEvent::SegmentEnd { member: *member, segment: *segment })?;
            self.told.lock().expect("no thread panics with it").push((*member, *segment));
        }
        out(ContentEvent::End { segments: segments.len() as u64 })
    }
}

fn facts() -> BackupFacts {
    BackupFacts {
        identity: SourceIdentity {
            engine: EngineKind::PostgreSql,
            version: "15.1".to_owned(),
            system_identifier: "1".to_owned(),
        },
        engine: serde_json::json!({}),
        warnings: Vec::new(),
        damage: Vec::new(),
        reading: Reading::default(),
        log: None,
    }
}

#[test]
fn s05_a_big_restore_over_a_breaking_connection_writes_every_byte_and_keeps_the_holes() {
    let folder = tempfile::tempdir().unwrap();
    let options = RestoreOptions {
        target: folder.path().join("target"),
        tablespace_map: Vec::new(),
        port: None,
        streams: 3,
    };
    let source = Breaking { asked: AtomicU32::new(0), told: Mutex::default() };
    let plan = plan(&options, "digest", BIG_BYTES + SMALL_BYTES, &[]).unwrap();
    let (progress, cancel) = (Progress::new(), CancelToken::new());
    let restored = run(&source, &plan, &options, "digest", &facts(), None, (&progress, &cancel)).unwrap();
    assert_eq!((restored.members, restored.bytes), (2, BIG_BYTES + SMALL_BYTES));

    let big = std::fs::File::open(options.target.join("big")).unwrap();
    let known = big.metadata().unwrap();
    assert_eq!((known.len(), known.permissions().mode() & 0o777), (BIG_BYTES, 0o600));
    let mut data_bytes = 0;
    for segment in 0..BIG_BYTES.div_ceil(SEGMENT_SIZE_BYTES) as u32 {
        for (offset, length, is_data) in frames(BIG_BYTES, segment) {
            // Of zeroes only both ends are looked at: between them is gigabytes of nothing.
            let spots = if is_data {
                vec![(offset, length)]
            } else {
                vec![(offset, CHUNK_BYTES), (offset + length - CHUNK_BYTES, CHUNK_BYTES)]
            };
            data_bytes += if is_data { length } else { 0 };
            for (offset, length) in spots {
                let mut found = vec![1; length as usize];
                big.read_exact_at(&mut found, offset).unwrap();
                let wanted = if is_data { chunk(0, offset, length) } else { vec![0; length as usize] };
                assert!(found == wanted, "{length} bytes at {offset}");
            }
        }
    }
    assert!(known.blocks() * 512 < data_bytes + (1 << 20), "{} blocks: holes were filled", known.blocks());
    assert!(std::fs::read(options.target.join("small")).unwrap() == chunk(1, 0, SMALL_BYTES));
    // Nothing that had come whole was asked for again.
    let mut told = source.told.into_inner().unwrap();
    let count = told.len();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), count);
    assert!(source.asked.into_inner() > 10, "the connection broke and was tried again");
}
