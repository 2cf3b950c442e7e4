//! Verifications that start the restored database, through the executable.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use strongroom_testkit::postgres::{bindir, require};
use tempfile::TempDir;

use crate::room::{Room, until};
use crate::source::Source;

const ENGINE: [&str; 4] = ["--level", "engine", "--progress", "none"];

/// A room whose sandbox the server's account can reach.
pub(crate) struct Drills {
    pub(crate) room: Room,
    home: TempDir,
}

impl Drills {
    fn empty() -> Self {
        let home = tempfile::Builder::new().prefix("strongroom-sandbox-").tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let mut room = Room::empty();
        let sandbox = home.path().join("s").display().to_string();
        room.options = vec!["--sandbox-dir".to_owned(), sandbox];
        Self { room, home }
    }

    fn serving(version: u32) -> Self {
        Self::with_servers("STRONGROOM_POSTGRES_BINDIR", &bindir(version).unwrap())
    }

    /// `variable` names the folder where drills find their server.
    pub(crate) fn with_servers(variable: &str, folder: &Path) -> Self {
        let mut drills = Self::empty();
        drills.room.environment = vec![(variable.to_owned(), folder.display().to_string())];
        drills.room.serve();
        drills
    }

    fn sandbox(&self) -> PathBuf {
        self.home.path().join("s")
    }

    fn backup(&self, source: &Source, name: &str) {
        source.register(&self.room);
        self.room.json(&["backup", "create", "shop", "--name", name, "--wait", "--progress", "none"]);
    }

    /// Neither files nor processes.
    pub(crate) fn is_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.sandbox()).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(processes_in(&self.sandbox()), Vec::<String>::new());
    }
}

fn processes_in(folder: &Path) -> Vec<String> {
    let folder = fs::canonicalize(folder).unwrap();
    let inside = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        fs::read_link(entry.path().join("cwd")).is_ok_and(|directory| directory.starts_with(&folder))
    });
    inside.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

pub(crate) fn verification(room: &Room, name: &str) -> Value {
    let view = room.json(&["backup", "show", name]);
    assert_eq!(view["status"], "COMPLETED", "a verification changes no status");
    view["verification"].clone()
}

fn proves_that_a_restore_works(version: u32) {
    if !require(version) {
        return;
    }
    let (drills, source) = (Drills::serving(version), Source::of_version(version, 10));
    drills.backup(&source, "first");
    let done = drills.room.run(&[&["backup", "verify", "first"][..], &ENGINE].concat()).expect(0);
    for word in
        ["restored", "pg_amcheck", "pg_checksums", "measured time to restore", "first passed (engine)"]
    {
        assert!(done.stdout.contains(word), "{word}: {}", done.stdout);
    }
    let found = verification(&drills.room, "first");
    assert_eq!((&found["level"], &found["result"]), (&"engine".into(), &"passed".into()), "{found}");
    let drill = &found["drill"];
    for measured in ["restore_seconds", "start_seconds", "check_seconds"] {
        assert!(drill[measured].as_f64().unwrap() > 0.0, "{measured}: {drill}");
    }
    assert!(drill["server_version"].as_str().unwrap().starts_with(&format!("{version}.")), "{drill}");
    assert!(drill["rows"].as_u64().unwrap() > 120_000 && drill["tables"].as_u64().unwrap() > 100, "{drill}");
    let view = drills.room.json(&["backup", "show", "first"]);
    assert!(drill["restored_bytes"].as_u64().unwrap() * 11 / 10 > view["source_bytes"].as_u64().unwrap());
    let page = drills.room.http("GET", "/metrics", "").body;
    let line =
        page.as_str().unwrap().lines().find(|line| line.starts_with("strongroom_restore_measured_seconds{"));
    let seconds: f64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    let wanted = drill["restore_seconds"].as_f64().unwrap() + drill["start_seconds"].as_f64().unwrap();
    assert!((seconds - wanted).abs() < 0.01, "{seconds} and {wanted}");
    drills.is_clean();
}

#[test]
fn v05_a_backup_of_15_is_proved_by_starting_it() {
    proves_that_a_restore_works(15);
}

#[test]
fn v05_a_backup_of_17_is_proved_by_starting_it() {
    proves_that_a_restore_works(17);
}

#[test]
fn v05_a_backup_of_18_is_proved_by_starting_it() {
    proves_that_a_restore_works(18);
}

/// The server ends with its worker; the files go at the next start, and the drill is done after all.
#[test]
fn v06_a_killed_worker_leaves_no_server_behind() {
    let (mut drills, source) = (Drills::serving(15), Source::filled(10));
    drills.backup(&source, "first");
    let accepted = drills.room.http("POST", "/strongroom/v1/backups/first/verify", r#"{"level": "engine"}"#);
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let limit = Duration::from_mins(2);
    let has_server =
        |drills: &Drills| drills.sandbox().exists() && !processes_in(&drills.sandbox()).is_empty();
    until("the server is started", limit, || has_server(&drills).then_some(()));
    drills.room.kill();
    until("the server is gone", limit, || (!has_server(&drills)).then_some(()));
    drills.room.serve();
    let result = until("the drill is done", limit, || {
        let found = verification(&drills.room, "first");
        found["level"].is_string().then_some(found)
    });
    assert_eq!(result["result"], "passed", "{result}");
    drills.is_clean();
}
