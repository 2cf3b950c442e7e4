//! Lists of blocks, honest and other.

use std::collections::BTreeMap;

use proptest::prelude::*;
use strongroom_core::ErrorKind;

use super::*;

const SEGMENT: u32 = 2048;

/// A list as a server writes it; `blocks` need not be right.
fn list(magic: u32, truncation: u32, blocks: &[(u32, u8)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [magic, u32::try_from(blocks.len()).unwrap(), truncation] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for (block, _) in blocks {
        bytes.extend_from_slice(&block.to_le_bytes());
    }
    if !blocks.is_empty() {
        bytes.resize(bytes.len().next_multiple_of(PAGE_SIZE_BYTES), 0);
    }
    for (_, fill) in blocks {
        bytes.resize(bytes.len() + PAGE_SIZE_BYTES, *fill);
    }
    bytes
}

/// Reads a list in pieces and puts the file together from it and the earlier one.
fn reconstruct(bytes: &[u8], earlier: &[u8], cuts: &[usize]) -> strongroom_core::Result<Vec<u8>> {
    let mut reader = BlockList::new(bytes.len() as u64, SEGMENT);
    let (mut file, mut rest) = (Vec::new(), bytes);
    for cut in cuts.iter().cycle() {
        let (mut piece, after) = rest.split_at((*cut).min(rest.len()));
        while let Some(event) = reader.next(&mut piece)? {
            match event {
                BlockEvent::Begin => {
                    file = vec![0; reader.file_blocks() as usize * PAGE_SIZE_BYTES];
                    let kept = earlier.len().min(reader.kept_blocks() as usize * PAGE_SIZE_BYTES);
                    file[..kept].copy_from_slice(&earlier[..kept]);
                }
                BlockEvent::Bytes { block, offset, bytes } => {
                    let start = block as usize * PAGE_SIZE_BYTES + offset;
                    file[start..start + bytes.len()].copy_from_slice(bytes);
                }
            }
        }
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    assert!(reader.is_complete());
    Ok(file)
}

/// The rules of the format, block by block.
fn model(earlier: &[u8], truncation: u32, blocks: &BTreeMap<u32, u8>) -> Vec<u8> {
    let length = truncation.max(blocks.keys().next_back().map_or(0, |last| last + 1));
    let mut file = Vec::new();
    for block in 0..length {
        let start = block as usize * PAGE_SIZE_BYTES;
        match (blocks.get(&block), earlier.get(start..start + PAGE_SIZE_BYTES)) {
            (Some(fill), _) => file.resize(file.len() + PAGE_SIZE_BYTES, *fill),
            (None, Some(page)) if block < truncation => file.extend_from_slice(page),
            (None, _) => file.resize(file.len() + PAGE_SIZE_BYTES, 0),
        }
    }
    file
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_is_what_the_rules_say(
        earlier_blocks in 0_usize..20,
        truncation in 0_u32..25,
        blocks in prop::collection::btree_map(0_u32..30, 2_u8.., 0..12),
        cuts in prop::collection::vec(1_usize..20_000, 1..9),
    ) {
        let earlier = vec![1; earlier_blocks * PAGE_SIZE_BYTES];
        let listed: Vec<_> = blocks.iter().map(|(block, fill)| (*block, *fill)).collect();
        let bytes = list(MAGIC, truncation, &listed);
        let file = reconstruct(&bytes, &earlier, &cuts).unwrap();
        prop_assert!(file == model(&earlier, truncation, &blocks));
    }

    #[test]
    fn h06_garbage_is_refused_and_never_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        has_magic in any::<bool>(),
        announced in any::<u64>(),
    ) {
        let mut bytes = bytes;
        if has_magic && bytes.len() > 4 {
            bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        }
        let mut reader = BlockList::new(announced, SEGMENT);
        let mut input = bytes.as_slice();
        while let Ok(Some(_)) = reader.next(&mut input) {}
        prop_assert!(reader.blocks.capacity() <= SEGMENT as usize);
    }
}

#[test]
fn h06_lists_that_lie() {
    let refused = |bytes: &[u8], announced: u64, what: &str| {
        let mut reader = BlockList::new(announced, SEGMENT);
        let mut input = bytes;
        let error = loop {
            match reader.next(&mut input) {
                Err(error) => break error,
                Ok(Some(_)) => {}
                Ok(None) => panic!("{what}: believed"),
            }
        };
        assert_eq!(error.kind(), ErrorKind::SourceHostile);
        assert!(error.public().contains(what), "{error}");
    };
    let honest = list(MAGIC, 9, &[(3, 7), (4, 8)]);
    let size = honest.len() as u64;
    refused(&list(MAGIC + 1, 9, &[]), 12, "does not begin");
    refused(&honest, size + 1, "instead of");
    refused(&honest, size - 1, "instead of");
    refused(&list(MAGIC, 9, &[]), 13, "instead of");
    refused(&list(MAGIC, 9, &[(4, 7), (3, 8)]), size, "out of order");
    refused(&list(MAGIC, 9, &[(3, 7), (3, 8)]), size, "out of order");
    refused(&list(MAGIC, 9, &[(3, 7), (SEGMENT, 8)]), size, "out of order");
    let mut crowded = list(MAGIC, 9, &[]);
    crowded[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    refused(&crowded, 12, "more than a file has");
    let mut smuggled = honest;
    smuggled[100] = 1;
    refused(&smuggled, size, "something between");
}

#[test]
fn a_truncation_beyond_the_segment_is_told() {
    let bytes = list(MAGIC, SEGMENT + 1, &[]);
    let mut reader = BlockList::new(12, SEGMENT);
    assert_eq!(reader.next(&mut bytes.as_slice()).unwrap(), Some(BlockEvent::Begin));
    assert!(reader.is_beyond_segment());
}

#[test]
fn names_of_lists() {
    assert_eq!(listed_file(b"base/5/INCREMENTAL.1259.1").unwrap(), b"base/5/1259.1");
    assert_eq!(list_of(b"base/5/1259.1"), b"base/5/INCREMENTAL.1259.1");
    for none in [&b"base/5/1259"[..], b"base/INCREMENTAL./1259", b"INCREMENTAL.1"] {
        assert_eq!(listed_file(none), None, "{}", none.escape_ascii());
    }
}
