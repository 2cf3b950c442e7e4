//! Backups that are built on the one before them, and what becomes of them when it is damaged.

use serde_json::{Value, json};
use strongroom_core::backup::{Backup, BackupState};
use strongroom_core::job::JobState;
use strongroom_core::verification::{Level, Outcome};
use strongroom_repository::Store;

use crate::checks::verified;
use crate::engine::Act;
use crate::room::Room;

/// What the steps of a backup's job say about block lists, and the names of all steps.
async fn steps(room: &Room, backup: &Backup) -> (Vec<Value>, Vec<String>) {
    let steps = room.judge.catalog.job_steps(&backup.job_id).await.unwrap();
    let said = steps.iter().filter(|step| step.name == "stream");
    let said = said.map(|step| step.output["block_lists"].clone()).collect();
    (said, steps.into_iter().map(|step| step.name).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_is_enough_and_the_record_says_so() {
    let room = Room::new().await;
    room.engine.play([Act::Changes, Act::Changes]);
    let first = room.completed("first").await;
    let wanted = json!({ "used": false, "reason": "there is no earlier backup" });
    assert_eq!(steps(&room, &first).await.0, [wanted]);
    room.engine.touch(3);
    let second = room.completed("second").await;
    let wanted = json!({ "used": true, "since": "0/1", "patched_files": 1, "received_blocks": 10 });
    assert_eq!(steps(&room, &second).await.0, [wanted]);
    assert!(second.stored_bytes.unwrap() < first.stored_bytes.unwrap());
    room.assert_all_restore().await;
    assert_eq!(verified(&room, &second, Level::Decode).await.0, Outcome::Passed);
}

/// The parent's table cannot be read: one job, one try, two attempts, a note, and right bytes.
#[tokio::test(flavor = "multi_thread")]
async fn f13_a_damaged_parent_is_not_built_upon() {
    let room = Room::new().await;
    let first = room.completed("first").await;
    for key in room.keys(&format!("/pk/{}/", first.attempt_id.unwrap())) {
        let mut bytes = room.objects.get(&key).unwrap().unwrap();
        // Byte 12 tells packs of data from those of trees; the table is the first thing of size.
        if bytes[12] == 0 {
            let middle = bytes.len() / 2;
            bytes[middle..middle + 64].fill(0x5a);
            room.objects.overwrite(&key, bytes);
        }
    }
    room.engine.touch(9);
    room.engine.play([Act::Changes, Act::Changes]);
    let second = room.completed("second").await;
    let (said, names) = steps(&room, &second).await;
    assert_eq!(names, ["plan", "open", "fallback", "stream", "prove", "seal"]);
    assert_eq!(said, [json!({ "used": false, "reason": "the earlier backup is damaged" })]);
    let job = room.job(&second.job_id).await;
    assert_eq!((job.state, job.attempts), (JobState::Succeeded, 1));
    assert_eq!(second.state, BackupState::Completed);
    let note = second.warnings.iter().find(|warning| warning.contains("An earlier backup is damaged"));
    assert!(note.is_some_and(|note| note.contains("/pk/")), "{:?}", second.warnings);
    assert!(room.open_attempts().is_empty() && room.keys("/in/").is_empty());
    room.assert_restores(&second).await;
    assert_eq!(room.sealed()[1].parent, None, "what is damaged is not taken over unread");
}
