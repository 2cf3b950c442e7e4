//! Limits of the RDS dialects at their edges, by their names.

use serde_json::{Value, json};
use strongroom_catalog::Role;
use strongroom_core::limits::{
    DELETE_IDS_MAX, INSTANCE_TASKS_MAX, TASK_ROWS_MAX, VOLUME_GB_MAX, VOLUME_GB_MIN,
};

use crate::client::{Ask, Reply};
use crate::events::complete;
use crate::room::{Room, room};
use crate::rules::check_every_answer;

async fn checked(room: &Room, ask: Ask) -> Reply {
    let ask = ask.token(&room.theirs.admin());
    let reply = room.send(ask.clone()).await;
    check_every_answer(&ask, &reply);
    reply
}

#[tokio::test]
async fn a_batch_deletes_up_to_its_limit() {
    let room = room().await;
    for (count, status) in [(1, 200), (DELETE_IDS_MAX, 200), (DELETE_IDS_MAX + 1, 400), (0, 400)] {
        let ids: Vec<String> = (0..count).map(|at| format!("unknown-{at}")).collect();
        let body = json!({ "backup_ids": ids }).to_string();
        let reply = checked(&room, Ask::post(&room.theirs.v3("/backups/batch-delete"), body)).await;
        assert_eq!(reply.status, status, "{count}: {}", reply.text());
        if status == 200 {
            assert_eq!(reply.json()["delete_results"].as_array().unwrap().len(), count);
        }
    }
}

#[tokio::test]
async fn lists_of_tasks_hold_as_many_as_they_say() {
    let room = room().await;
    let instance = room.add_instance(&room.theirs, "orders").await;
    let jobs = INSTANCE_TASKS_MAX + 1;
    for at in 0..jobs {
        let body = json!({ "name": format!("backup-{at}"), "instance_id": instance.id.as_str() });
        let made = checked(&room, Ask::post(&room.theirs.v3("/backups"), body.to_string())).await;
        assert_eq!(made.status, 200);
        complete(&room).await;
        room.advance_s(1);
    }
    let length = |reply: &Reply, key: &str| reply.json()[key].as_array().map(Vec::len);
    let detail = format!("/instances/{}/tasklist/detail?start_time=1", instance.id);
    let detail = checked(&room, Ask::get(&room.theirs.v3(&detail))).await;
    assert_eq!(length(&detail, "jobs"), Some(INSTANCE_TASKS_MAX as usize));
    assert_eq!(detail.json()["count"], jobs);
    let asks_for = |text: &Value| text["task_detail"].as_str().unwrap().contains("backup-1\"");
    let told = detail.json();
    assert!(told["jobs"].as_array().unwrap().iter().any(asks_for), "each says what was asked");

    for (limit, rows) in [(1, Some(1)), (TASK_ROWS_MAX, Some(TASK_ROWS_MAX)), (TASK_ROWS_MAX + 1, None)] {
        let list = checked(&room, Ask::get(&room.theirs.v3(&format!("/tasklist?limit={limit}")))).await;
        assert_eq!(length(&list, "tasks").map(|rows| rows as u64), rows, "{}", list.text());
    }
    let first = checked(&room, Ask::get(&room.theirs.v3("/tasklist"))).await;
    assert_eq!(
        (length(&first, "tasks"), first.json()["total_count"].as_u64()),
        (Some(10), Some(jobs.into()))
    );
}

#[tokio::test]
async fn a_new_instance_of_v1_has_room_within_bounds() {
    let room = room().await;
    let (least, most) = (VOLUME_GB_MIN, VOLUME_GB_MAX);
    for (size, is_room) in
        [(least - 10, false), (least, true), (least + 1, false), (most, true), (most + 10, false)]
    {
        let wish = json!({ "instance": { "name": "copy1", "flavorRef": "x", "volume": { "size": size },
            "restorePoint": { "backupRef": "unknown" } } });
        let ask = Ask::post(&room.ours.v1("/instances"), wish.to_string());
        let reply = room.send(ask.token(&room.ours.token(Role::Restorer))).await;
        let code = if is_room { "RDS.3026" } else { "RDS.0001" };
        assert_eq!(reply.v1_code(), code, "{size}: {}", reply.text());
    }
}
