//! Captures of logs by workers that come and go: no byte is missing that was not told to be, backups begin
//! by themselves where none leads to the log, and nothing is left at the source.

use jiff::SignedDuration;
use strongroom_core::ErrorKind;
use strongroom_core::backup::{BackupState, BackupType, InstanceRef};
use strongroom_core::logs::{HeldLog, LogPosition};
use strongroom_core::restore::RestoreWindow;
use strongroom_service::work::Worker;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::room::{Room, until};
use crate::source_log::{content, stream};

/// A worker that runs, until it is told to stop.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(worker: Worker) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(worker.run(async {
            let _ = stopped.await;
        }));
        Self { stop, task }
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap();
    }
}

fn shop() -> InstanceRef {
    InstanceRef::Any("shop".to_owned())
}

async fn switch(room: &Room, on: bool) -> strongroom_core::Result<()> {
    room.judge.service.log_switch(&room.scope().await, &shop(), on).await.map(|_| ())
}

async fn held(room: &Room) -> Vec<HeldLog> {
    room.judge.catalog.log_held(&room.instance.id).await.unwrap()
}

/// The source writes, and all of it is held and confirmed.
async fn advance(room: &Room, bytes: u64) {
    let clock = room.engine.log.clock().saturating_add(SignedDuration::from_secs(60)).unwrap();
    room.engine.log.write(bytes, clock);
    until("all log is held", async || {
        held(room)
            .await
            .last()
            .is_some_and(|last| last.range.until >= room.engine.log.end() && last.until == Some(clock))
    })
    .await;
}

/// A capture has begun: before that it is not told what of the log counts.
async fn has_begun(room: &Room) {
    until("the capture has begun", async || !held(room).await.is_empty()).await;
}

async fn windows(room: &Room) -> Vec<RestoreWindow> {
    let id = room.instance.id.as_str();
    room.judge.service.restore_windows(&room.scope().await, id, None).await.unwrap()
}

async fn is_based(room: &Room) -> bool {
    let project = &room.instance.project_id;
    let standing = room.judge.catalog.log_standing(project, &room.instance.id).await.unwrap();
    standing.is_some_and(|standing| standing.is_based)
}

fn read_right(room: &Room, held: &HeldLog) {
    let mut next = held.range.from;
    let take = &mut |at: LogPosition, bytes: &[u8]| {
        assert!(at == next || at == LogPosition::start_of(next.file + 1), "{at} after {next}");
        assert_eq!(bytes, content(at.file, at.offset, bytes.len() as u64));
        next = LogPosition { file: at.file, offset: at.offset + bytes.len() as u64 };
        Ok(())
    };
    room.lineage().read_log(&stream().id, held.range, take).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p03_p07_log_goes_on_without_a_gap_over_workers_that_die() {
    let room = Room::new().await;
    switch(&room, true).await.unwrap();
    let first = room.process().await;
    let (store, running) = (first.store.clone(), Running::start(first.worker));
    has_begun(&room).await;
    advance(&room, 9_000).await;
    until("a backup leads to the log", async || is_based(&room).await).await;
    let rows = room.rows().await;
    assert_eq!((rows.len(), rows[0].kind, rows[0].state), (1, BackupType::Auto, BackupState::Completed));
    advance(&room, 500).await;
    let [window] = windows(&room).await[..] else { panic!("one window") };
    assert_eq!(window.until, room.engine.log.clock());
    assert!(window.from < window.until);

    // It dies with log that it did not make durable; what it does afterwards has no effect.
    tokio::task::spawn_blocking(move || store.die()).await.unwrap();
    room.engine.log.write(3_000, room.engine.log.clock());
    room.advance_past_leases();
    let second = Running::start(room.process().await.worker);
    advance(&room, 100).await;
    second.stop().await;
    // Given back in good order: nobody waits for a lease.
    let third = Running::start(room.process().await.worker);
    advance(&room, 10_000).await;
    let all = held(&room).await;
    let [one] = &all[..] else { panic!("one range: {all:?}") };
    assert_eq!(one.range.from, LogPosition::start_of(5));
    read_right(&room, one);
    third.stop().await;
    drop(running);
    room.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b08_a_gap_is_told_and_followed_by_a_backup() {
    let room = Room::new().await;
    switch(&room, true).await.unwrap();
    let running = Running::start(room.process().await.worker);
    advance(&room, 5_000).await;
    until("a backup leads to the log", async || is_based(&room).await).await;
    let before = windows(&room).await[0];
    running.stop().await;
    let ended = held(&room).await[0].range.until;
    room.advance_ms(3 * 3600 * 1000);
    assert_eq!(windows(&room).await, [before]);
    let clock = before.until.saturating_add(SignedDuration::from_hours(4)).unwrap();
    room.engine.log.write(20_000, clock);
    room.engine.log.forget();
    let running = Running::start(room.process().await.worker);
    advance(&room, 300).await;
    until("a backup leads behind the gap", async || is_based(&room).await).await;
    advance(&room, 300).await;
    running.stop().await;
    let found = windows(&room).await;
    assert_eq!((found.len(), found[0], found[1].until), (2, before, room.engine.log.clock()), "{found:?}");
    let told = room.judge.catalog.audit_list(&room.instance.project_id, 100).await.unwrap();
    let gaps: Vec<_> = told.iter().filter(|event| event.action == "log.gap").collect();
    let [gap] = &gaps[..] else { panic!("{told:?}") };
    assert_eq!(
        (gap.object.as_str(), &gap.detail["from"]),
        (room.instance.id.as_str(), &serde_json::json!(ended))
    );
    assert_eq!(gap.detail["until"], serde_json::json!(held(&room).await[1].range.from));
    assert_eq!(room.rows().await.len(), 2);
    room.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_capture_that_is_switched_off() {
    let room = Room::new().await;
    room.engine.log.have_no_bound(true);
    let refused = switch(&room, true).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.hint()),
        (ErrorKind::InstanceState, Some("at the source: SET A BOUND;"))
    );
    room.engine.log.have_no_bound(false);
    switch(&room, true).await.unwrap();
    let running = Running::start(room.process().await.worker);
    advance(&room, 2_000).await;
    until("a backup leads to the log", async || is_based(&room).await).await;
    assert!(!room.keys("/lg/scripted-1/open").is_empty());
    let remove = async || room.judge.service.instance_remove(&room.scope().await, &shop()).await;
    assert_eq!(remove().await.unwrap_err().kind(), ErrorKind::InstanceBusy);
    // A source that does not answer is asked again.
    room.engine.log.fail_releases(true);
    switch(&room, false).await.unwrap();
    let project = &room.instance.project_id;
    let standing = async || room.judge.catalog.log_standing(project, &room.instance.id).await.unwrap();
    until("it fails", async || standing().await.is_some_and(|one| one.failure.is_some() && one.is_ending))
        .await;
    assert_eq!(room.engine.log.slots(), 1);
    room.engine.log.fail_releases(false);
    until("it ends", async || {
        room.advance_ms(60_000);
        standing().await.is_none()
    })
    .await;
    assert_eq!((room.engine.log.slots(), room.keys("/lg/scripted-1/open")), (0, Vec::new()));
    running.stop().await;
    assert_eq!(windows(&room).await.len(), 1);
    remove().await.unwrap();
}
