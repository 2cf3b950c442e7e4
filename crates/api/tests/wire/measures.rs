//! `/metrics`: frozen names (interfaces section 5), ids only.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use strongroom_core::id::JobId;
use strongroom_core::time::Clock as _;

use crate::client::{Ask, Reply};
use crate::events::complete;
use crate::room::{Room, room};
use crate::rules::check_every_answer;

/// The frozen names and their labels, as far as the part of the product exists, and those of sweeps.
const FROZEN: &[(&str, &str, &[&str])] = &[
    ("strongroom_backup_last_success_timestamp_seconds", "gauge", &["engine", "instance_id"]),
    ("strongroom_backup_last_verified_timestamp_seconds", "gauge", &["engine", "instance_id"]),
    ("strongroom_backups", "gauge", &["status"]),
    ("strongroom_jobs", "gauge", &["kind", "state"]),
    ("strongroom_job_oldest_pending_seconds", "gauge", &[]),
    ("strongroom_job_lease_lost_total", "counter", &[]),
    ("strongroom_backup_bytes_total", "counter", &["kind"]),
    ("strongroom_verify_failures_total", "counter", &["reason"]),
    ("strongroom_scrub_corrupt_objects_total", "counter", &[]),
    ("strongroom_repository_bytes", "gauge", &[]),
    ("strongroom_repository_swept_bytes_total", "counter", &[]),
    ("strongroom_repository_last_sweep_timestamp_seconds", "gauge", &[]),
    ("strongroom_repository_dead_bytes", "gauge", &[]),
    ("strongroom_auth_failures_total", "counter", &["reason"]),
    ("strongroom_api_request_seconds", "histogram", &["code", "route"]),
    ("strongroom_build_info", "gauge", &["version"]),
    ("strongroom_policy_instances", "gauge", &[]),
    ("strongroom_policy_oldest_due_seconds", "gauge", &[]),
    ("strongroom_policy_backups_begun_total", "counter", &["punctuality"]),
    ("strongroom_policy_backups_expired_total", "counter", &[]),
    ("strongroom_log_lag_seconds", "gauge", &["instance_id"]),
    ("strongroom_rpo_seconds", "gauge", &["instance_id"]),
];

struct Page {
    kinds: BTreeMap<String, String>,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// Reads the text format as strictly as a collector does.
fn parse(text: &str) -> Page {
    let mut page = Page { kinds: BTreeMap::new(), samples: Vec::new() };
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(page.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
            let pairs = labels.split("\",").filter(|pair| !pair.is_empty());
            let labels = pairs.map(|pair| pair.split_once("=\"").unwrap_or_else(|| panic!("{line}")));
            let labels = labels.map(|(key, value)| (key.to_owned(), value.trim_end_matches('"').to_owned()));
            page.samples.push((
                name.to_owned(),
                labels.collect(),
                value.parse().unwrap_or_else(|_| panic!("{line}")),
            ));
        }
    }
    page
}

impl Page {
    fn value(&self, name: &str, wanted: &[(&str, &str)]) -> Option<f64> {
        let fits = |labels: &BTreeMap<String, String>| {
            wanted.iter().all(|(key, value)| labels.get(*key).is_some_and(|found| found == value))
        };
        self.samples
            .iter()
            .find(|(found, labels, _)| found == name && fits(labels))
            .map(|(_, _, value)| *value)
    }
}

async fn page(room: &Room) -> (Page, Reply) {
    let reply = room.send(Ask::get("/metrics")).await;
    check_every_answer(&Ask::get("/metrics"), &reply);
    assert_eq!(reply.status, 200);
    (parse(&reply.text()), reply)
}

/// A backup that completed, one that waits, a log that is captured, and callers that were refused.
async fn lively() -> Room {
    let room = room().await;
    let (one, two) =
        (room.add_instance(&room.ours, "orders").await, room.add_instance(&room.ours, "billing").await);
    assert_eq!(room.create_backup("nightly", &one).await.status, 200);
    complete(&room).await;
    assert_eq!(room.create_backup("second", &two).await.status, 200);
    let (project, job, audit) =
        (&room.ours.project, JobId::issue(uuid::Uuid::from_u128(7)), room.audit(&room.ours, "log.switch_on"));
    room.catalog.log_switch_on(project, &one.id, &job, &audit, room.clock.now()).await.unwrap();
    room.send(Ask::get(&room.ours.v1("/backups"))).await;
    room.ask(Ask::get(&room.theirs.v1("/backups"))).await;
    room.ask(Ask::get(&room.ours.v1("/backups/secret-path"))).await;
    room.ask(Ask::get("/secret-path")).await;
    room.advance_s(90);
    room
}

#[tokio::test]
async fn the_frozen_names_have_their_kinds_and_labels() {
    let room = lively().await;
    let (page, reply) = page(&room).await;
    assert_eq!(reply.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for (name, kind, labels) in FROZEN {
        assert_eq!(page.kinds.get(*name).map(String::as_str), Some(*kind), "{name}");
        let base = |found: &str| {
            ["_bucket", "_sum", "_count"].iter().find_map(|end| found.strip_suffix(end).map(str::to_owned))
        };
        let of_it = page.samples.iter().filter(|(found, ..)| {
            found == name || (*kind == "histogram" && base(found).as_deref() == Some(name))
        });
        let wanted: BTreeSet<&str> = labels.iter().copied().collect();
        let mut seen = 0;
        for (_, found, _) in of_it {
            let keys: BTreeSet<&str> = found.keys().map(String::as_str).filter(|key| *key != "le").collect();
            assert_eq!(keys, wanted, "{name}");
            seen += 1;
        }
        assert!(seen > 0, "{name} has no sample");
    }
    let frozen: BTreeSet<&str> = FROZEN.iter().map(|(name, ..)| *name).collect();
    let unknown: Vec<_> = page.kinds.keys().filter(|name| !frozen.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "names that nobody promised: {unknown:?}");
}

#[tokio::test]
async fn the_numbers_are_those_of_the_moment() {
    let room = lively().await;
    let (page, _) = page(&room).await;
    assert_eq!(page.value("strongroom_backups", &[("status", "COMPLETED")]), Some(1.0));
    assert_eq!(page.value("strongroom_backups", &[("status", "BUILDING")]), Some(1.0));
    assert_eq!(page.value("strongroom_jobs", &[("state", "ready"), ("kind", "backup")]), Some(1.0));
    assert_eq!(page.value("strongroom_job_oldest_pending_seconds", &[]), Some(90.0));
    assert_eq!(page.value("strongroom_job_lease_lost_total", &[]), Some(0.0));
    // The one that never completed a backup stands at 0, so that an alert on age finds it.
    let instances = room.catalog.instance_list(&room.ours.project).await.unwrap();
    let of_name =
        |name: &str| instances.iter().find(|found| found.name.as_str() == name).unwrap().id.to_string();
    let newest = "strongroom_backup_last_success_timestamp_seconds";
    let (orders, billing) = (of_name("orders"), of_name("billing"));
    assert_eq!(page.value(newest, &[("instance_id", &orders)]), Some(1_772_600_767.0));
    assert_eq!(page.value(newest, &[("instance_id", &billing)]), Some(0.0));
    // Nothing of its log is here yet, and until it is, what counts is the newest backup, or that there is none.
    let lag = "strongroom_log_lag_seconds";
    assert_eq!(page.value(lag, &[("instance_id", &orders)]), Some(90.0));
    assert_eq!(page.value(lag, &[("instance_id", &billing)]), None);
    let rpo_since = |id: &str| {
        let seconds = page.value("strongroom_rpo_seconds", &[("instance_id", id)]).unwrap();
        room.clock.now() - jiff::SignedDuration::from_secs_f64(seconds)
    };
    assert_eq!(rpo_since(&orders).as_second(), 1_772_600_767);
    assert_eq!(
        rpo_since(&billing),
        instances.iter().find(|found| found.id.as_str() == billing).unwrap().created
    );
    assert_eq!(page.value("strongroom_auth_failures_total", &[("reason", "token")]), Some(1.0));
    assert_eq!(page.value("strongroom_auth_failures_total", &[("reason", "project")]), Some(1.0));
    let route = "/rds/v1/{project_id}/backups";
    let posts = [("route", route), ("code", "200")];
    assert_eq!(page.value("strongroom_api_request_seconds_count", &posts), Some(2.0));
    let unknown = [("route", "(none)"), ("code", "404")];
    assert_eq!(page.value("strongroom_api_request_seconds_count", &unknown), Some(1.0));
    assert_eq!(page.value("strongroom_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
}

#[tokio::test]
async fn a28_labels_name_no_tenant_no_instance_and_no_raw_path() {
    let room = lively().await;
    let (page, reply) = page(&room).await;
    let text = reply.text();
    for private in
        ["orders", "billing", "nightly", "ours", "db.example", "secret-path", room.ours.project.as_str()]
    {
        assert!(!text.contains(private), "{private} is in the page");
    }
    let long: Vec<_> =
        page.samples.iter().flat_map(|(_, labels, _)| labels.values()).filter(|v| v.len() > 80).collect();
    assert!(long.is_empty(), "{long:?}");
}

#[tokio::test]
async fn collectors_that_ask_for_the_newer_format_get_it() {
    let room = lively().await;
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let reply = room.send(Ask::get("/metrics").header("Accept", accept)).await;
    assert_eq!(
        reply.header("Content-Type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(reply.text().ends_with("# EOF\n"));
    assert!(reply.text().contains("# TYPE strongroom_auth_failures counter\n"));
    assert!(reply.text().contains("\nstrongroom_auth_failures_total{"));
}

/// Fields that no metric may count in: every instance of a large installation is a series already.
#[tokio::test]
async fn refused_calls_do_not_grow_the_page() {
    let room = room().await;
    let lines = |text: String| text.lines().count();
    room.send(Ask::get("/nowhere")).await;
    let before = lines(page(&room).await.1.text());
    for at in 0..20 {
        room.send(Ask::get(&format!("/nowhere/{at}"))).await;
        room.ask(Ask::post(&room.ours.v1("/backups"), json!({ "backup": { "name": at } }).to_string())).await;
    }
    // One series came: the route of the create with code 400, and the page's own.
    let series = 2 * 14;
    assert!(lines(page(&room).await.1.text()) <= before + series);
}

/// Words that begin as our metrics do.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let is_of_names = |c: char| c.is_ascii_lowercase() || c == '_';
    text.split(|c| !is_of_names(c)).filter(|word| word.starts_with("strongroom_")).collect()
}

/// A rule about a metric that nobody tells never wakes anybody.
#[tokio::test]
async fn the_alert_rules_speak_of_metrics_that_there_are() {
    let guides = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides");
    let rules = std::fs::read_to_string(format!("{guides}/alerts.yml")).unwrap();
    let guide = std::fs::read_to_string(format!("{guides}/alerts.md")).unwrap();
    let told: BTreeSet<&str> = FROZEN.iter().map(|(name, ..)| *name).collect();
    let asked = metrics_in(&rules);
    assert!(asked.len() >= 8, "{asked:?}");
    assert!(asked.is_subset(&told), "{:?}", asked.difference(&told));
    let anchors = rules.split("runbook: docs/guides/alerts.md#").skip(1);
    let anchors: Vec<&str> = anchors.map(|rest| rest.lines().next().unwrap()).collect();
    assert_eq!(anchors.len(), rules.matches("- alert: ").count(), "each rule has a place to read on");
    for anchor in anchors {
        assert!(guide.contains(&format!("<a id=\"{anchor}\"></a>")), "{anchor}");
    }
}
