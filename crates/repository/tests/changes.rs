//! Any sequence of changes: after each, the backup is the map of paths to bytes that was given.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::sync::Arc;

use proptest::prelude::*;
use room::{Members, Room, pages};
use strongroom_core::engine::CancelToken;
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_repository::MemoryStore;

#[derive(Debug, Clone)]
enum Change {
    Patch { member: u8, at: u32, length: u16, byte: u8 },
    Truncate { member: u8, size: u32 },
    Grow { member: u8, by: u32, seed: u64 },
    Rename { member: u8, to: u8 },
    Remove { member: u8 },
    Create { member: u8, size: u32, seed: u64 },
    Rewrite { member: u8, seed: u64 },
}

fn change() -> impl Strategy<Value = Change> {
    let member = 0..6_u8;
    prop_oneof![
        6 => (member.clone(), any::<u32>(), 1..9000_u16, any::<u8>())
            .prop_map(|(member, at, length, byte)| Change::Patch { member, at, length, byte }),
        1 => (member.clone(), any::<u32>()).prop_map(|(member, size)| Change::Truncate { member, size }),
        1 => (member.clone(), 1..200_000_u32, any::<u64>())
            .prop_map(|(member, by, seed)| Change::Grow { member, by, seed }),
        1 => (member.clone(), member.clone()).prop_map(|(member, to)| Change::Rename { member, to }),
        1 => member.clone().prop_map(|member| Change::Remove { member }),
        1 => (member.clone(), 0..400_000_u32, any::<u64>())
            .prop_map(|(member, size, seed)| Change::Create { member, size, seed }),
        1 => (member, any::<u64>()).prop_map(|(member, seed)| Change::Rewrite { member, seed }),
    ]
}

fn path(member: u8) -> Vec<u8> {
    format!("data/base/1/{member}").into_bytes()
}

fn apply(members: &mut Members, change: &Change) {
    match change {
        Change::Patch { member, at, length, byte } => {
            if let Some(content) = members.get_mut(&path(*member)).filter(|content| !content.is_empty()) {
                let at = *at as usize % content.len();
                let end = (at + usize::from(*length)).min(content.len());
                content[at..end].fill(*byte);
            }
        }
        Change::Truncate { member, size } => {
            if let Some(content) = members.get_mut(&path(*member)) {
                content.truncate(*size as usize % (content.len() + 1));
            }
        }
        Change::Grow { member, by, seed } => {
            if let Some(content) = members.get_mut(&path(*member)) {
                content.extend(pages(*seed, *by as usize));
            }
        }
        Change::Rename { member, to } => {
            if let Some(content) = members.remove(&path(*member)) {
                members.insert(path(*to), content);
            }
        }
        Change::Remove { member } => {
            members.remove(&path(*member));
        }
        Change::Create { member, size, seed } => {
            members.insert(path(*member), pages(*seed, *size as usize));
        }
        Change::Rewrite { member, seed } => {
            if let Some(content) = members.get_mut(&path(*member)) {
                *content = pages(*seed, content.len());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]
    #[test]
    fn f02_f18_any_changes_read_back_through_chains_of_five_records(
        rounds in prop::collection::vec(prop::collection::vec(change(), 0..5), 7..10)
    ) {
        let room = Room::new(Arc::new(MemoryStore::new()));
        let mut members: Members =
            (0..4_u8).map(|member| (path(member), pages(u64::from(member), 150_000))).collect();
        let (mut kept, mut parent) = (Vec::new(), None);
        for changes in &rounds {
            // A chain longer than five records is refused by whoever reads the segment.
            let summary = room.back_up(&members, parent).unwrap();
            parent = Some(summary.attempt);
            kept.push((summary.attempt, members.clone()));
            for change in changes {
                apply(&mut members, change);
            }
        }
        for (attempt, members) in &kept {
            prop_assert_eq!(&room.read(*attempt).unwrap(), members);
        }
        // Every base of every chain stands in a roster: without one of the packs it is missed.
        let report = room.repository.check(Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
        prop_assert!(report.passed(), "{:#?}", report);
    }
}
