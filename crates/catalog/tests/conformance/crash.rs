//! Kill −9 at any moment: what was answered is there, what was not is whole or absent.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use strongroom_core::backup::BackupState;
use strongroom_core::id::BackupId;

use crate::room::{self, Room};

/// Tells the child which database to write to.
const CHILD_URL: &str = "STRONGROOM_CATALOG_CRASH_URL";
const CHILD: &str = "crash::the_child_writes_until_it_is_killed";

/// The child's side: admits and publishes, and says the id of each backup once that is answered.
/// Started as an ordinary test it has no database to write to and only proves that it needs one.
#[tokio::test]
async fn the_child_writes_until_it_is_killed() {
    let Ok(url) = std::env::var(CHILD_URL) else { return };
    let room = Room::reopen(url).await;
    let instance = room.add_instance("source").await;
    for number in 0.. {
        let backup = room.add_completed(&instance, &format!("backup-{number}")).await;
        let line = format!("\nanswered {}\n", backup.id);
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        std::io::stdout().flush().unwrap();
    }
}

#[tokio::test]
async fn p01_what_was_answered_survives_kill_9() {
    for answers_before_kill in [1, 4, 15] {
        let room = room::sqlite_file().await.unwrap();
        room.catalog.close().await;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([CHILD, "--exact", "--nocapture"])
            .env(CHILD_URL, &room.url)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let answered: Vec<BackupId> = lines
            .filter_map(|line| line.strip_prefix("answered ").map(BackupId::from_stored))
            .take(answers_before_kill)
            .collect();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(answered.len(), answers_before_kill);

        let heir = Room::reopen(room.url.clone()).await;
        for id in answered {
            let backup = heir.catalog.backup_by_id(&id).await.unwrap().expect("it was answered");
            assert_eq!(backup.state, BackupState::Completed);
        }
        heir.assert_whole().await;
        heir.catalog.ping().await.unwrap();
    }
}
