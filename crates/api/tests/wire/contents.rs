//! The content of a backup on the wire: a real sealed backup in the room's repository.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use strongroom_api::ApiSettings;
use strongroom_catalog::Published;
use strongroom_core::backup::BackupType;
use strongroom_core::engine::{BackupFacts, BackupSink, CancelToken, SourceIdentity};
use strongroom_core::id::{AttemptId, BackupId};
use strongroom_core::instance::Instance;
use strongroom_core::member::{Dedupe, Member, MemberKind, MemberPath};
use strongroom_core::parent::Reading;
use strongroom_core::progress::Progress;
use strongroom_core::size::ByteSize;
use strongroom_core::time::{Clock, Randomness};
use strongroom_repository::{
    AttemptStart, Begun, CatalogRecord, FrameBody, Lineage, SealOutcome, SealedSummary, WriterOptions,
};
use strongroom_service::content::{ContentEvent, ContentParser};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{Ask, Reply, send};
use crate::events::claim_backup;
use crate::room::Room;
use crate::rules::check_every_answer;

const PATIENCE: Duration = Duration::from_secs(30);
const LARGE_BYTES: usize = 24 << 20;

pub(crate) type Members = BTreeMap<Vec<u8>, Vec<u8>>;

/// Bytes that no compressor makes small.
fn noise(length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut out);
    out
}

/// A name that does not fit into the header of a tar.
pub(crate) fn long_name() -> String {
    format!("base/1/{}", "long".repeat(50))
}

/// Lines that a compressor makes small.
fn text(length: usize) -> Vec<u8> {
    let mut out: Vec<u8> = (0..length / 8).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
    out.truncate(length);
    out
}

pub(crate) fn members() -> Members {
    Members::from([
        (b"data/base/1/16385".to_vec(), text(700_000)),
        (b"data/base/1/16386".to_vec(), text(1_234_567)),
        (format!("data/{}", long_name()).into_bytes(), text(600)),
        (b"data/PG_VERSION".to_vec(), b"15\n".to_vec()),
        (b"data/base/1/16384".to_vec(), noise(LARGE_BYTES)),
        (b"data/base/1/empty".to_vec(), Vec::new()),
        (b"data/base/1/void".to_vec(), Vec::new()),
        (b"data/base/1/zeroes".to_vec(), vec![0; 400_000]),
        (b"data/\xff".to_vec(), noise(1000)),
    ])
}

fn facts() -> BackupFacts {
    let engine = strongroom_core::engine::EngineKind::PostgreSql;
    let system_identifier = "7".to_owned();
    BackupFacts {
        identity: SourceIdentity { engine, version: "15.18".to_owned(), system_identifier },
        engine: json!({ "start_lsn": "0/1" }),
        warnings: Vec::new(),
        damage: Vec::new(),
        reading: Reading::default(),
        log: None,
    }
}

fn record(instance: &Instance, id: &BackupId) -> CatalogRecord {
    CatalogRecord {
        backup_id: id.clone(),
        backup_name: "nightly".to_owned(),
        description: None,
        backup_type: BackupType::Manual,
        created_us: 0,
        project_id: instance.project_id.clone(),
        project_name: "ours".to_owned(),
        instance_id: instance.id.clone(),
        node_id: instance.node_id.clone(),
        instance_name: instance.name.as_str().to_owned(),
        engine: instance.engine,
        host: instance.host.clone(),
        port: instance.port,
        user: instance.user.clone(),
    }
}

fn write(sink: &dyn BackupSink) {
    for (path, content) in members() {
        let member = Member {
            path: MemberPath::parse(&path).unwrap(),
            kind: MemberKind::File,
            size: Some(content.len() as u64),
            mode: 0o600,
            mtime_s: 1_700_000_000,
            page_size: 0,
            dedupe: Dedupe::Parent,
        };
        let mut writer = sink.open(member).unwrap();
        content.chunks(1 << 20).for_each(|piece| writer.write(piece).unwrap());
        writer.finish().unwrap();
    }
}

fn seal(lineage: &Lineage, attempt: AttemptId, record: &CatalogRecord) -> SealedSummary {
    let start = AttemptStart {
        attempt,
        parent: None,
        lease_epoch: 1,
        worker: "test".to_owned(),
        scratch_dir: std::env::temp_dir(),
        options: WriterOptions { threads: 2, ..WriterOptions::default() },
        cancel: CancelToken::new(),
        progress: Arc::new(Progress::new()),
    };
    let Begun::Started(begun) = lineage.begin(start).unwrap() else {
        panic!("there is no parent to be gone")
    };
    write(&begun);
    match begun.prove().unwrap().seal(&facts(), record).unwrap() {
        SealOutcome::Sealed(summary) => *summary,
        SealOutcome::Abandoned => panic!("nobody abandoned it"),
    }
}

/// A COMPLETED backup called `nightly`, sealed in the repository.
async fn sealed(room: &Room) {
    let instance = room.add_instance(&room.ours, "orders").await;
    assert_eq!(room.create_backup("nightly", &instance).await.status, 200);
    let claim = claim_backup(room).await;
    let id = claim.job.backup_id.expect("a backup job has its backup");
    let attempt = AttemptId::new(room.random.uuid(room.clock.now()));
    let lineage = room.repository.lineage(&instance.project_id, &instance.lineage_id).unwrap();
    let record = record(&instance, &id);
    let summary = tokio::task::spawn_blocking(move || seal(&lineage, attempt, &record)).await.unwrap();
    let published = Published {
        log: None,
        attempt,
        manifest_digest: summary.manifest_digest,
        source_bytes: ByteSize::new(summary.totals.source_bytes),
        stored_bytes: ByteSize::new(1),
        warnings: Vec::new(),
        finished: room.clock.now(),
    };
    let audit = room.audit(&room.ours, "backup.complete");
    room.catalog.backup_publish(&claim.fence, &id, &published, &audit).await.unwrap();
}

pub(crate) async fn room_with_backup(settings: ApiSettings) -> Room {
    let room = Room::furnish(settings, None).await;
    sealed(&room).await;
    room
}

async fn asked(room: &Room, ask: Ask) -> Reply {
    let ask = ask.token(&room.ours.admin());
    let reply = room.send(ask.clone()).await;
    check_every_answer(&ask, &reply);
    reply
}

fn content(segments: &Value) -> Ask {
    Ask::post("/strongroom/v1/backups/nightly/content", json!({ "segments": segments }).to_string())
}

async fn lines(room: &Room) -> Vec<Value> {
    let reply = asked(room, Ask::get("/strongroom/v1/backups/nightly/members")).await;
    assert_eq!((reply.status, reply.header("Content-Type")), (200, Some("application/x-ndjson")));
    reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn path_of(line: &Value) -> Vec<u8> {
    match (line["path"].as_str(), line["path_hex"].as_str()) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(hex)) => hex
            .as_bytes()
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect(),
        both => panic!("a path has one spelling: {both:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_restore_needs_comes_over_the_wire_exactly() {
    let room = room_with_backup(ApiSettings::default()).await;
    let plan = asked(&room, Ask::get("/strongroom/v1/backups/nightly/plan")).await.json();
    assert_eq!((&plan["member_count"], &plan["name"]), (&json!(9), &json!("nightly")));
    assert_eq!(plan["facts"]["engine"]["start_lsn"], json!("0/1"));
    let lines = lines(&room).await;
    let mut found: Vec<(Vec<u8>, Vec<u8>)> =
        lines.iter().map(|line| (path_of(line), vec![1; line["size"].as_u64().unwrap() as usize])).collect();
    let mut wanted = Vec::new();
    for line in &lines {
        wanted.extend((0..line["segments"].as_u64().unwrap()).map(|segment| json!([line["index"], segment])));
    }
    let reply = asked(&room, content(&json!(wanted))).await;
    assert_eq!((reply.status, reply.header("Content-Type")), (200, Some("application/octet-stream")));
    let (mut parser, mut ended) = (ContentParser::new(), 0);
    let mut body = &reply.body[..];
    while let Some(event) = parser.next(&mut body).unwrap() {
        match event {
            ContentEvent::Frame(frame) => {
                let (start, target) = (frame.offset as usize, &mut found[frame.member as usize].1);
                match frame.body {
                    FrameBody::Data(data) => target[start..start + data.len()].copy_from_slice(&data),
                    FrameBody::Fill { byte, length } => target[start..start + length as usize].fill(byte),
                }
            }
            ContentEvent::SegmentEnd { .. } => ended += 1,
            ContentEvent::End { segments } => assert_eq!(segments, wanted.len() as u64),
        }
    }
    parser.finish().unwrap();
    assert_eq!(ended, wanted.len());
    assert!(found.into_iter().collect::<Members>() == members(), "the content differs");
}

/// A list of files that cannot be read on says so in its last line, in the shape of every error; the
/// lines before it are right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_a_list_that_meets_damage_ends_with_the_reason() {
    let room = room_with_backup(ApiSettings::default()).await;
    let whole = lines(&room).await;
    // The smallest pack but the roster's holds the pages of the tree.
    for pack in room.packs() {
        let good = std::fs::read(&pack).unwrap();
        std::fs::write(&pack, vec![0; good.len()]).unwrap();
        let found = lines(&room).await;
        std::fs::write(&pack, &good).unwrap();
        if found == whole {
            continue;
        }
        let (last, before) = found.split_last().unwrap();
        assert!(before.iter().all(|line| whole.contains(line)));
        assert_eq!(last["error"]["code"], "damage", "{last}");
        let message = last["error"]["message"].as_str().unwrap();
        let name = pack.strip_prefix(room.repository_folder()).unwrap().display().to_string();
        assert!(message.contains(&name), "{message}");
        assert!(last["error"]["request_id"].as_str().is_some_and(|id| id.len() == 32), "{last}");
        assert_eq!(lines(&room).await, whole, "mended");
        return;
    }
    panic!("no pack holds the list of files");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wishes_for_content_that_make_no_sense_are_refused() {
    let room = room_with_backup(ApiSettings::default()).await;
    let many = vec![json!([0, 0]); 4097];
    for wrong in [
        json!(many),
        json!([[0]]),
        json!([[0, 0, 0]]),
        json!([[-1, 0]]),
        json!([[0, 1_u64 << 32]]),
        json!({}),
        json!([["0", "0"]]),
    ] {
        let reply = asked(&room, content(&wrong)).await;
        assert_eq!((reply.status, reply.native_code().as_str()), (400, "parameter"), "{}", reply.text());
        assert!(reply.json()["message"].as_str().unwrap().starts_with("segments"), "{}", reply.text());
    }
    // A segment that the backup does not have ends the stream with an error, not with silence.
    let reply = asked(&room, content(&json!([[99, 0]]))).await;
    let mut parser = ContentParser::new();
    let mut body = &reply.body[..];
    let refused = loop {
        match parser.next(&mut body) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended well"),
            Err(refused) => break refused,
        }
    };
    assert!(!refused.public().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_pack_ends_the_stream_with_an_error_and_no_wrong_byte() {
    let room = room_with_backup(ApiSettings::default()).await;
    let lines = lines(&room).await;
    let large = lines.iter().find(|line| path_of(line) == b"data/base/1/16384").unwrap();
    spoil(&room.folder.path().join("repository"));
    let reply = asked(&room, content(&json!([[large["index"], 0]]))).await;
    let wanted = &members()[&b"data/base/1/16384".to_vec()];
    let mut parser = ContentParser::new();
    let mut body = &reply.body[..];
    let refused = loop {
        match parser.next(&mut body) {
            Ok(Some(ContentEvent::Frame(frame))) => {
                let FrameBody::Data(data) = frame.body else { panic!("noise is no fill") };
                assert!(data == wanted[frame.offset as usize..][..data.len()], "a wrong byte");
            }
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended well"),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.kind(), strongroom_core::ErrorKind::Damage, "{}", refused.public());
}

/// Flips a byte in the middle of the largest object.
pub(crate) fn spoil(folder: &std::path::Path) {
    let (mut folders, mut largest) = (vec![folder.to_owned()], (0, std::path::PathBuf::new()));
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let (path, about) = {
                let entry = entry.unwrap();
                (entry.path(), entry.metadata().unwrap())
            };
            if about.is_dir() {
                folders.push(path);
            } else if about.len() > largest.0 {
                largest = (about.len(), path);
            }
        }
    }
    let mut bytes = std::fs::read(&largest.1).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut about = std::fs::metadata(&largest.1).unwrap().permissions();
    #[expect(
        clippy::permissions_set_readonly_false,
        reason = "a file in a scratch folder, about to be spoilt"
    )]
    about.set_readonly(false);
    std::fs::set_permissions(&largest.1, about).unwrap();
    std::fs::write(&largest.1, bytes).unwrap();
}

/// Asks for everything and reads nothing.
async fn stall(room: &Room) -> TcpStream {
    let body = json!({ "segments": [[0, 0], [1, 0], [2, 0], [3, 0], [4, 0]] }).to_string();
    let mut stream = TcpStream::connect(room.addr).await.unwrap();
    let head = format!(
        "POST /strongroom/v1/backups/nightly/content HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {}\r\nContent-Length: {}\r\n\r\n{body}",
        room.ours.admin(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The answer has begun, so the stream has its place.
    stream.read_exact(&mut [0; 12]).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_takes_nothing_loses_its_place() {
    let stalled = Duration::from_millis(500);
    let settings = ApiSettings { streams_max: 1, stalled_reader_timeout: stalled, ..ApiSettings::default() };
    let room = room_with_backup(settings).await;
    let first = stall(&room).await;
    // Without an end of the first this would wait for the time limit of requests, a minute.
    let second = timeout(PATIENCE, asked(&room, content(&json!([])))).await.expect("the place is free");
    assert_eq!(second.status, 200, "{}", second.text());
    drop(first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_over_the_limit_wait_until_a_caller_goes_away() {
    let settings = ApiSettings { streams_max: 1, ..ApiSettings::default() };
    let room = room_with_backup(settings).await;
    for _ in 0..3 {
        drop(stall(&room).await);
    }
    let first = stall(&room).await;
    let ask = content(&json!([])).token(&room.ours.admin());
    let addr = room.addr;
    let second = tokio::spawn(async move { send(addr, &ask).await.status });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!second.is_finished());
    drop(first);
    assert_eq!(timeout(PATIENCE, second).await.expect("the place is free").unwrap(), 200);
}
