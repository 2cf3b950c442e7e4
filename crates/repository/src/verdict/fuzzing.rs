//! Verdicts, as the fuzzer calls them.

use strongroom_core::engine::SourceIdentity;
use strongroom_core::parent::Reading;

use super::{
    AttemptId, BackupFacts, BackupId, BackupType, CatalogRecord, Cursor, EngineKind, InstanceId, Kind,
    NodeId, Opened, PlainHeader, ProjectId, Root, Totals, frame, is_abandoned, layout, open, seal, summarise,
    write_abandoned, write_sealed,
};
use crate::keys::fuzzing::fixed;
use crate::pack::PackId;
use crate::tree::{Location, NodeRef, PageRef, RootDocument};

/// What the part that is readable has, after the state.
const PLAIN_BYTES: usize = 16 + 16 + 4 + 16 + 16 + 4 * 8;

fn attempt() -> AttemptId {
    AttemptId::from_bytes([9; 16])
}

/// An object as it is, or what is in one; and a readable part and a root that are sealed first. What
/// is taken is taken again when it is written, and no bit of it can be another.
pub(crate) fn verdict(bytes: &[u8]) -> bool {
    let keys = fixed();
    let key = layout::verdict(&keys.lineage, attempt());
    let is_whole = open(&keys, attempt(), bytes).is_ok();
    assert_eq!(is_abandoned(&key, bytes), matches!(open(&keys, attempt(), bytes), Ok(Opened::Abandoned)));
    let _ = open(&keys, attempt(), &frame::wrap(Kind::Verdict, &key, bytes));
    let Some((plain, root)) = bytes.split_at_checked(PLAIN_BYTES) else { return is_whole };
    let mut header = PlainHeader::parse(&mut Cursor::new(plain)).expect("it has its length");
    header.attempt = attempt();
    let object = seal(&keys, &header, root.to_vec());
    let opened = open(&keys, attempt(), &object);
    assert_eq!(opened.is_ok(), Root::parse(root).is_ok());
    let Ok(Opened::Sealed { header: found, root }) = opened else { return is_whole };
    assert_eq!(found, header);
    let _ = summarise(&header, &root, &object, false);
    let again = open(&keys, attempt(), &write_sealed(&keys, &header, &root));
    assert!(matches!(again, Ok(Opened::Sealed { header: found, .. }) if found == header));
    let payload = frame::unwrap(&key, Kind::Verdict, &object).expect("it was opened");
    for share in 0..16 {
        let mut flipped = payload.to_vec();
        flipped[payload.len() * share / 16] ^= 1 << (share % 8);
        assert!(open(&keys, attempt(), &frame::wrap(Kind::Verdict, &key, &flipped)).is_err(), "{share}");
    }
    true
}

pub(crate) fn abandoned() -> Vec<u8> {
    write_abandoned(&layout::verdict(&fixed().lineage, attempt()))
}

pub(crate) fn sealed() -> Vec<u8> {
    let keys = fixed();
    let header = PlainHeader {
        project: *keys.project_raw(),
        lineage: *keys.lineage_raw(),
        key_epoch: keys.key_epoch,
        attempt: attempt(),
        parent: [0; 16],
        sealed_at_us: 1_700_000_000_000_000,
        source_bytes: 1,
        // The size of the object comes on top.
        stored_bytes: u64::MAX,
        members: 1,
    };
    [&header.write()[1..], &one().write()].concat()
}

pub(crate) fn root_of_one() -> Vec<u8> {
    one().write()
}

fn one() -> Root {
    let node = |slot| NodeRef {
        id: [slot as u8; 32],
        at: Location {
            pack: PackId { attempt: attempt(), n: 0 },
            generation: 0,
            salt: [2; 16],
            slot,
            encoding: 1,
            plain_length: 64,
            offset: 160,
            length: 96,
        },
    };
    let page = PageRef { first_path: b"data/base/1".to_vec(), members: 1, node: node(0) };
    Root { document: document(), pages: vec![page], rosters: vec![node(1)] }
}

fn document() -> RootDocument {
    let raw = uuid::Uuid::from_u128(1);
    RootDocument {
        lease_epoch: 1,
        writer: "strongroom".to_owned(),
        facts: BackupFacts {
            identity: SourceIdentity {
                engine: EngineKind::PostgreSql,
                version: "15.18".to_owned(),
                system_identifier: "7".to_owned(),
            },
            engine: serde_json::json!({"format": 1}),
            warnings: Vec::new(),
            damage: Vec::new(),
            reading: Reading::FullStream { reason: None },
            log: None,
        },
        catalog: CatalogRecord {
            backup_id: BackupId::from_stored("b"),
            backup_name: "name".to_owned(),
            description: None,
            backup_type: BackupType::Manual,
            created_us: 1,
            project_id: ProjectId::issue(raw),
            project_name: "p".to_owned(),
            instance_id: InstanceId::from_stored("i"),
            node_id: NodeId::from_stored("n"),
            instance_name: "instance".to_owned(),
            engine: EngineKind::PostgreSql,
            host: "h".to_owned(),
            port: 5432,
            user: "u".to_owned(),
        },
        totals: Totals::default(),
        roster_packs: vec![(1, 320)],
        content_of: None,
    }
}
