//! Real clients against a real server with a real database: the command line of OpenStack, the SDKs of
//! the Open Telekom Cloud and of Huawei, and a program that makes requests from our own documents.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use strongroom_testkit::mysql::require;

use crate::mysql;
use crate::room::{Done, Room, until};
use crate::source::Source;

const FOLDER: &str = "../../fixtures/wire/clients";
const DOCUMENTS: &str = "../../docs/openapi";
/// What Schemathesis may find.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth";

/// A Python with real clients: the one that is named, or the one that `cargo xtask test` keeps beside
/// the build.
fn python(folder: &str, named: &str, missing: &str) -> Option<PathBuf> {
    let beside_the_build = || {
        let program = std::env::current_exe().ok()?;
        Some(program.ancestors().nth(3)?.join(folder).join("bin/python"))
    };
    let named = std::env::var_os(named).map(PathBuf::from);
    let found = named.or_else(beside_the_build).filter(|python| python.exists());
    if found.is_none() {
        strongroom_testkit::skip::missing(
            missing,
            "`cargo xtask test` makes a Python with the packages listed in fixtures/wire/clients",
        );
    }
    found
}

fn clients() -> Option<PathBuf> {
    python("clients-python", "STRONGROOM_TEST_CLIENTS_PYTHON", "python-clients")
}

/// Runs a script and compares what it saw to work.
#[track_caller]
fn sees(python: &Path, script: &str, story: &Path, wanted: &[&str]) {
    let mut command = Command::new(python);
    command.arg(Path::new(FOLDER).join(script)).arg(story);
    let done = Done::of(&command.output().unwrap()).expect(0);
    assert_eq!(done.stdout.lines().collect::<Vec<_>>(), wanted);
}

#[test]
fn real_clients_log_in_and_sign_with_what_the_first_start_wrote() {
    let Some(python) = clients() else { return };
    let room = Room::serving();
    sees(
        &python,
        "clients.py",
        &room.data_dir().join("bootstrap.json"),
        &[
            "password for a project: v1 list",
            "unscoped, projects, rescoped: v1 list",
            "domain: lists projects, reaches none",
            "the token of bootstrap.json: exchanged",
            "revoked: 401",
            "a wrong password: 401",
            "signed: list, query, create, projects",
            "a wrong secret: 401",
        ],
    );
    let log = room.log();
    for secret in ["password", "token", "secret_key"] {
        assert!(!log.contains(&room.credential(secret)), "the log has the {secret}");
    }
    assert!(!log.contains("srs_"), "the log has a session");
}

/// What is registered as `shop`.
enum Shop {
    PostgreSql(Source),
    MySql(mysql::Shop),
}

impl Shop {
    fn postgresql() -> Self {
        Self::PostgreSql(Source::filled(2))
    }

    fn mysql() -> Self {
        Self::MySql(mysql::Shop::open())
    }

    /// The name that RDS has for it.
    fn engine(&self) -> &'static str {
        match self {
            Self::PostgreSql(_) => "PostgreSQL",
            Self::MySql(_) => "MySQL",
        }
    }

    fn register(&self, room: &Room) -> Value {
        match self {
            Self::PostgreSql(source) => source.register(room),
            Self::MySql(shop) => shop.register(room),
        }
    }
}

/// A server with the database `shop`, a job that has ended, and a second project with a user.
struct Stage {
    room: Room,
    _shop: Shop,
    story: PathBuf,
    ids: Value,
}

impl Stage {
    fn set(shop: Shop) -> Self {
        let room = Room::serving();
        let instance = shop.register(&room);
        let created =
            room.json(&["backup", "create", "shop", "--name", "before", "--wait", "--progress", "none"]);
        room.run(&["backup", "delete", "before", "--progress", "none"]).expect(0);
        until("the first backup is gone", Duration::from_mins(1), || {
            room.json(&["backup", "list"])["backups"].as_array().unwrap().is_empty().then_some(())
        });
        let password = room.scratch.path().join("ada");
        fs::write(&password, "a password of ada\n").unwrap();
        let theirs = room.json(&["project", "create", "sales"]);
        let file = password.display().to_string();
        room.run(&["user", "create", "ada", "--password-file", &file]).expect(0);
        room.run(&["user", "grant", "ada", "admin", "--project", "sales"]).expect(0);
        let ids = json!({
            "endpoint": room.endpoint,
            "project_id": room.credential("project_id"),
            "access_key": room.credential("access_key"),
            "secret_key": room.credential("secret_key"),
            "instance_id": instance["id"],
            "job_id": created["job_id"],
            "their_project_id": theirs["id"],
            "has_instances": true,
            "engine": shop.engine(),
        });
        let mut story = ids.clone();
        story["ours"] = openrc(&room);
        story["theirs"] = story["ours"].clone();
        let person = story["theirs"].as_object_mut().unwrap();
        person.insert("OS_USERNAME".to_owned(), json!("ada"));
        person.insert("OS_PASSWORD".to_owned(), json!("a password of ada"));
        person.insert("OS_PROJECT_NAME".to_owned(), json!("sales"));
        person.remove("OS_PROJECT_ID");
        let path = room.scratch.path().join("story.json");
        fs::write(&path, story.to_string()).unwrap();
        Self { room, _shop: shop, story: path, ids }
    }
}

/// What the file for a shell sets for the OpenStack client.
fn openrc(room: &Room) -> Value {
    let text = fs::read_to_string(room.data_dir().join("openrc")).unwrap();
    let line = |line: &str| {
        let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
        name.starts_with("OS_").then(|| (name.to_owned(), json!(value.trim_matches('\''))))
    };
    Value::Object(text.lines().filter_map(line).collect())
}

fn openstack(shop: Shop) {
    let Some(python) = clients() else { return };
    let stage = Stage::set(shop);
    sees(
        &python,
        "openstack_rds.py",
        &stage.story,
        &[
            "token, catalog, program",
            "a wrong password: 401",
            "instance list in all forms, show",
            "datastores, versions, flavors",
            "backup create with wait, by name and by id",
            "backup list in all forms",
            "refusals with their codes",
            "download link, ranges, unpacked",
            "policy set, show, off, refusals",
            "restore time: the client's own fault at most",
            "restore by backup, by name, by moment: judged, then not supported",
            "another project sees nothing",
            "SDK: instances, backups by pages, create, wait, download",
            "SDK: job",
            "SDK: restore time",
            "SDK: restores in place and to a new instance: judged, then not supported",
            "SDK: tags added, listed, removed",
            "SDK: delete, gone, delete again",
            "backup delete of several, gone, 404",
        ],
    );
    assert!(!stage.room.log().contains("signature="), "the log has a link");
}

#[test]
fn the_openstack_command_line_and_its_sdk_do_all_they_can() {
    openstack(Shop::postgresql());
}

#[test]
fn the_openstack_command_line_and_its_sdk_do_all_they_can_for_mysql() {
    if require() {
        openstack(Shop::mysql());
    }
}

fn huawei(shop: Shop) {
    let Some(python) = clients() else { return };
    let stage = Stage::set(shop);
    sees(
        &python,
        "huawei_rds.py",
        &stage.story,
        &[
            "versions",
            "instances in all forms",
            "datastores, flavors, storage types, quotas",
            "restore times",
            "restores in v3, v3.1 and to a new instance: judged, then not supported",
            "tags put, listed, asked for, removed, refusals",
            "tasks",
            "backup created and complete",
            "backups in all forms",
            "refusals with their codes",
            "a wrong secret: 401, another project: 403",
            "download link, ranges, unpacked",
            "policy set, shown, off, refusals",
            "jobs",
            "delete, gone",
        ],
    );
}

#[test]
fn the_sdk_of_huawei_makes_every_call_of_backups() {
    huawei(Shop::postgresql());
}

#[test]
fn the_sdk_of_huawei_makes_every_call_of_backups_for_mysql() {
    if require() {
        huawei(Shop::mysql());
    }
}

/// Requests made from a document, with ids that are there and ids that are not: no 5xx, no answer
/// that the document does not describe, nothing served to nobody.
fn conforms(document: &str, shop: fn() -> Shop) {
    let python = python("schemathesis-python", "STRONGROOM_TEST_SCHEMATHESIS_PYTHON", "schemathesis");
    let Some(python) = python else { return };
    let stage = Stage::set(shop());
    let room = &stage.room;
    let backup = room.json(&["backup", "create", "shop", "--name", "kept", "--wait", "--progress", "none"]);
    let parameters = format!(
        "[parameters]\n\"path.project_id\" = {project}\n\"path.backup\" = [\"kept\", \"absent\"]\n\
         \"path.backup_id\" = [{backup}, \"absent\"]\n\"path.job\" = [{job}, \"absent\"]\n\
         \"path.job_id\" = [{job}, \"absent\"]\n\"path.instance\" = [\"shop\", \"absent\"]\n\
         \"path.instance_id\" = [{instance}, \"absent\"]\n\"path.engine\" = [\"postgresql\", \"mysql\"]\n",
        project = stage.ids["project_id"],
        backup = backup["id"],
        job = stage.ids["job_id"],
        instance = stage.ids["instance_id"],
    );
    let config = room.scratch.path().join("schemathesis.toml");
    // What removes comes last: before, there must be something to look at.
    for (config_text, filter) in [
        (parameters.as_str(), &["--exclude-method", "DELETE"][..]),
        ("", &[]),
        (parameters.as_str(), &["--include-method", "DELETE"]),
    ] {
        fs::write(&config, config_text).unwrap();
        let mut command = Command::new(python.with_file_name("schemathesis"));
        command.current_dir(room.scratch.path());
        command.arg("--config-file").arg(&config).arg("run");
        command.arg(fs::canonicalize(Path::new(DOCUMENTS).join(document)).unwrap());
        command.args(["--url", &room.endpoint, "--header"]);
        command.arg(format!("X-Auth-Token: {}", room.credential("token")));
        command.args(["--checks", CHECKS, "--phases", "coverage,fuzzing", "--max-examples", "10"]);
        command.args(["--seed", "1", "--no-shrink", "--continue-on-failure", "--warnings", "off"]);
        command.args(filter);
        let done = Done::of(&command.output().unwrap());
        assert_eq!(done.code, 0, "{filter:?}\n{}\n{}", done.stdout, done.stderr);
        assert!(done.stdout.contains(" passed"), "nothing was tried: {}", done.stdout);
    }
    assert!(!room.log().contains(" ERROR "), "{}", room.log());
}

#[test]
fn schemathesis_finds_nothing_in_v1() {
    conforms("rds-v1.json", Shop::postgresql);
}

#[test]
fn schemathesis_finds_nothing_in_v1_of_mysql() {
    if require() {
        conforms("rds-v1.json", Shop::mysql);
    }
}

#[test]
fn schemathesis_finds_nothing_in_the_native_api() {
    conforms("native.json", Shop::postgresql);
}

#[test]
fn schemathesis_finds_nothing_in_the_native_api_of_mysql() {
    if require() {
        conforms("native.json", Shop::mysql);
    }
}

#[test]
fn schemathesis_finds_nothing_in_v3() {
    conforms("rds-v3.json", Shop::postgresql);
}

#[test]
fn schemathesis_finds_nothing_in_v3_of_mysql() {
    if require() {
        conforms("rds-v3.json", Shop::mysql);
    }
}
