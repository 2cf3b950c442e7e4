//! What stands under a legal hold is not deleted, by whatever call. Nothing of the product places holds
//! yet: the row is put beside the server.

use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::client::{Ask, Reply};
use crate::events::complete;
use crate::room::{Room, room};
use crate::rules::check_every_answer;

async fn run(room: &Room, statement: &'static str, backup: &str) {
    let options = SqliteConnectOptions::new().filename(room.folder.path().join("catalog.db"));
    let mut connection = options.connect().await.unwrap();
    let done = sqlx::query(statement).bind(backup).execute(&mut connection).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
    connection.close().await.unwrap();
}

async fn ask(room: &Room, ask: Ask) -> Reply {
    let ask = ask.token(&room.ours.admin());
    let reply = room.send(ask.clone()).await;
    check_every_answer(&ask, &reply);
    reply
}

async fn backup(room: &Room, name: &str) -> String {
    let instance = room.add_instance(&room.ours, &format!("of-{name}")).await;
    let made = room.create_backup(name, &instance).await.json();
    complete(room).await;
    made["backup"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn r05_a_held_backup_stays_whoever_deletes_it() {
    let room = room().await;
    let (held, free) = (backup(&room, "held").await, backup(&room, "free").await);
    run(&room, "INSERT INTO holds (id, backup_id, reason, created) VALUES ('hold', $1, 'a judge', 1)", &held)
        .await;
    let before = room.stored().await;

    let v1 = ask(&room, Ask::delete(&room.ours.v1(&format!("/backups/{held}")))).await;
    assert_eq!((v1.status, v1.v1_code()), (409, "RDS.0056".to_owned()), "{}", v1.text());
    let v3 = ask(&room, Ask::delete(&room.ours.v3(&format!("/backups/{held}")))).await;
    assert_eq!((v3.status, v3.v3_code()), (409, "DBS.201014".to_owned()), "{}", v3.text());
    let native = ask(&room, Ask::delete(&format!("/strongroom/v1/backups/{held}"))).await;
    assert_eq!((native.status, native.json()["code"].as_str()), (409, Some("backup_held")));
    let batch = |ids: &[&String]| {
        Ask::post(&room.ours.v3("/backups/batch-delete"), json!({ "backup_ids": ids }).to_string())
    };
    let alone = ask(&room, batch(&[&held])).await;
    assert_eq!((alone.status, &alone.json()["delete_results"][0]["error_code"]), (200, &json!("DBS.200054")));
    assert_eq!(room.stored().await, before, "nothing was changed");

    // In one call with others: each by itself.
    let rows = ask(&room, batch(&[&held, &free])).await.json();
    let codes: Vec<_> = (0..2).map(|at| rows["delete_results"][at]["error_code"].clone()).collect();
    assert_eq!(codes, ["DBS.200054", "0"]);
    let told = rows["delete_results"][0]["error_msg"].as_str().unwrap();
    assert!(told.contains("A legal hold stands on the backup; nothing was changed."), "{told}");

    run(&room, "DELETE FROM holds WHERE backup_id = $1", &held).await;
    let rows = ask(&room, batch(&[&held])).await.json();
    assert_eq!(rows["delete_results"][0]["error_code"], "0", "{rows}");
}
