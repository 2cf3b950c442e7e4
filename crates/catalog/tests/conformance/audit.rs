//! The audit chain, whole and damaged.

use strongroom_core::ErrorKind;

use crate::room::{self, Room};

pub(crate) async fn i10_every_change_is_in_the_chain_and_the_chain_holds(room: &Room) {
    assert_eq!(room.catalog.audit_verify().await.unwrap(), 1);
    let instance = room.add_instance("source").await;
    room.add_completed(&instance, "nightly").await;
    assert_eq!(room.catalog.audit_verify().await.unwrap(), 4);

    let records = room.catalog.audit_list(&room.project, 2).await.unwrap();
    let actions: Vec<&str> = records.iter().map(|record| record.action.as_str()).collect();
    assert_eq!(actions, ["backup.complete", "backup.create"]);
    assert_eq!(records[0].sequence, 4);
    assert_eq!(records[0].detail, room.audit("any").detail);
}

#[tokio::test]
async fn i10_a_changed_removed_or_cut_chain_is_found() {
    for damage in [
        "UPDATE audit_events SET actor = 'somebody else' WHERE sequence = 2",
        "UPDATE audit_events SET at = at + 1 WHERE sequence = 2",
        "UPDATE audit_events SET detail = '{}' WHERE sequence = 2",
        "UPDATE audit_events SET request_id = NULL WHERE sequence = 2",
        "UPDATE audit_events SET digest = previous WHERE sequence = 2",
        "DELETE FROM audit_events WHERE sequence = 2",
        "DELETE FROM audit_events WHERE sequence = 4",
        "UPDATE audit_events SET sequence = sequence + 10 WHERE sequence = 4",
        "UPDATE audit_heads SET sequence = 3",
    ] {
        let room = room::sqlite_file().await.unwrap();
        let instance = room.add_instance("source").await;
        room.add_completed(&instance, "nightly").await;
        assert_eq!(room.catalog.audit_verify().await.unwrap(), 4);

        let pool = room.raw_pool().await;
        assert_eq!(sqlx::query(damage).execute(&pool).await.unwrap().rows_affected(), 1);
        let found = room.catalog.audit_verify().await.unwrap_err();
        assert_eq!(found.kind(), ErrorKind::Damage, "{damage}");
    }
}
