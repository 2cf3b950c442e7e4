//! Every route × every kind of caller × every kind of object, from one table. A route without a row
//! here fails `every_route_has_its_rows`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use secrecy::SecretString;
use serde_json::json;
use strongroom_catalog::{AccessKey, BackupFilter, Project, Role, TokenRow, User};
use strongroom_core::engine::EngineKind;
use strongroom_core::id::{ProjectId, UserId};
use strongroom_core::instance::InstanceState;
use strongroom_core::time::Clock;

use crate::callers_table::{Least, Object, Row, TABLE};
use crate::client::{Ask, Reply};
use crate::events::complete;
use crate::identity::{date, sign};
use crate::room::{Room, Tenant, room};
use crate::rules::check_every_answer;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    NoToken,
    WrongToken,
    /// The administrator of another project.
    Stranger,
    /// Logged in for the domain, which is no project.
    OfDomain,
    Role(Role),
    /// An administrator of the project, and of nothing beyond it.
    PlainAdmin,
    /// With the access key of an administrator of the domain.
    Signed,
}

const CALLERS: [Caller; 10] = [
    Caller::NoToken,
    Caller::WrongToken,
    Caller::Stranger,
    Caller::OfDomain,
    Caller::Role(Role::Viewer),
    Caller::Role(Role::Operator),
    Caller::Role(Role::Restorer),
    Caller::PlainAdmin,
    Caller::Role(Role::Admin),
    Caller::Signed,
];

impl Caller {
    fn is_known(self) -> bool {
        !matches!(self, Self::NoToken | Self::WrongToken)
    }

    /// Whether the table lets this caller through to the object.
    fn may(self, least: Least) -> bool {
        let (role, governs) = match self {
            Self::NoToken | Self::WrongToken | Self::Stranger | Self::OfDomain => (None, false),
            Self::Role(role) => (Some(role), role == Role::Admin),
            Self::PlainAdmin => (Some(Role::Admin), false),
            Self::Signed => (Some(Role::Admin), true),
        };
        match least {
            Least::Everybody => true,
            Least::Known => self.is_known(),
            Least::Role(least) => role.is_some_and(|role| role >= least),
            Least::Govern => governs,
        }
    }

    fn refused_with(self) -> u16 {
        if self.is_known() { 403 } else { 401 }
    }
}

/// The ids of one owner, or of nobody.
struct Ids {
    instance: String,
    node: String,
    backup: String,
    job: String,
    token: String,
    key: String,
    user: String,
    project: String,
}

impl Ids {
    fn of(&self, object: Object) -> &str {
        match object {
            Object::Nothing => "",
            Object::Instance => &self.instance,
            Object::Node => &self.node,
            Object::Backup => &self.backup,
            Object::Job => &self.job,
            Object::Token => &self.token,
            Object::Key => &self.key,
            Object::User => &self.user,
            Object::Project => &self.project,
        }
    }

    /// Of the same lengths, and of nothing.
    fn absent(&self) -> Self {
        let none = |like: &String| "0".repeat(like.len());
        Self {
            instance: none(&self.instance),
            node: none(&self.node),
            backup: none(&self.backup),
            job: none(&self.job),
            token: none(&self.token),
            key: none(&self.key),
            user: none(&self.user),
            project: none(&self.project),
        }
    }
}

struct Stage {
    room: Room,
    own: Ids,
    foreign: Ids,
    absent: Ids,
    of_domain: String,
}

async fn furnish(room: &Room, tenant: &Tenant, key: &str, digit: &str) -> Ids {
    // At a place that is allowed and needs no look-up.
    let (engine, ready) = (EngineKind::PostgreSql, InstanceState::Ready);
    let instance = room.add_instance_at(tenant, "orders", engine, ready, "127.0.0.1").await;
    let body = json!({ "backup": { "name": "nightly", "instance": instance.node_id.as_str() } });
    let made = room.send(Ask::post(&tenant.v1("/backups"), body.to_string()).token(&tenant.admin())).await;
    complete(room).await;
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let (made, spare) = (made.json(), format!("spare-of-{key}"));
    room.add_token(tenant, Role::Viewer, &spare, None).await;
    // One to sign with, one to be the object.
    let spare_key = format!("SPARE-{key}");
    for id in [key, &spare_key] {
        let row = AccessKey {
            id: id.to_owned(),
            user_id: tenant.user.clone(),
            project_id: tenant.project.clone(),
            role: Role::Admin,
            created: room.clock.now(),
        };
        let (secret, audit) = (SecretString::from("SK1"), room.audit(tenant, "access_key.create"));
        room.catalog.access_key_create(&row, &secret, &audit).await.unwrap();
    }
    let user = User {
        id: UserId::from_stored(format!("user-{key}")),
        name: format!("user-{key}"),
        domain_id: "domain".to_owned(),
        password_hash: None,
        domain_admin: false,
    };
    room.catalog.user_create(&user, &room.audit(tenant, "user.create")).await.unwrap();
    let audit = room.audit(tenant, "role.assign");
    room.catalog.role_assign(&user.id, &tenant.project, Role::Viewer, &audit).await.unwrap();
    let project = Project {
        id: ProjectId::parse(&digit.repeat(32)).unwrap(),
        name: format!("project-{key}"),
        domain_id: "domain".to_owned(),
        domain_name: "Domain".to_owned(),
        backup_quota: None,
    };
    room.catalog.project_create(&project, &room.audit(tenant, "project.create")).await.unwrap();
    Ids {
        instance: instance.id.to_string(),
        node: instance.node_id.to_string(),
        backup: text(&made["backup"]["id"]),
        job: text(&made["extendparam"]["jobs"][0]),
        token: format!("id-{spare}"),
        key: spare_key,
        user: user.id.to_string(),
        project: project.id.to_string(),
    }
}

/// A token in our project of a user who is not of the domain's administrators.
async fn add_plain_admin(room: &Room) {
    let (ours, user) = (&room.ours, room.theirs.user.clone());
    let audit = room.audit(ours, "role.assign");
    room.catalog.role_assign(&user, &ours.project, Role::Admin, &audit).await.unwrap();
    let row = TokenRow {
        id: "id-plain-admin".to_owned(),
        digest: blake3::hash(b"plain-admin").to_hex().to_string(),
        user_id: user,
        project_id: ours.project.clone(),
        role: Role::Admin,
        name: "plain-admin".to_owned(),
        created: room.clock.now(),
        expires: None,
    };
    room.catalog.token_create(&row, &room.audit(ours, "token.create")).await.unwrap();
}

async fn log_in_for_the_domain(room: &Room) -> String {
    let user = json!({ "name": "ours", "domain": { "name": "Domain" }, "password": "correct horse battery" });
    let identity = json!({ "methods": ["password"], "password": { "user": user } });
    let scope = json!({ "domain": { "name": "Domain" } });
    let body = json!({ "auth": { "identity": identity, "scope": scope } });
    let reply = room.send(Ask::post("/v3/auth/tokens", body.to_string())).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.header("X-Subject-Token").unwrap().to_owned()
}

async fn stage() -> Stage {
    let room = room().await;
    let own = furnish(&room, &room.ours, "AK1", "c").await;
    let foreign = furnish(&room, &room.theirs, "AK2", "d").await;
    add_plain_admin(&room).await;
    let (absent, of_domain) = (own.absent(), log_in_for_the_domain(&room).await);
    Stage { room, own, foreign, absent, of_domain }
}

impl Stage {
    /// The request of a row about these ids; what it names beside its object is always ours.
    fn ask(&self, row: &Row, ids: &Ids) -> Ask {
        let (own, id) = (&self.own, ids.of(row.object));
        let filled = |text: &str| {
            text.replace("$ID", id)
                .replace("$OWN_BACKUP", &own.backup)
                .replace("$OWN_INSTANCE", &own.instance)
                .replace("$OWN_NODE", &own.node)
        };
        let part = |part: &str| match part {
            "{project_id}" | "{project}" if row.object != Object::Project => {
                self.room.ours.project.to_string()
            }
            "{version}" => "v1".to_owned(),
            "{file}" => "backup.tar.zst".to_owned(),
            "{engine}" => "postgresql".to_owned(),
            part if part.starts_with('{') => id.to_owned(),
            part => part.to_owned(),
        };
        let parts: Vec<String> = row.path.split('/').map(part).collect();
        Ask {
            body: filled(row.body).into_bytes(),
            ..Ask::new(&row.method.to_uppercase(), &(parts.join("/") + &filled(row.query)))
        }
    }

    fn by(&self, caller: Caller, ask: Ask) -> Ask {
        let ours = &self.room.ours;
        let ask = if ask.path.starts_with("/v3/auth/tokens") && ask.method != "POST" {
            ask.header("X-Subject-Token", "srs_absent")
        } else {
            ask
        };
        match caller {
            Caller::NoToken => ask,
            Caller::WrongToken => ask.token("made-up"),
            // Where the path names no project, the header does.
            Caller::Stranger if ask.path.starts_with("/strongroom") => {
                ask.token(&self.room.theirs.admin()).header("X-Project-Id", ours.project.as_str())
            }
            Caller::Stranger => ask.token(&self.room.theirs.admin()),
            Caller::OfDomain => ask.token(&self.of_domain),
            Caller::Role(role) => ask.token(&ours.token(role)),
            Caller::PlainAdmin => ask.token("plain-admin"),
            Caller::Signed => sign(ask, "SK1", &date(&self.room, 0), None),
        }
    }

    /// Everything of an answer that a prober could compare; what it asked for is no news to it.
    async fn told(&self, caller: Caller, row: &Row, ids: &Ids) -> (u16, String) {
        let ask = self.by(caller, self.ask(row, ids));
        let reply: Reply = self.room.send(ask.clone()).await;
        check_every_answer(&ask, &reply);
        let request = reply.header("X-Request-Id").unwrap().to_owned();
        let mut told = reply.text().replace(&request, "REQUEST");
        if !ids.of(row.object).is_empty() {
            told = told.replace(ids.of(row.object), "OBJECT");
        }
        for (name, value) in &reply.headers {
            let name = name.to_ascii_lowercase();
            if !["x-request-id", "x-openstack-request-id", "date"].contains(&name.as_str()) {
                write!(told, "\n{name}: {value}").unwrap();
            }
        }
        (reply.status, told)
    }

    async fn rows(&self) -> String {
        let catalog = &self.room.catalog;
        let mut rows = String::new();
        for project in [&self.room.ours.project, &self.room.theirs.project] {
            let all = BackupFilter::default();
            let backups = catalog.backup_page(project, &all, None, 1_000).await.unwrap();
            let instances = catalog.instance_list(project).await.unwrap();
            let (tokens, keys) =
                (catalog.token_list(project).await.unwrap(), catalog.access_key_list(project).await.unwrap());
            let tags = catalog.tags_of_project(project).await.unwrap();
            write!(rows, "{backups:?}{instances:?}{tokens:?}{keys:?}{tags:?}").unwrap();
        }
        rows
    }
}

/// Whoever may not hears the same of every object, and nothing changes.
async fn check_refused(stage: &Stage, row: &Row, what: &str) {
    for caller in CALLERS.into_iter().filter(|caller| !caller.may(row.least)) {
        let own = stage.told(caller, row, &stage.own).await;
        assert_eq!(own.0, caller.refused_with(), "{what} by {caller:?}: {}", own.1);
        for other in [&stage.foreign, &stage.absent] {
            assert_eq!(stage.told(caller, row, other).await, own, "{what} by {caller:?}");
        }
    }
}

/// Whoever may hears of a foreign object what is heard of none.
async fn check_invisible(stage: &Stage, row: &Row, what: &str) {
    for caller in CALLERS.into_iter().filter(|caller| caller.may(row.least)) {
        let absent = stage.told(caller, row, &stage.absent).await;
        assert_eq!(absent.0, row.absent, "{what} by {caller:?} of none: {}", absent.1);
        if !row.object.is_of_the_domain() {
            assert_eq!(stage.told(caller, row, &stage.foreign).await, absent, "{what} by {caller:?}");
        }
    }
}

async fn check_row(row: &Row) {
    let stage = stage().await;
    let what = format!("{} {}{} {}", row.method, row.path, row.query, row.body);
    let before = stage.rows().await;
    check_refused(&stage, row, &what).await;
    if row.object != Object::Nothing {
        check_invisible(&stage, row, &what).await;
    }
    assert_eq!(stage.rows().await, before, "{what} changed something");

    let allowed: Vec<Caller> = CALLERS.into_iter().filter(|caller| caller.may(row.least)).collect();
    for (at, caller) in allowed.into_iter().enumerate() {
        let (status, told) = stage.told(caller, row, &stage.own).await;
        if at == 0 || row.method == "get" {
            assert_eq!(status, row.own, "{what} by {caller:?}: {told}");
        } else {
            // The first one may have used it up.
            assert!(![401, 403].contains(&status), "{what} by {caller:?}: {status} {told}");
        }
    }
}

async fn check_rows(is_wanted: fn(&str) -> bool) {
    let rows: Vec<&Row> = TABLE.iter().filter(|row| is_wanted(row.path)).collect();
    assert!(rows.len() > 5, "the table has rows of this dialect");
    for row in rows {
        check_row(row).await;
    }
}

#[tokio::test]
async fn a14_callers_of_v1() {
    check_rows(|path| path.starts_with("/rds/v1/")).await;
}

#[tokio::test]
async fn a14_callers_of_v3() {
    check_rows(|path| path.starts_with("/v3/{project_id}") || path.starts_with("/v3.1/")).await;
}

#[tokio::test]
async fn a14_callers_of_the_native_api() {
    check_rows(|path| path.starts_with("/strongroom/")).await;
}

#[tokio::test]
async fn a14_callers_of_what_is_nobodys() {
    check_rows(|path| !path.starts_with("/strongroom/") && !path.contains("{project_id}")).await;
}

#[test]
fn every_route_has_its_rows() {
    let routes: BTreeSet<_> = strongroom_api::routes().into_iter().collect();
    let rows: BTreeSet<_> = TABLE.iter().map(|row| (row.path, row.method)).collect();
    let missing: Vec<_> = routes.difference(&rows).collect();
    assert!(missing.is_empty(), "no row in callers_table.rs for {missing:?}");
    let stale: Vec<_> = rows.difference(&routes).collect();
    assert!(stale.is_empty(), "no route for {stale:?}");
}
