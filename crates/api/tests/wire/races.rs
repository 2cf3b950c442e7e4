//! Many callers at once: what each of them is told, and what is stored in the end.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use strongroom_api::ApiSettings;
use strongroom_catalog::BackupFilter;
use strongroom_core::instance::Instance;
use strongroom_core::limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::{Ask, Reply, send};
use crate::room::{Room, room};
use crate::rules::check_every_answer;

/// Sends all of them at once, each over a connection of its own.
async fn all_at_once(room: &Room, asks: Vec<Ask>) -> Vec<Reply> {
    let mut running = JoinSet::new();
    for ask in asks {
        let addr = room.addr;
        running.spawn(async move {
            let reply = send(addr, &ask).await;
            check_every_answer(&ask, &reply);
            reply
        });
    }
    running.join_all().await
}

fn v1_create(room: &Room, name: &str, instance: &Instance) -> Ask {
    let body = json!({ "backup": { "name": name, "instance": instance.node_id.as_str() } });
    Ask::post(&room.ours.v1("/backups"), body.to_string()).token(&room.ours.admin())
}

fn v3_create(room: &Room, name: &str, instance: &Instance) -> Ask {
    let body = json!({ "name": name, "instance_id": instance.id.as_str() });
    Ask::post(&room.ours.v3("/backups"), body.to_string()).token(&room.ours.admin())
}

async fn stored(room: &Room) -> usize {
    room.catalog.backup_page(&room.ours.project, &BackupFilter::default(), None, 1000).await.unwrap().len()
}

#[tokio::test]
async fn a01_of_a_hundred_equal_creates_at_once_one_is_accepted() {
    let room = room().await;
    let instance = room.add_instance(&room.ours, "orders").await;
    let asks = (0..100).map(|at| {
        if at % 2 == 0 {
            v1_create(&room, "nightly", &instance)
        } else {
            v3_create(&room, "nightly", &instance)
        }
    });
    let replies = all_at_once(&room, asks.collect()).await;
    let accepted = replies.iter().filter(|reply| matches!(reply.status, 200 | 202)).count();
    assert_eq!(accepted, 1);
    for reply in replies.iter().filter(|reply| !matches!(reply.status, 200 | 202)) {
        let code = if reply.text().contains("errCode") { reply.v1_code() } else { reply.v3_code() };
        let is_known = ["RDS.3004", "RDS.0011", "DBS.201202", "DBS.201204"].contains(&code.as_str());
        assert!(reply.status == 409 && is_known, "{} {}", reply.status, reply.text());
    }
    assert_eq!(stored(&room).await, 1);
}

#[tokio::test]
async fn a02_a_create_while_another_is_building_there_is_refused_and_elsewhere_accepted() {
    let room = room().await;
    let (busy, idle) =
        (room.add_instance(&room.ours, "busy").await, room.add_instance(&room.ours, "idle").await);
    assert_eq!(room.create_backup("first", &busy).await.status, 200);
    let refused = room.create_backup("second", &busy).await;
    assert_eq!((refused.status, refused.v1_code().as_str()), (409, "RDS.3004"), "{}", refused.text());
    assert_eq!(room.create_backup("second", &idle).await.status, 200);
    assert_eq!(stored(&room).await, 2);
}

/// The limit of the room's project is five.
#[tokio::test]
async fn a03_a_thousand_creates_at_once_never_pass_the_limit() {
    let room = room().await;
    let mut asks = Vec::new();
    for number in 0..40 {
        let instance = room.add_instance(&room.ours, &format!("orders-{number}")).await;
        asks.extend((0..25).map(|at| v1_create(&room, &format!("backup-{number}-{at}"), &instance)));
    }
    let replies = all_at_once(&room, asks).await;
    let count = |status, code: &str| {
        let fits = |reply: &&Reply| reply.status == status && (code.is_empty() || reply.v1_code() == code);
        replies.iter().filter(fits).count()
    };
    assert_eq!(count(200, ""), 5, "the limit is reached and not passed");
    assert_eq!(count(200, "") + count(413, "RDS.3003") + count(409, "RDS.3004"), 1000);
    assert_eq!(stored(&room).await, 5);
    // What was refused took nothing: one that goes makes room for one.
    let last = room.add_instance(&room.ours, "last").await;
    assert_eq!(room.create_backup("late", &last).await.status, 413);
}

/// Descriptors of this process, both ends of each connection among them.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    limit.maximum.map_or(usize::MAX, |limit| limit as usize)
}

#[tokio::test]
async fn a09_ten_thousand_idle_connections_keep_nobody_out() {
    // Long enough that no place becomes free by itself.
    let header_read_timeout = Duration::from_mins(2);
    let room = Room::furnish(ApiSettings { header_read_timeout, ..ApiSettings::default() }, None).await;
    let count = 10_000.min(descriptors().saturating_sub(limits::CONNECTIONS_MAX + 1_000));
    assert!(
        count > limits::CONNECTIONS_MAX,
        "{count} connections are too few: raise the limit of open files"
    );
    let mut idle = Vec::new();
    // With a few more than there are places, all who came later would wait for headers that never come.
    for many in [limits::CONNECTIONS_MAX + 500, count] {
        while idle.len() < many {
            let mut stream = TcpStream::connect(room.addr).await.unwrap();
            if idle.len().is_multiple_of(2) {
                stream.write_all(b"GET /healthz HTTP/1.1\r\nX-Slow: ").await.unwrap();
            }
            idle.push(stream);
        }
        let asks = (0..100).map(|_| Ask::get(&room.ours.v1("/backups")).token(&room.ours.admin())).collect();
        let replies = all_at_once(&room, asks).await;
        assert!(replies.iter().all(|reply| reply.status == 200), "{many} idle");
    }
}
