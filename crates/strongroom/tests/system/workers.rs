//! Several processes on one catalog and one repository: workers that are frozen, killed and raced,
//! and a catalog that goes and comes back.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use strongroom_core::limits;
use strongroom_testkit::depth;

use crate::room::{Done, Room, files, pause, until};
use crate::site::{CATALOG_PASSWORD, Site, Worker, catalog_server, catalog_url};
use crate::source::{Source, digest, restores_to};

/// Within this every job has ended or goes on elsewhere: a lease, and the work itself.
const SETTLED: Duration = Duration::from_mins(3);
/// A source keeps log for a worker that says nothing no longer than this.
const RELEASED: Duration = Duration::from_mins(2);
/// Bytes a second of a source whose backup must not be over before it is interrupted.
const SLOW: u64 = 8 << 20;
/// A wish to end is heard with the next heartbeat; the rest is for a busy machine.
const HEARD: Duration = Duration::from_secs(15);

fn ended(site: &Site, backup: &str) -> serde_json::Value {
    until("the backup ends", SETTLED, || {
        let view = site.room.json(&["backup", "show", backup]);
        (view["status"] != "BUILDING").then_some(view)
    })
}

/// Waits until this is so, looking as often as the machine can.
fn spin(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < SETTLED, "it never came: {what}");
        std::thread::yield_now();
    }
}

/// Waits until the running job has told that it is in the middle of its work.
fn bytes_move(site: &Site) {
    until("bytes move", SETTLED, || {
        let running = "select coalesce(max((progress::json ->> 'done_bytes')::bigint), 0) from jobs where finished is null";
        (site.row(running) != "0").then_some(())
    });
}

fn count(site: &Site, kind: &str) -> usize {
    let parent = |path: &std::path::PathBuf| path.to_string_lossy().contains(&format!("/{kind}/"));
    files(&site.room.repository().join("l")).iter().filter(|path| parent(path)).count()
}

/// Frozen past its lease while it streams, then let go: another worker has finished the backup, and
/// nothing of what the first one does from then on counts.
#[test]
fn p07_a_frozen_worker_that_goes_on_changes_nothing() {
    let (site, source) = (Site::serving(), Source::filled(20));
    source.register_slow(&site.room, "shop", SLOW);
    let wanted = digest(&source.server);
    let mut first = site.worker("first");
    site.create("shop", "contested");
    bytes_move(&site);
    first.freeze();
    let frozen = Instant::now();
    let second = site.worker("second");
    let view = ended(&site, "contested");
    assert_eq!(view["status"], "COMPLETED", "{view}");
    assert_eq!(site.row("select epoch || ' ' || state from jobs where kind <> 'sweep'"), "2 succeeded");
    until("the source drops the frozen worker's slot", RELEASED, || (source.slots() == 0).then_some(()));
    assert!(frozen.elapsed() < RELEASED, "{:?}", frozen.elapsed());
    const { assert!(limits::SOURCE_SLOT_RELEASE_TIMEOUT_MS < 120_000) };

    let (rows, verdicts) = (site.rows(), site.verdicts());
    first.thaw();
    until("the first worker has ended its try", SETTLED, || {
        let log = first.log();
        (log.contains("did not succeed") && log.contains("The lease was lost")).then_some(())
    });
    assert_eq!(site.rows(), rows, "a row was changed by a worker without a lease");
    assert_eq!(site.verdicts(), verdicts);
    source.is_released();
    restores_to(&site.room, "contested", &wanted);

    // It is a worker like any other again.
    drop(second);
    site.room.json(&["backup", "create", "shop", "--name", "after", "--wait", "--progress", "none"]);
    restores_to(&site.room, "after", &wanted);
    site.room.run(&["repository", "check", "--level", "decode", "--progress", "none"]).expect(0);
    assert!(first.stop().success());
}

/// Frozen at several moments: before anything is written, at the first pack, at the seal. One worker
/// takes them all over at once.
#[test]
fn p07_frozen_at_any_moment() {
    let (site, source) = (Site::serving(), Source::filled(6));
    let wanted = digest(&source.server);
    let moments: [(&str, &dyn Fn(usize) -> bool); 3] = [
        ("intent", &|before| count(&site, "in") > before),
        ("pack", &|before| count(&site, "pk") > before),
        ("seal", &|before| count(&site, "at") > before),
    ];
    let kinds = ["in", "pk", "at"];
    let mut frozen: Vec<Worker> = Vec::new();
    for ((name, is_now), kind) in moments.iter().zip(kinds) {
        source.register_as(&site.room, &format!("shop-{name}"));
        let worker = site.worker(name);
        let before = count(&site, kind);
        site.create(&format!("shop-{name}"), name);
        spin(name, || is_now(before));
        worker.freeze();
        frozen.push(worker);
    }
    let heir = site.worker("heir");
    for (name, _) in &moments {
        assert_eq!(ended(&site, name)["status"], "COMPLETED", "{name}");
    }
    let (rows, verdicts) = (site.rows(), site.verdicts());
    for worker in &mut frozen {
        worker.thaw();
        assert!(worker.stop().success());
    }
    assert_eq!((site.rows(), site.verdicts()), (rows, verdicts));
    drop(heir);
    source.is_released();
    for (name, _) in &moments {
        restores_to(&site.room, name, &wanted);
    }
}

#[test]
fn p03_a_worker_that_is_killed_is_replaced_by_another() {
    let (site, source) = (Site::serving(), Source::filled(20));
    let wanted = digest(&source.server);
    let mut survivors = Vec::new();
    for (round, pause_ms) in [50, 400, 1200].into_iter().enumerate() {
        let (instance, name) = (format!("shop-{round}"), format!("round-{round}"));
        source.register_as(&site.room, &instance);
        let mut doomed = site.worker(&format!("doomed-{round}"));
        site.create(&instance, &name);
        pause(Duration::from_millis(pause_ms));
        doomed.kill();
    }
    let killed = Instant::now();
    survivors.push(site.worker("heir-1"));
    survivors.push(site.worker("heir-2"));
    for round in 0..3 {
        let view = ended(&site, &format!("round-{round}"));
        assert_eq!(view["status"], "COMPLETED", "{view}");
    }
    assert!(killed.elapsed() < Duration::from_mins(2), "{:?}", killed.elapsed());
    source.is_released();
    for round in 0..3 {
        restores_to(&site.room, &format!("round-{round}"), &wanted);
    }
    for mut worker in survivors {
        assert!(worker.stop().success());
    }
}

/// Whoever comes first does a job, and nobody does it twice.
#[test]
fn p08_workers_beside_each_other_do_each_job_once() {
    const JOBS: usize = 24;
    let (site, source) = (Site::serving(), Source::filled(1));
    let names: Vec<String> = (0..4).map(|number| format!("shop-{number}")).collect();
    for name in &names {
        source.register_as(&site.room, name);
    }
    let workers: Vec<Worker> = (0..4).map(|number| site.worker(&format!("worker-{number}"))).collect();
    for name in &names {
        site.create(name, &format!("of-{name}"));
    }
    for name in &names {
        assert_eq!(ended(&site, &format!("of-{name}"))["status"], "COMPLETED");
    }
    let backups: Vec<String> = site.row("select id from backups").lines().map(str::to_owned).collect();
    for number in 0..JOBS - names.len() {
        let path = format!("/strongroom/v1/backups/{}/verify", backups[number % backups.len()]);
        assert_eq!(site.room.http("POST", &path, r#"{"level":"digest"}"#).status, 202);
    }
    until("every job ends", SETTLED, || {
        (site.row("select count(*) from jobs where finished is null and kind <> 'sweep'") == "0")
            .then_some(())
    });
    let once = "select count(*) from jobs where state = 'succeeded' and epoch = 1 and attempts = 1";
    assert_eq!(site.row(once), JOBS.to_string());
    let log: String = workers.iter().map(Worker::log).collect();
    assert_eq!(log.matches("Job claimed.").count(), JOBS, "each is claimed once, by one worker");
    let busy = workers.iter().filter(|worker| worker.log().contains("Job claimed.")).count();
    assert!(busy > 1, "the work is shared");
}

/// Eight processes, killed at random and replaced: the storm of the service's tests, with nothing of
/// a test in it but the kills.
#[test]
fn p03_p08_a_storm_of_processes() {
    let (rounds, checks) = depth::choose((10, 60), (60, 400));
    let (site, source) = (Site::serving(), Source::filled(1));
    let names: Vec<String> = (0..8).map(|number| format!("shop-{number}")).collect();
    let mut workers: Vec<Worker> = (0..8).map(|number| site.worker(&format!("worker-{number}"))).collect();
    for name in &names {
        source.register_as(&site.room, name);
        site.create(name, &format!("of-{name}"));
    }
    for name in &names {
        ended(&site, &format!("of-{name}"));
    }
    let backups: Vec<String> = site.row("select id from backups").lines().map(str::to_owned).collect();
    let (mut asked, mut kills, mut seed) = (0, 0, 0x9e37_79b9_u32);
    for round in 0..rounds {
        while asked < checks * (round + 1) / rounds {
            let path = format!("/strongroom/v1/backups/{}/verify", backups[asked % backups.len()]);
            assert_eq!(site.room.http("POST", &path, r#"{"level":"decode"}"#).status, 202);
            asked += 1;
        }
        for name in &names {
            // Where one is running already, that one is enough.
            let _ = site.room.run(&["backup", "create", name, "--name", &format!("round-{round}-{name}")]);
        }
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let unlucky = (seed >> 16) as usize % workers.len();
        pause(Duration::from_millis(u64::from(seed >> 20) % 700));
        workers[unlucky].kill();
        kills += 1;
        workers[unlucky] = site.worker(&format!("worker-{unlucky}"));
    }
    until("every job ends", SETTLED, || {
        (site.row("select count(*) from jobs where finished is null and kind <> 'sweep'") == "0")
            .then_some(())
    });
    let failed = "select count(*) from jobs where state <> 'succeeded' and kind <> 'sweep'";
    assert_eq!(site.row(failed), "0");
    // One event a success, written with it; one seal a backup.
    let jobs: u32 = site.row("select count(*) from jobs where kind <> 'sweep'").parse().unwrap();
    let events = "select count(*) from audit_events where action in ('backup.complete', 'backup.verified')";
    assert_eq!(site.row(events), jobs.to_string());
    let completed = site.row("select count(*) from backups where state = 'completed'");
    assert_eq!(
        site.row("select count(distinct attempt_id) from backups where state = 'completed'"),
        completed
    );
    let log: String = (0..8).map(|number| site.worker_log(&format!("worker-{number}"))).collect();
    let mut claims: Vec<&str> =
        log.lines().filter_map(|line| line.split_once("Job claimed. ")).map(|(_, what)| what).collect();
    let said = claims.len();
    claims.sort_unstable();
    claims.dedup();
    assert_eq!(claims.len(), said, "a claim was held by two workers");
    assert!(said >= jobs as usize);
    let lost = site.row("select coalesce(sum(leases_lost), 0) from jobs");
    depth::report(format_args!("storm of processes: {jobs} jobs, {kills} kills, {lost} leases taken over"));
    drop(workers);
    source.is_released();
    let last = site.worker("last");
    site.room.run(&["repository", "check", "--level", "decode", "--progress", "none"]).expect(0);
    drop(last);
}

/// Asked on the server, heard by the worker; and how far it is, the other way.
#[test]
fn progress_and_a_wish_to_end_pass_through_the_catalog() {
    let (site, source) = (Site::serving(), Source::filled(20));
    source.register_slow(&site.room, "shop", SLOW);
    let worker = site.worker("elsewhere");
    let job = site.create("shop", "unwanted")["job_id"].as_str().unwrap().to_owned();
    until("progress is told", SETTLED, || {
        let view = site.room.json(&["job", "show", &job]);
        assert_ne!(view["state"], "succeeded", "it was too fast to be seen");
        let moves = view["progress"]["done_bytes"].as_u64() > Some(0)
            && view["progress"]["rate_bytes_per_s"].as_u64() > Some(0)
            && view["progress"]["phase"] != "";
        moves.then_some(())
    });
    let asked = Instant::now();
    let path = format!("/strongroom/v1/jobs/{job}/cancel");
    assert!(site.room.http("POST", &path, "").status < 300);
    let view = ended(&site, "unwanted");
    assert!(asked.elapsed() < HEARD, "{:?}", asked.elapsed());
    assert_eq!(
        (&view["status"], &view["failure"]["code"]),
        (&"FAILED".into(), &"cancelled".into()),
        "{view}"
    );
    source.is_released();
    drop(worker);
}

/// The catalog's server restarts under a job: its lease outlives that, and it ends once.
#[test]
fn m06_the_catalog_restarts_in_the_middle_of_a_job() {
    let (mut site, source) = (Site::serving(), Source::filled(20));
    source.register_slow(&site.room, "shop", SLOW);
    let wanted = digest(&source.server);
    let mut worker = site.worker("patient");
    site.create("shop", "shaken");
    bytes_move(&site);
    site.catalog.restart().unwrap();
    let view = ended(&site, "shaken");
    assert_eq!(view["status"], "COMPLETED", "{view}");
    assert_eq!(site.row("select epoch || ' ' || attempts || ' ' || state from jobs"), "1 1 succeeded");
    restores_to(&site.room, "shaken", &wanted);
    // Power cut instead of good order.
    site.create("shop", "power-cut");
    bytes_move(&site);
    site.catalog.kill9().unwrap();
    site.catalog.launch().unwrap();
    assert_eq!(ended(&site, "power-cut")["status"], "COMPLETED");
    restores_to(&site.room, "power-cut", &wanted);
    assert!(worker.stop().success());
}

#[test]
fn two_first_starts_at_once_make_one_installation() {
    let catalog = catalog_server();
    let mut rooms = [Room::empty(), Room::empty()];
    let shared = rooms[0].scratch.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let password = rooms[0].scratch.path().join("password");
    fs::write(&password, CATALOG_PASSWORD).unwrap();
    for room in &mut rooms {
        room.options = [
            "--database-url",
            &catalog_url(&catalog),
            "--database-password-file",
            &password.display().to_string(),
            "--repository",
            &format!("file://{}", shared.display()),
        ]
        .map(str::to_owned)
        .to_vec();
    }
    let mut started = rooms
        .each_ref()
        .map(|room| room.serve_command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let first = until("one of them is refused", SETTLED, || {
        let refused = started.iter_mut().position(|child| child.try_wait().unwrap().is_some())?;
        Some(1 - refused)
    });
    let refused = started[1 - first].wait().unwrap();
    assert_eq!(refused.code(), Some(7), "it has no key of the repository that the other one made");
    assert!(!rooms[1 - first].data_dir().join("recovery.key").exists(), "and made none");
    until("the other one serves", SETTLED, || rooms[first].data_dir().join("openrc").exists().then_some(()));
    assert_eq!(catalog.psql("catalog", "select count(*) from projects").unwrap(), "1");
    for child in &mut started {
        let _ = child.kill();
        child.wait().unwrap();
    }
    // With a copy of the key both serve, and it is one installation.
    fs::copy(rooms[first].data_dir().join("recovery.key"), rooms[1 - first].data_dir().join("recovery.key"))
        .unwrap();
    for room in &mut rooms {
        room.serve();
    }
    let token = rooms[first].credential("token");
    let project = rooms[first].credential("project_id");
    let mut elsewhere = rooms[first].command(&["backup", "list", "--output", "json"]);
    elsewhere.env("STRONGROOM_ENDPOINT", &rooms[1 - first].endpoint);
    elsewhere.env("STRONGROOM_TOKEN", token).env("STRONGROOM_PROJECT_ID", project);
    Done::of(&elsewhere.output().unwrap()).expect(0);
}

#[test]
fn a_first_start_on_a_server_that_is_killed_anywhere_is_completed_by_the_next() {
    let catalog = catalog_server();
    for (round, pause_ms) in [0, 20, 40, 60, 80, 100, 130, 160, 200, 300].into_iter().enumerate() {
        let (mut room, name) = (Room::empty(), format!("catalog_{round}"));
        catalog.psql("postgres", &format!("create database {name} owner keeper")).unwrap();
        let password = room.scratch.path().join("password");
        fs::write(&password, CATALOG_PASSWORD).unwrap();
        room.options = [
            "--database-url",
            &format!("postgres://keeper@127.0.0.1:{}/{name}", catalog.port()),
            "--database-password-file",
            &password.display().to_string(),
        ]
        .map(str::to_owned)
        .to_vec();
        room.serve_and_kill_after(Duration::from_millis(pause_ms));
        room.serve();
        assert_eq!(room.json(&["backup", "list"])["backups"], serde_json::json!([]), "after {pause_ms} ms");
        assert_eq!(catalog.psql(&name, "select count(*) from projects").unwrap(), "1");
        // The token of the file is the one in the catalog.
        room.run(&["doctor"]).expect(0);
    }
}

#[test]
fn a_worker_that_does_not_belong_is_refused_before_it_claims() {
    let (site, source) = (Site::serving(), Source::filled(1));
    source.register(&site.room);
    site.create("shop", "waiting");
    let other = Room::serving();
    let (key, repository) = (
        other.data_dir().join("recovery.key").display().to_string(),
        other.repository().display().to_string(),
    );
    let wrong_key = site.worker_refused("a", &[("RECOVERY_KEY_FILE", &key)]).expect(7);
    assert!(wrong_key.stderr.contains("recovery key"), "{}", wrong_key.stderr);
    site.worker_refused("b", &[("RECOVERY_KEY_FILE", "/nowhere")]).expect(7);
    let moved = format!("file://{repository}");
    site.worker_refused("c", &[("REPOSITORY", &moved), ("RECOVERY_KEY_FILE", &key)]).expect(7);
    site.worker_refused("data", &[]).expect(4);
    let file = format!("sqlite://{}", other.data_dir().join("catalog.sqlite").display());
    let mut alone = std::process::Command::new(crate::room::PROGRAM);
    crate::room::scrub(&mut alone);
    alone.args(["worker", "--database-url", &file, "--data-dir"]).arg(other.scratch.path().join("w"));
    let alone = Done::of(&alone.output().unwrap()).expect(4);
    assert!(alone.stderr.contains("PostgreSQL"), "{}", alone.stderr);

    let empty = site.room.scratch.path().join("empty");
    fs::create_dir(&empty).unwrap();
    site.worker_refused("d", &[("REPOSITORY", &format!("file://{}", empty.display()))]).expect(6);
    // The right key, but the repository of another catalog.
    let mut twin = Room::empty();
    fs::create_dir(twin.data_dir()).unwrap();
    fs::copy(site.room.data_dir().join("recovery.key"), twin.data_dir().join("recovery.key")).unwrap();
    twin.serve();
    let twins = format!("file://{}", twin.repository().display());
    let refused = site.worker_refused("e", &[("REPOSITORY", &twins)]).expect(4);
    assert!(refused.stderr.contains("nothing was touched"), "{}", refused.stderr);
    site.catalog.psql("postgres", "create database untouched owner keeper").unwrap();
    let fresh = catalog_url(&site.catalog).replace("/catalog", "/untouched");
    let refused = site.worker_refused("f", &[("DATABASE_URL", &fresh)]).expect(4);
    assert!(refused.stderr.contains("first start"), "{}", refused.stderr);

    assert_eq!(site.row("select state || ' ' || epoch from jobs"), "ready 0", "nobody claimed it");
    let doctor = site.room.json(&["doctor"]);
    assert!(doctor.to_string().contains("PostgreSQL 15"), "{doctor}");
}

#[test]
fn a_worker_says_how_it_is_and_says_no_secret() {
    let (site, source) = (Site::serving(), Source::filled(1));
    source.register(&site.room);
    let mut worker = site.worker_with("healthy", &["--health-listen", "127.0.0.1:0", "--log", "debug"]);
    let endpoint = worker.said[0].strip_prefix("listening on ").unwrap().to_owned();
    site.room.json(&["backup", "create", "shop", "--name", "counted", "--wait", "--progress", "none"]);
    let mut asked = Room::empty();
    asked.endpoint = endpoint;
    assert_eq!(asked.http_open("/healthz").status, 200);
    assert_eq!(asked.http_open("/readyz").status, 200);
    assert_eq!(asked.http_open("/rds").status, 404);
    let metrics = asked.http_open("/metrics").body.to_string();
    assert!(metrics.contains("strongroom_backup_bytes_total"), "{metrics}");
    assert!(worker.stop().success());
    for text in [worker.log(), site.room.log(), metrics] {
        assert!(!text.contains("canary"), "a password was written down");
        assert!(!text.contains("p%40ss"), "a password was written down");
    }
}
