//! The v1 list: complete over the edges of its pages, and manual backups only.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use strongroom_core::backup::{Backup, BackupState, BackupType};
use strongroom_core::id::{BackupId, JobId};
use strongroom_core::instance::Instance;
use strongroom_core::job::{Job, JobKind, JobState, LeaseEpoch};
use strongroom_core::limits::LIST_ROWS_MAX;
use strongroom_core::progress::ProgressReading;
use strongroom_core::text::BackupName;
use strongroom_core::time::{Clock, Randomness};

use crate::client::{Ask, Reply};
use crate::events::complete;
use crate::room::{Room, room};
use crate::rules::check_every_answer;

/// Rows that the server reads at a time.
const PAGE_ROWS: usize = 200;

async fn listed(room: &Room) -> Vec<Value> {
    let ask = Ask::get(&room.theirs.v1("/backups")).token(&room.theirs.admin());
    let reply: Reply = room.send(ask.clone()).await;
    check_every_answer(&ask, &reply);
    reply.json()["backups"].as_array().unwrap().clone()
}

async fn add_backup(room: &Room, at: usize) {
    let instance = room.add_instance(&room.theirs, &format!("instance-{at}")).await;
    let body = json!({ "backup": { "name": format!("backup-{at}"), "instance": instance.node_id.as_str() } });
    let ask = Ask::post(&room.theirs.v1("/backups"), body.to_string()).token(&room.theirs.admin());
    assert_eq!(room.send(ask).await.status, 200);
}

/// A list is streamed page by page; its joints must not show, nor a page that is just full.
#[tokio::test]
async fn a26_a_list_is_whole_whatever_its_length() {
    let room = room().await;
    let mut rows = 0;
    for length in [0, 1, PAGE_ROWS - 1, PAGE_ROWS, PAGE_ROWS + 1, 2 * PAGE_ROWS, 2 * PAGE_ROWS + 1] {
        while rows < length {
            add_backup(&room, rows).await;
            room.advance_s(i64::from(rows % 3 == 0));
            rows += 1;
        }
        let found = listed(&room).await;
        let names: BTreeSet<&str> = found.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!((found.len(), names.len()), (length, length));
        let created: Vec<&str> = found.iter().map(|row| row["created"].as_str().unwrap()).collect();
        assert!(created.is_sorted_by(|newer, older| newer >= older), "newest first");
    }
}

/// A part of the v3 list: names, and the count that comes with them.
async fn slice(room: &Room, instance: &Instance, rest: &str) -> (Vec<String>, u64) {
    let path = room.theirs.v3(&format!("/backups?instance_id={}{rest}", instance.id));
    let ask = Ask::get(&path).token(&room.theirs.admin());
    let reply = room.send(ask.clone()).await;
    check_every_answer(&ask, &reply);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let body = reply.json();
    let name = |row: &Value| row["name"].as_str().unwrap().to_owned();
    (body["backups"].as_array().unwrap().iter().map(name).collect(), body["total_count"].as_u64().unwrap())
}

/// As the published clients page: by the rows they have seen, one page beyond the end.
#[tokio::test]
async fn a26_pages_of_v3_hold_every_row_once_and_end() {
    let room = room().await;
    let instance = room.add_instance(&room.theirs, "orders").await;
    let rows = usize::try_from(LIST_ROWS_MAX).unwrap() + 1;
    let mut added = Vec::new();
    for at in 0..rows {
        let body = json!({ "name": format!("backup-{at}"), "instance_id": instance.id.as_str() });
        let ask = Ask::post(&room.theirs.v3("/backups"), body.to_string()).token(&room.theirs.admin());
        assert_eq!(room.send(ask).await.status, 200);
        complete(&room).await;
        added.insert(0, format!("backup-{at}"));
        room.advance_s(1);
    }
    let total = rows as u64;
    for limit in ["", "&limit=7", "&limit=100"] {
        let mut seen: Vec<String> = Vec::new();
        while seen.len() as u64 <= total {
            let (page, count) = slice(&room, &instance, &format!("{limit}&offset={}", seen.len())).await;
            assert_eq!(count, total);
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, added, "{limit}");
    }
    // Begun in these two seconds, both of them: 05:06:08 and 05:06:09.
    let two = slice(&room, &instance, "&begin_time=2026-03-04T05:06:08Z&end_time=2026-03-04T05:06:09Z").await;
    assert_eq!(two, (vec!["backup-2".to_owned(), "backup-1".to_owned()], 2));
    assert_eq!(slice(&room, &instance, "&status=BUILDING").await, (Vec::new(), 0));
}

fn automatic(room: &Room, instance: &Instance) -> (Backup, Job) {
    let now = room.clock.now();
    let (id, job_id) =
        (BackupId::issue(room.random.uuid(now), instance.engine), JobId::issue(room.random.uuid(now)));
    let backup = Backup {
        id: id.clone(),
        project_id: instance.project_id.clone(),
        instance_id: instance.id.clone(),
        node_id: instance.node_id.clone(),
        name: BackupName::parse("automatic").unwrap(),
        description: None,
        kind: BackupType::Auto,
        state: BackupState::Building,
        engine: instance.engine,
        engine_version: instance.version.clone(),
        lineage_id: instance.lineage_id.clone(),
        job_id: job_id.clone(),
        created: now,
        finished: None,
        attempt_id: None,
        manifest_digest: None,
        source_bytes: None,
        stored_bytes: None,
        warnings: Vec::new(),
        failure: None,
        verification: None,
    };
    let job = Job {
        id: job_id,
        project_id: Some(instance.project_id.clone()),
        kind: JobKind::Backup,
        state: JobState::Ready,
        backup_id: Some(id),
        instance_id: Some(instance.id.clone()),
        input: json!({}),
        result: None,
        epoch: LeaseEpoch::from_stored(0),
        worker_id: None,
        lease_until: None,
        attempts: 0,
        run_at: now,
        created: now,
        started: None,
        finished: None,
        progress: ProgressReading::default(),
        cancel_asked: false,
        failure: None,
    };
    (backup, job)
}

#[tokio::test]
async fn automatic_backups_are_neither_listed_nor_deleted_by_v1() {
    let room = room().await;
    let instance = room.add_instance(&room.theirs, "orders").await;
    let (backup, job) = automatic(&room, &instance);
    room.catalog.backup_admit(&backup, &job, &room.audit(&room.theirs, "backup.create")).await.unwrap();
    complete(&room).await;
    assert_eq!(listed(&room).await, Vec::<Value>::new());
    let path = room.theirs.v1(&format!("/backups/{}", backup.id));
    let ask = Ask::delete(&path).token(&room.theirs.admin());
    let reply = room.send(ask.clone()).await;
    check_every_answer(&ask, &reply);
    assert_eq!((reply.status, reply.v1_code().as_str()), (409, "RDS.0004"), "{}", reply.text());

    // v3 lists them, and deletes them no more than v1 does.
    let only = (vec!["automatic".to_owned()], 1);
    assert_eq!(slice(&room, &instance, "").await, only);
    assert_eq!(slice(&room, &instance, "&backup_type=auto").await, only);
    assert_eq!(slice(&room, &instance, "&backup_type=manual").await, (Vec::new(), 0));
    let path = room.theirs.v3(&format!("/backups/{}", backup.id));
    let ask = Ask::delete(&path).token(&room.theirs.admin());
    let reply = room.send(ask.clone()).await;
    check_every_answer(&ask, &reply);
    assert_eq!((reply.status, reply.v3_code().as_str()), (409, "DBS.200402"), "{}", reply.text());
}
