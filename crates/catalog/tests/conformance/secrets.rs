//! What a thief of the database file gets, and what a wrong key gets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;
use strongroom_catalog::{AccessKey, Catalog, Role};
use strongroom_core::ErrorKind;

use crate::room::{self, KEY, PASSWORD, Room, SystemRandomness};

const SECRET_KEY: &str = "canary-secret-of-an-access-key";

async fn room_with_secrets() -> Room {
    let room = room::sqlite_file().await.unwrap();
    room.add_instance("source").await;
    let user = room.add_user("ada").await;
    let key = AccessKey {
        id: "AK1".to_owned(),
        user_id: user.id,
        project_id: room.project.clone(),
        role: Role::Admin,
        created: room.now(),
    };
    let secret = SecretString::from(SECRET_KEY);
    room.catalog.access_key_create(&key, &secret, &room.audit("access_key.create")).await.unwrap();
    room
}

fn files_of(room: &Room) -> Vec<std::path::PathBuf> {
    let database = Path::new(room.url.strip_prefix("sqlite://").unwrap());
    let folder = database.parent().unwrap();
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn g10_no_secret_stands_in_a_file_in_the_clear() {
    let room = room_with_secrets().await;
    let everything: Vec<u8> = files_of(&room).iter().flat_map(|file| fs::read(file).unwrap()).collect();
    let holds = |text: &str| everything.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("db.example"), "the scan sees what is stored in the clear");
    for secret in [PASSWORD, SECRET_KEY] {
        assert!(!holds(secret));
        assert!(!holds(&hex::encode(secret)));
    }
}

#[tokio::test]
async fn g10_the_files_are_their_owners_only() {
    let room = room_with_secrets().await;
    let files = files_of(&room);
    assert!(files.len() >= 2, "the database and its log: {files:?}");
    for file in files {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

#[tokio::test]
async fn k01_another_key_is_refused_and_changes_nothing() {
    let room = room_with_secrets().await;
    let open = |key| Catalog::open(&room.url, key, Arc::new(SystemRandomness), room.now());
    let refused = open([8; 32]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WrongKey);
    assert!(refused.hint().is_some());
    open(KEY).await.unwrap().audit_verify().await.unwrap();
}

#[tokio::test]
async fn h11_a_sealed_password_moved_to_another_instance_does_not_open() {
    let room = room_with_secrets().await;
    let other = room.add_instance("other").await;
    let moved = "UPDATE instances SET password_sealed =
         (SELECT password_sealed FROM instances WHERE name = 'source') WHERE name = 'other'";
    sqlx::query(moved).execute(&room.raw_pool().await).await.unwrap();
    let refused = room.catalog.instance_password(&other.id).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WrongKey);
}

#[tokio::test]
async fn m03_a_damaged_row_is_named_and_not_guessed_at() {
    let room = room_with_secrets().await;
    let pool = room.raw_pool().await;
    sqlx::query("UPDATE instances SET port = 70000").execute(&pool).await.unwrap();
    let found = room.catalog.instance_list(&room.project).await.unwrap_err();
    assert_eq!(found.kind(), ErrorKind::Damage);
    assert!(found.chain().contains("port"), "{}", found.chain());
    assert!(!found.public().contains("70000"));
}
