//! Captures of logs: one worker has one, what it holds stands as ranges, and no gap is left untold.

use serde_json::json;
use strongroom_catalog::{AuditEvent, LogBegun, LogClaim, Published};
use strongroom_core::ErrorKind;
use strongroom_core::backup::{Backup, BackupType};
use strongroom_core::engine::EngineKind;
use strongroom_core::id::JobId;
use strongroom_core::instance::Instance;
use strongroom_core::job::{Job, JobState};
use strongroom_core::logs::{HeldLog, LogPoint, LogPosition, LogRange, LogStream, LogStreamId};

use crate::room::{Room, failure};

fn at(file: u64, offset: u64) -> LogPosition {
    LogPosition { file, offset }
}

fn stream(name: &str) -> LogStream {
    LogStream {
        id: LogStreamId::parse(name).unwrap(),
        engine: EngineKind::PostgreSql,
        origin: None,
        facts: json!({}),
    }
}

fn range(from: LogPosition, until: LogPosition) -> LogRange {
    LogRange { from, until }
}

fn held(room: &Room, about: &LogStream, range: LogRange, is_known: bool) -> HeldLog {
    HeldLog {
        stream: about.id.clone(),
        range,
        origin: about.origin.clone(),
        until: is_known.then(|| room.now()),
    }
}

async fn switched_on(room: &Room, name: &str) -> Instance {
    let instance = room.add_instance(name).await;
    let job = JobId::issue(uuid::Uuid::from_u128(0x77 + name.len() as u128));
    let audit = room.audit("log.switch_on");
    room.catalog.log_switch_on(&room.project, &instance.id, &job, &audit, room.now()).await.unwrap();
    instance
}

async fn claim(room: &Room) -> Option<LogClaim> {
    room.catalog.log_claim(&room.worker(), room.now(), room.in_s(30)).await.unwrap()
}

async fn begin(room: &Room, claim: &LogClaim, ranges: &[LogRange], from: LogPosition, gap: Option<&str>) {
    let about = stream("s-1");
    let begun = LogBegun { stream: &about, ranges, from, gap };
    let audit = room.audit("log.gap");
    room.catalog.log_begin(&claim.fence, &claim.instance_id, begun, &audit).await.unwrap();
}

pub(crate) async fn p07_one_worker_has_a_capture_and_a_fenced_one_changes_nothing(room: &Room) {
    let instance = switched_on(room, "shop").await;
    let stale = claim(room).await.unwrap();
    assert_eq!((&stale.instance_id, stale.failures, stale.is_ending), (&instance.id, 0, false));
    assert!(claim(room).await.is_none(), "it is held");
    assert_eq!(room.catalog.leases_end(room.now()).await.unwrap(), 1);
    let live = claim(room).await.unwrap();
    assert!(live.fence.epoch > stale.fence.epoch);
    let (catalog, fence) = (&room.catalog, &stale.fence);
    let about = stream("s-1");
    let one = held(room, &about, range(at(1, 0), at(2, 0)), true);
    let begun = LogBegun { stream: &about, ranges: &[], from: at(1, 0), gap: None };
    let audit = room.audit("log.ended");
    let refusals = [
        catalog.log_renew(fence, room.in_s(30), None).await.map(|_| ()),
        catalog.log_begin(fence, &instance.id, begun, &audit).await,
        catalog.log_advance(fence, &instance.id, &one, None, room.now()).await.map(|_| ()),
        catalog.log_release(fence, room.now(), None).await,
        catalog.log_given_up(fence, &audit).await,
        catalog.log_end(fence, &audit).await,
    ];
    for refused in refusals {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Fenced);
    }
    assert_eq!(catalog.log_held(&instance.id).await.unwrap(), []);
    // Not before it was switched off.
    assert_eq!(catalog.log_end(&live.fence, &audit).await.unwrap_err().kind(), ErrorKind::Fenced);
    catalog.log_release(&live.fence, room.in_s(5), Some(&failure("source_unreachable"))).await.unwrap();
    assert!(claim(room).await.is_none(), "it pauses");
    room.advance_s(5);
    assert_eq!(claim(room).await.unwrap().failures, 1);
    let standing = catalog.log_standing(&room.project, &instance.id).await.unwrap().unwrap();
    assert_eq!(standing.failure.unwrap().code, "source_unreachable");
}

pub(crate) async fn i11_ranges_follow_the_listing_and_grow(room: &Room) {
    let instance = switched_on(room, "shop").await;
    let claim = claim(room).await.unwrap();
    begin(room, &claim, &[], at(3, 0), None).await;
    let about = stream("s-1");
    let advance = async |until, is_known: bool| {
        let one = held(room, &about, range(at(3, 0), until), is_known);
        let confirmed = is_known.then(|| room.now());
        room.catalog.log_advance(&claim.fence, &instance.id, &one, confirmed, room.now()).await.unwrap()
    };
    assert!(!advance(at(3, 100), false).await);
    room.advance_s(10);
    let known = room.now();
    advance(at(4, 0), true).await;
    room.advance_s(10);
    advance(at(4, 9), false).await;
    let all = room.catalog.log_held(&instance.id).await.unwrap();
    let [one] = &all[..] else { panic!("{all:?}") };
    // More is held than is known to be all until a moment: that moment stays.
    assert_eq!((one.range, one.until), (range(at(3, 0), at(4, 9)), Some(known)));
    let standing = room.catalog.log_standing(&room.project, &instance.id).await.unwrap().unwrap();
    assert_eq!((standing.confirmed, standing.is_held, standing.is_ending), (Some(known), true, false));
    // The listing has more of it, and what nobody wrote down; then less.
    begin(room, &claim, &[range(at(3, 0), at(5, 0)), range(at(7, 0), at(8, 0))], at(8, 0), None).await;
    let all = room.catalog.log_held(&instance.id).await.unwrap();
    let told: Vec<_> = all.iter().map(|one| (one.range, one.until)).collect();
    assert_eq!(
        told,
        [(range(at(3, 0), at(5, 0)), Some(known)), (range(at(7, 0), at(8, 0)), None)],
        "{all:?}"
    );
    begin(room, &claim, &[range(at(3, 0), at(3, 50))], at(9, 0), Some("it was lost")).await;
    let all = room.catalog.log_held(&instance.id).await.unwrap();
    assert_eq!(
        all.iter().map(|one| (one.range, one.until)).collect::<Vec<_>>(),
        [(range(at(3, 0), at(3, 50)), None)]
    );
}

pub(crate) async fn b08_a_gap_is_told_exactly(room: &Room) {
    let instance = switched_on(room, "shop").await;
    let claim = claim(room).await.unwrap();
    begin(room, &claim, &[range(at(3, 0), at(4, 7))], at(9, 0), Some("the source no longer has it")).await;
    let wanted = json!({
        "stream": "s-1", "from": { "file": 4, "offset": 7 }, "until": { "file": 9, "offset": 0 },
        "reason": "the source no longer has it",
    });
    let last = async || room.catalog.audit_list(&room.project, 1).await.unwrap().remove(0);
    let told = last().await;
    assert_eq!((told.action.as_str(), &told.detail), ("log.gap", &wanted));
    let given_up = AuditEvent { detail: json!({ "retained_bytes": 77 }), ..room.audit("log.given_up") };
    room.catalog.log_renew(&claim.fence, room.in_s(30), Some(77)).await.unwrap();
    room.catalog.log_given_up(&claim.fence, &given_up).await.unwrap();
    let told = last().await;
    assert_eq!((told.action.as_str(), &told.detail), ("log.given_up", &given_up.detail));
    let standing = room.catalog.log_standing(&room.project, &instance.id).await.unwrap().unwrap();
    assert_eq!(standing.retained_bytes, Some(0), "nothing is kept at the source any more");
}

fn automated(room: &Room, instance: &Instance, name: &str) -> (Backup, Job) {
    let (backup, job) = room.new_backup(instance, name);
    (Backup { kind: BackupType::Auto, ..backup }, job)
}

/// A backup ends COMPLETED and leads to log from this place on.
async fn complete(room: &Room, (backup, job): &(Backup, Job), position: LogPosition) {
    let claim = room.claim_of(&job.id).await;
    let log = Some(LogPoint { stream: stream("s-1").id, position });
    let published = Published { log, ..room.published() };
    let audit = room.audit("backup.complete");
    room.catalog.backup_publish(&claim.fence, &backup.id, &published, &audit).await.unwrap();
}

/// A capture, and what is asked of it.
struct Capturing<'r> {
    room: &'r Room,
    instance: Instance,
    claim: LogClaim,
}

impl Capturing<'_> {
    async fn advance(&self, from: LogPosition, until: LogPosition) -> bool {
        let one = held(self.room, &stream("s-1"), range(from, until), true);
        let (catalog, now) = (&self.room.catalog, self.room.now());
        catalog.log_advance(&self.claim.fence, &self.instance.id, &one, Some(now), now).await.unwrap()
    }

    /// Begins a backup because none leads to the log; `None` when it is not to be.
    async fn ask(&self, name: &str) -> Option<(Backup, Job)> {
        let (backup, job) = automated(self.room, &self.instance, name);
        let (hour, audit) = (self.room.in_s(-3600), self.room.audit("backup.create"));
        let (catalog, fence) = (&self.room.catalog, &self.claim.fence);
        let is_begun = catalog.log_base_admit(fence, &backup, &job, hour, &audit).await.unwrap();
        is_begun.then_some((backup, job))
    }

    async fn made(&self, name: &str, position: LogPosition) {
        let made = automated(self.room, &self.instance, name);
        self.room.admit(&made.0, &made.1).await.unwrap();
        complete(self.room, &made, position).await;
    }
}

pub(crate) async fn a_backup_begins_once_where_none_leads_to_the_log(room: &Room) {
    let instance = switched_on(room, "shop").await;
    let capture = Capturing { room, instance, claim: claim(room).await.unwrap() };
    begin(room, &capture.claim, &[], at(3, 0), None).await;
    assert!(!capture.advance(at(3, 0), at(4, 0)).await);
    let (_, job) = capture.ask("first").await.unwrap();
    assert!(capture.ask("second").await.is_none(), "one is being made");
    let failing = room.claim_of(&job.id).await;
    let (now, audit, refused) = (room.now(), room.audit("job.end"), failure("source_refused"));
    let failed = room.catalog.job_fail(&failing.fence, &refused, JobState::Failed, now, &audit);
    failed.await.unwrap();
    assert!(capture.ask("third").await.is_none(), "one was begun a moment ago");
    // Before what is captured; then in it.
    capture.made("before", at(2, 0)).await;
    assert!(!capture.advance(at(3, 0), at(5, 0)).await);
    capture.made("within", at(4, 0)).await;
    assert!(capture.advance(at(3, 0), at(5, 1)).await);
    assert!(capture.ask("fourth").await.is_none(), "a backup leads to it");
    let moments = room.catalog.backup_moments(&room.project, &capture.instance.id, None).await.unwrap();
    assert_eq!(moments.len(), 2);
    assert_eq!(moments[1].1.as_ref().unwrap().position, at(4, 0));
}

pub(crate) async fn b08_a_gap_has_its_backup_at_once_and_many_gaps_have_one_an_hour(room: &Room) {
    let instance = switched_on(room, "shop").await;
    let capture = Capturing { room, instance, claim: claim(room).await.unwrap() };
    begin(room, &capture.claim, &[], at(3, 0), None).await;
    for (from, name) in [(3, "switched-on"), (9, "behind-a-gap")] {
        assert!(!capture.advance(at(from, 0), at(from + 1, 0)).await);
        let made = capture.ask(name).await.unwrap();
        complete(room, &made, at(from, 0)).await;
        assert!(capture.advance(at(from, 0), at(from + 1, 5)).await);
        room.advance_s(5);
    }
    assert!(!capture.advance(at(15, 0), at(16, 0)).await);
    assert!(capture.ask("too-soon").await.is_none(), "one was begun for a gap a moment ago");
    room.advance_s(3600);
    room.catalog.log_renew(&capture.claim.fence, room.in_s(30), Some(5)).await.unwrap();
    assert!(!capture.advance(at(15, 0), at(17, 0)).await);
    assert!(capture.ask("in-time").await.is_some());
    let reading = room.catalog.metrics_reading(room.in_s(7)).await.unwrap();
    let [one] = &reading.instances[..] else { panic!("{reading:?}") };
    // Log is here, and no backup leads to it: what counts is the newest backup.
    assert_eq!((one.log_lag_ms, one.rpo_ms), (Some(7_000), 3_612_000));
}

pub(crate) async fn a_capture_ends_when_it_is_switched_off(room: &Room) {
    let instance = switched_on(room, "shop").await;
    let (catalog, project, audit) = (&room.catalog, &room.project, room.audit("log.switch"));
    // On again is fine, and the same one.
    let other = JobId::issue(uuid::Uuid::from_u128(1));
    catalog.log_switch_on(project, &instance.id, &other, &audit, room.now()).await.unwrap();
    let busy = async || catalog.instance_retire(project, &instance.id, &audit, room.now()).await;
    assert_eq!(busy().await.unwrap_err().kind(), ErrorKind::InstanceBusy);
    let held = claim(room).await.unwrap();
    assert_ne!(held.fence.job_id, other);
    assert!(!catalog.log_renew(&held.fence, room.in_s(30), None).await.unwrap().cancel_asked);
    catalog.log_switch_off(project, &instance.id, &audit, room.now()).await.unwrap();
    assert!(catalog.log_renew(&held.fence, room.in_s(30), None).await.unwrap().cancel_asked);
    let again = catalog.log_switch_on(project, &instance.id, &other, &audit, room.now()).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::InstanceBusy);
    assert_eq!(busy().await.unwrap_err().kind(), ErrorKind::InstanceBusy, "a worker has it");
    catalog.log_release(&held.fence, room.now(), None).await.unwrap();
    let ending = claim(room).await.unwrap();
    assert!(ending.is_ending);
    catalog.log_end(&ending.fence, &audit).await.unwrap();
    assert_eq!(catalog.log_standing(project, &instance.id).await.unwrap(), None);
    catalog.log_switch_off(project, &instance.id, &audit, room.now()).await.unwrap();
    // One that cannot end because its source is gone goes with its instance.
    catalog.log_switch_on(project, &instance.id, &other, &audit, room.now()).await.unwrap();
    catalog.log_switch_off(project, &instance.id, &audit, room.now()).await.unwrap();
    busy().await.unwrap();
    assert!(claim(room).await.is_none());
}
