//! Disks that are full, do not confirm, or cannot be read, and a process that may open few files:
//! asked of the kernel where it can be, on small volumes of their own.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use strongroom_testkit::depth;
use strongroom_testkit::disk::{FailingDisk, SmallDisk};

use crate::room::{Answer, Room, files, until};
use crate::source::{Source, digest, restore, restores_to};

/// A lease, three tries and their pauses.
const SETTLED: Duration = Duration::from_mins(3);

fn create(room: &Room, name: &str) -> Answer {
    let instance = room.json(&["instance", "list"])["instances"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/rds/v1/{}/backups", room.credential("project_id"));
    room.http("POST", &path, &json!({ "backup": { "instance": instance, "name": name } }).to_string())
}

fn names(room: &Room) -> BTreeSet<String> {
    let listed = room.json(&["backup", "list"]);
    let name = |view: &Value| view["name"].as_str().unwrap().to_owned();
    listed["backups"].as_array().unwrap().iter().map(name).collect()
}

fn failure(room: &Room, name: &str) -> String {
    let view = room.ended(name);
    assert_eq!(view["status"], "FAILED", "{view}");
    view["failure"].to_string()
}

/// A server whose repository lies on a disk of its own.
fn on_a_volume(disk: &SmallDisk) -> (Room, Source, PathBuf) {
    let mut room = Room::empty();
    let repository = disk.path().join("repository");
    room.options = vec!["--repository".to_owned(), format!("file://{}", repository.display())];
    room.serve();
    let source = Source::filled(8);
    source.register(&room);
    room.json(&["backup", "create", "shop", "--name", "before", "--wait", "--progress", "none"]);
    (room, source, repository)
}

#[test]
fn d01_a_full_repository_fails_the_backup_and_nothing_else() {
    let Some(disk) = SmallDisk::volume(400 << 20) else { return };
    let (room, source, repository) = on_a_volume(&disk);
    let wanted = digest(&source.server);
    source.change(30);
    let ballast = disk.fill(60 << 20).unwrap();
    let objects = files(&repository.join("l")).into_iter().filter(|path| is_below(path, "pk")).count();
    room.run(&["backup", "create", "shop", "--name", "too-much"]).expect(0);
    let told = failure(&room, "too-much");
    assert!(told.contains("disk_full") && told.contains("128.0 MiB") && told.contains("is safe"), "{told}");
    assert!(told.contains("free room"), "the next step is said: {told}");
    let now = files(&repository.join("l")).into_iter().filter(|path| is_below(path, "pk")).count();
    assert_eq!(now, objects, "no pack of it is left");
    assert!(files(&repository.join("tmp")).is_empty(), "no half object is left");
    source.is_released();
    // What was there before restores, and can be checked, deleted from and listed.
    restores_to(&room, "before", &wanted);
    room.run(&["repository", "check", "--level", "decode", "--progress", "none"]).expect(0);
    room.run(&["backup", "delete", "too-much"]).expect(0);
    drop(ballast);
    room.json(&["backup", "create", "shop", "--name", "after", "--wait", "--progress", "none"]);
    restores_to(&room, "after", &digest(&source.server));
}

fn is_below(path: &Path, folder: &str) -> bool {
    path.ancestors().any(|part| part.file_name().is_some_and(|name| name == folder))
}

/// Requests are refused in their own dialect, or what they were told holds; reads go on; with room
/// the service goes on by itself.
#[test]
fn d02_a_full_catalog_acknowledges_nothing_and_recovers() {
    let Some(disk) = SmallDisk::volume(16 << 20) else { return };
    let mut room = Room::empty();
    let catalog = disk.path().join("catalog.sqlite");
    room.options = vec!["--database-url".to_owned(), format!("sqlite://{}", catalog.display())];
    room.serve();
    let source = Source::filled(2);
    source.register(&room);
    room.json(&["backup", "create", "shop", "--name", "before", "--wait", "--progress", "none"]);
    let ballast = disk.fill(0).unwrap();
    let mut acknowledged = BTreeSet::from(["before".to_owned()]);
    // The log of the catalog may have room for a few more: what is answered then must hold.
    let refused = until("the catalog is full", SETTLED, || {
        let name = format!("wish-{}", acknowledged.len());
        let answer = create(&room, &name);
        match answer.status {
            200 => drop(acknowledged.insert(name)),
            409 => {}
            _ => return Some(answer),
        }
        None
    });
    assert_eq!((refused.status, &refused.body["errCode"]), (503, &"RDS.0005".into()), "{}", refused.body);
    let message = refused.body["externalMessage"].as_str().unwrap();
    assert!(message.contains("nothing that was acknowledged is lost"), "{message}");
    let path = format!("/rds/v1/{}/backups", room.credential("project_id"));
    assert_eq!(room.http("GET", &path, "").status, 200, "reads go on");
    assert_eq!(names(&room), acknowledged);
    drop(ballast);
    let answer = until("it takes requests again", SETTLED, || {
        let answer = create(&room, "with-room");
        (answer.status != 503 && answer.status != 409).then_some(answer)
    });
    assert_eq!(answer.status, 200, "{}", answer.body);
    acknowledged.insert("with-room".to_owned());
    for name in &acknowledged {
        assert_eq!(room.ended(name)["status"], "COMPLETED", "{name}");
    }
    assert_eq!(names(&room), acknowledged);
    // And what is on the disk is what was told, for whoever starts next.
    room.kill();
    room.serve();
    assert_eq!(names(&room), acknowledged);
    restores_to(&room, "with-room", &digest(&source.server));
}

/// Where member lists are spooled: the job fails with the place's name, and the next one works.
#[test]
fn d01_a_full_scratch_disk_fails_the_backup_clearly() {
    let Some(disk) = SmallDisk::in_memory(64 << 10) else { return };
    let (room, source) = (Room::serving(), Source::filled(1));
    source.register(&room);
    let scratch = room.data_dir().join("scratch");
    std::fs::remove_dir_all(&scratch).ok();
    std::os::unix::fs::symlink(disk.path(), &scratch).unwrap();
    let ballast = disk.fill(0).unwrap();
    room.run(&["backup", "create", "shop", "--name", "no-scratch"]).expect(0);
    let told = failure(&room, "no-scratch");
    assert!(told.contains("disk_full") && told.contains("scratch directory"), "{told}");
    source.is_released();
    drop(ballast);
    std::fs::remove_file(&scratch).unwrap();
    room.json(&["backup", "create", "shop", "--name", "with-scratch", "--wait", "--progress", "none"]);
}

/// A sync that fails is a write that is lost: the attempt ends, the file is never synced again to
/// be trusted after all, and the backup is made anew.
#[test]
fn d05_f06_a_sync_that_fails_in_the_repository_costs_one_try() {
    let Some(shim) = FailingDisk::build() else { return };
    let (mut room, source) = (Room::serving(), Source::filled(1));
    source.register(&room);
    room.json(&["backup", "create", "shop", "--name", "first", "--wait", "--progress", "none"]);
    let repository = room.repository();
    let run = |room: &mut Room, name: &str, at: usize| {
        room.stop();
        room.environment = shim.unsynced(&repository, at);
        room.serve();
        source.change(1 + u32::try_from(at).unwrap());
        room.run(&["backup", "create", "shop", "--name", name]).expect(0);
        let view = room.ended(name);
        (view, shim.syncs())
    };
    let (view, clean) = run(&mut room, "clean", 0);
    assert_eq!(view["status"], "COMPLETED", "{view}");
    assert!(clean.len() > 5 && clean.iter().all(|sync| !sync.has_failed), "{clean:?}");
    let places = depth::thin((1..=clean.len()).collect(), 4);
    for at in &places {
        let name = format!("sync-{at}");
        let (view, syncs) = run(&mut room, &name, *at);
        assert_eq!(view["status"], "COMPLETED", "{at}: {view}");
        let failed =
            syncs.iter().position(|sync| sync.has_failed).unwrap_or_else(|| panic!("{at}: {syncs:?}"));
        // A directory is synced again for its other names; a file of data never is.
        let again = syncs[failed + 1..].iter().filter(|sync| sync.path == syncs[failed].path).count();
        assert!(again == 0 || Path::new(&syncs[failed].path).is_dir(), "{at}: {syncs:?}");
        restores_to(&room, &name, &digest(&source.server));
    }
    room.run(&["repository", "check", "--level", "decode", "--progress", "none"]).expect(0);
    depth::report(format_args!("{} syncs of a backup, {} of them failed in turn", clean.len(), places.len()));
}

/// The catalog's own disk does not confirm a commit: the request is refused, or told to have
/// happened when it did; never told to have happened and gone.
#[test]
fn d05_a_sync_that_fails_in_the_catalog_acknowledges_nothing() {
    let Some(shim) = FailingDisk::build() else { return };
    let mut room = Room::serving();
    let source = Source::filled(1);
    source.register(&room);
    let catalog = room.data_dir().join("catalog.sqlite");
    // Its start syncs as well; what fails is to come after it.
    room.stop();
    room.environment = shim.unsynced(&catalog, 0);
    room.serve();
    let at_start = shim.syncs().len();
    let (mut acknowledged, mut refused) = (BTreeSet::new(), 0);
    for after in depth::thin((1..=12).collect(), 4) {
        room.stop();
        room.environment = shim.unsynced(&catalog, at_start + after);
        room.serve();
        let name = format!("sync-{after}");
        let answer = create(&room, &name);
        match answer.status {
            200 => drop(acknowledged.insert(name.clone())),
            503 => refused += 1,
            other => panic!("{other}: {}", answer.body),
        }
        room.kill();
        room.environment.clear();
        room.serve();
        let there = names(&room);
        assert!(acknowledged.is_subset(&there), "{after}: {acknowledged:?} {there:?}");
        for name in &there {
            assert_eq!(room.ended(name)["status"], "COMPLETED", "{name}");
        }
    }
    depth::report(format_args!("{refused} requests refused, {} acknowledged and there", acknowledged.len()));
    source.is_released();
}

/// A sector that cannot be read: told as damage, with the object and the backup.
#[test]
fn d04_an_object_that_the_disk_cannot_read_is_damage_with_a_name() {
    let Some(shim) = FailingDisk::build() else { return };
    let (mut room, source) = (Room::serving(), Source::filled(2));
    source.register(&room);
    room.json(&["backup", "create", "shop", "--name", "good", "--wait", "--progress", "none"]);
    let pack = files(&room.repository().join("l"))
        .into_iter()
        .filter(|path| is_below(path, "pk"))
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    let name = pack.strip_prefix(room.repository()).unwrap().display().to_string();
    room.stop();
    room.environment = shim.unreadable(&name);
    room.serve();
    let found = room.run(&["repository", "check", "--level", "digest", "--progress", "none"]).expect(5);
    assert!(found.stdout.contains(&name) && found.stdout.contains("good"), "{}", found.stdout);
    let target = room.scratch.path().join("target");
    let refused = restore(&room, "good", &target).expect(5);
    assert!(refused.stderr.contains(&name), "{}", refused.stderr);
    std::fs::remove_dir_all(&target).ok();
    // The next backup stands on nothing that cannot be read.
    source.change(5);
    room.json(&["backup", "create", "shop", "--name", "after", "--wait", "--progress", "none"]);
    room.stop();
    room.environment.clear();
    room.serve();
    room.run(&["repository", "check", "--level", "decode", "--progress", "none"]).expect(0);
    restores_to(&room, "good", &restored_digest(&room, "good"));
}

/// What a backup holds, taken from a restore of it.
fn restored_digest(room: &Room, backup: &str) -> String {
    let target = room.scratch.path().join("first-look");
    restore(room, backup, &target).expect(0);
    let server =
        strongroom_testkit::postgres::PostgresServer::adopt(crate::source::VERSION, &target).unwrap();
    let found = digest(&server);
    drop(server);
    std::fs::remove_dir_all(&target).unwrap();
    found
}

/// Few descriptors, all of them taken by callers that say nothing: new callers wait, the ones that
/// are served go on, and when the idle ones leave everything is as before.
#[test]
fn p10_out_of_descriptors_the_server_waits_and_lives() {
    let (mut room, source) = (Room::empty(), Source::filled(1));
    room.descriptors = Some(64);
    room.serve();
    source.register(&room);
    let authority = room.endpoint.strip_prefix("http://").unwrap().to_owned();
    let idle: Vec<TcpStream> = (0..120).filter_map(|_| TcpStream::connect(&authority).ok()).collect();
    assert!(idle.len() > 64);
    // Whatever it can or cannot do now, it must not end.
    let starved = room.run(&["backup", "create", "shop", "--name", "starved"]);
    drop(idle);
    until("it answers again", Duration::from_secs(30), || {
        (room.run(&["backup", "list"]).code == 0).then_some(())
    });
    if starved.code == 0 || names(&room).contains("starved") {
        assert!(["COMPLETED", "FAILED"].contains(&room.ended("starved")["status"].as_str().unwrap()));
    }
    until("a backup is taken", SETTLED, || {
        let done =
            room.run(&["backup", "create", "shop", "--name", "shop-fed", "--wait", "--progress", "none"]);
        (done.code == 0).then_some(())
    });
    restores_to(&room, "shop-fed", &digest(&source.server));
    assert!(room.stop().success());
}
