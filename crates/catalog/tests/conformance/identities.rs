//! Projects, users, tokens, access keys, settings.

use secrecy::{ExposeSecret, SecretString};
use strongroom_catalog::{AccessKey, Credential, Role, SessionRow, TokenRow, User};
use strongroom_core::ErrorKind;
use strongroom_core::id::ProjectId;

use crate::room::Room;

pub(crate) async fn a11_a_token_ends_with_its_time_and_at_its_revocation(room: &Room) {
    let user = room.add_user("ada").await;
    room.assign(&user, &room.project, Role::Admin).await;
    let token = |id: &str, expires| TokenRow {
        id: id.to_owned(),
        digest: format!("digest-of-{id}"),
        user_id: user.id.clone(),
        project_id: room.project.clone(),
        role: Role::Operator,
        name: id.to_owned(),
        created: room.now(),
        expires,
    };
    let (lasting, short) = (token("lasting", None), token("short", Some(room.in_s(60))));
    for row in [&lasting, &short] {
        room.catalog.token_create(row, &room.audit("token.create")).await.unwrap();
    }
    let twice = TokenRow { id: "other".to_owned(), ..lasting.clone() };
    assert!(room.catalog.token_create(&twice, &room.audit("token.create")).await.is_err());
    assert_eq!(room.catalog.token_list(&room.project).await.unwrap(), vec![lasting.clone(), short.clone()]);

    let at = room.advance_s(59);
    let bearer = room.catalog.token_by_digest(&short.digest, at).await.unwrap().unwrap();
    assert_eq!(bearer.credential, Credential::Token("short".to_owned()));
    assert_eq!((bearer.user_id, bearer.user_name.as_str()), (user.id.clone(), "ada"));
    assert_eq!((bearer.domain_id.as_str(), bearer.domain_name.as_str()), ("domain", "Domain"));
    let project = bearer.project.unwrap();
    assert_eq!((project.id, project.role), (room.project.clone(), Role::Operator));
    let at = room.advance_s(1);
    assert_eq!(room.catalog.token_by_digest(&short.digest, at).await.unwrap(), None);
    assert!(room.catalog.token_by_digest(&lasting.digest, at).await.unwrap().is_some());
    assert!(room.catalog.token_by_digest("digest-of-nothing", at).await.unwrap().is_none());

    let audit = room.audit("token.revoke");
    let foreign = ProjectId::parse(&"b".repeat(32)).unwrap();
    assert!(!room.catalog.token_revoke(&foreign, "lasting", &audit).await.unwrap());
    assert!(room.catalog.token_revoke(&room.project, "lasting", &audit).await.unwrap());
    assert!(!room.catalog.token_revoke(&room.project, "lasting", &audit).await.unwrap());
    assert!(room.catalog.token_by_digest(&lasting.digest, at).await.unwrap().is_none());
}

pub(crate) async fn projects_and_users_are_found_again(room: &Room) {
    let second = ProjectId::parse(&"b".repeat(32)).unwrap();
    room.add_project(&second, Some(5)).await;
    assert_eq!(room.catalog.project_list().await.unwrap().len(), 2);
    let mut project = room.catalog.project_find(&second).await.unwrap().unwrap();
    assert_eq!(project.backup_quota, Some(5));
    project.id = ProjectId::parse(&"c".repeat(32)).unwrap();
    let same_name =
        room.catalog.project_create(&project, &room.audit_of_none("project.create")).await.unwrap_err();
    assert!(matches!(same_name.kind(), ErrorKind::Parameter(_)), "{same_name:?}");
    assert!(room.catalog.project_find(&project.id).await.unwrap().is_none());

    let user = room.add_user("ada").await;
    let found = room.catalog.users_by_name("ada").await.unwrap().pop().unwrap();
    assert_eq!(found.id, user.id);
    assert_eq!(found.password_hash.unwrap().expose_secret(), "$argon2id$canary");
    assert!(room.catalog.users_by_name("Ada").await.unwrap().is_empty());
    assert_eq!(room.catalog.user_find(&user.id).await.unwrap().unwrap().name, "ada");
    let same_name = room.catalog.user_create(&user, &room.audit_of_none("user.create")).await;
    assert!(same_name.is_err());
}

pub(crate) async fn access_keys_open_again(room: &Room) {
    let user = room.add_user("ada").await;
    room.assign(&user, &room.project, Role::Operator).await;
    let key = AccessKey {
        id: "AK1".to_owned(),
        user_id: user.id.clone(),
        project_id: room.project.clone(),
        role: Role::Admin,
        created: room.now(),
    };
    let secret = SecretString::from("canary-secret-key");
    room.catalog.access_key_create(&key, &secret, &room.audit("access_key.create")).await.unwrap();
    let owner = room.catalog.access_key_find("AK1").await.unwrap().unwrap();
    assert_eq!(owner.key, key);
    assert_eq!((owner.bearer.user_name.as_str(), owner.secret.expose_secret()), ("ada", "canary-secret-key"));
    assert_eq!(owner.bearer.project.unwrap().role, Role::Operator, "the key's role is wider than the user's");
    assert_eq!(room.catalog.access_key_list(&room.project).await.unwrap(), [key]);

    let audit = room.audit("access_key.revoke");
    assert!(room.catalog.access_key_revoke(&room.project, "AK1", &audit).await.unwrap());
    assert!(room.catalog.access_key_find("AK1").await.unwrap().is_none());
}

pub(crate) async fn settings_and_readiness(room: &Room) {
    assert!(!room.catalog.is_empty().await.unwrap());
    room.catalog.ping().await.unwrap();
    assert_eq!(room.catalog.setting("kit printed").await.unwrap(), None);
    room.catalog.setting_put("kit printed", "no", room.now()).await.unwrap();
    room.catalog.setting_put("kit printed", "yes", room.now()).await.unwrap();
    assert_eq!(room.catalog.setting("kit printed").await.unwrap().as_deref(), Some("yes"));
}

/// A session of `ada` for the room's project, made from `origin`.
fn session(room: &Room, user: &User, id: &str, origin: &str) -> SessionRow {
    SessionRow {
        id: id.to_owned(),
        digest: format!("digest-of-{id}"),
        origin: origin.to_owned(),
        user_id: user.id.clone(),
        project_id: Some(room.project.clone()),
        domain_scoped: false,
        role_max: Role::Admin,
        methods: "password".to_owned(),
        issued: room.now(),
        expires: room.in_s(60),
    }
}

pub(crate) async fn a11_a_session_ends_with_its_time_its_origin_and_its_role(room: &Room) {
    let (user, audit) = (room.add_user("ada").await, room.audit("session.create"));
    room.assign(&user, &room.project, Role::Restorer).await;
    let unscoped = SessionRow { project_id: None, ..session(room, &user, "unscoped", "first") };
    let capped = SessionRow { role_max: Role::Viewer, ..session(room, &user, "capped", "token") };
    for row in
        [session(room, &user, "first", "first"), session(room, &user, "made", "first"), unscoped, capped]
    {
        room.catalog.session_create(&row, &audit).await.unwrap();
    }
    let open = async |id: &str| {
        room.catalog.session_by_digest(&format!("digest-of-{id}"), room.now()).await.unwrap()
    };
    assert_eq!(open("first").await.unwrap().project.unwrap().role, Role::Restorer);
    assert_eq!(open("capped").await.unwrap().project.unwrap().role, Role::Viewer);
    assert_eq!(open("unscoped").await.unwrap().project, None);
    assert_eq!(open("unscoped").await.unwrap().domain_name, "Domain");

    room.assign(&user, &room.project, Role::Viewer).await;
    assert_eq!(open("first").await.unwrap().project.unwrap().role, Role::Viewer, "at once");
    room.catalog.role_unassign(&user.id, &room.project, &audit).await.unwrap();
    assert!(open("first").await.is_none() && open("unscoped").await.is_some());
    room.assign(&user, &room.project, Role::Admin).await;

    room.catalog.session_revoke("first", &audit).await.unwrap();
    assert!(
        open("first").await.is_none() && open("made").await.is_none() && open("unscoped").await.is_none()
    );
    assert!(open("capped").await.is_some());
    room.advance_s(60);
    assert!(open("capped").await.is_none());

    let again = session(room, &user, "again", "again");
    room.catalog.session_create(&again, &audit).await.unwrap();
    let hash = SecretString::from("$argon2id$other");
    assert!(room.catalog.user_password_put(&user.id, &hash, &audit).await.unwrap());
    assert!(open("again").await.is_none(), "another password closes what the old one opened");
}

pub(crate) async fn users_and_projects_go_with_what_lets_in(room: &Room) {
    let (user, audit) = (room.add_user("ada").await, room.audit_of_none("test"));
    let empty = ProjectId::parse(&"b".repeat(32)).unwrap();
    room.add_project(&empty, None).await;
    room.add_instance("orders").await;
    for project in [&room.project, &empty] {
        room.assign(&user, project, Role::Admin).await;
    }
    let names = room.catalog.assignments_of_user(&user.id).await.unwrap();
    assert_eq!(
        names.iter().map(|one| one.project.id.clone()).collect::<Vec<_>>(),
        [room.project.clone(), empty.clone()]
    );
    let row = SessionRow { project_id: Some(empty.clone()), ..session(room, &user, "first", "first") };
    room.catalog.session_create(&row, &audit).await.unwrap();

    assert_eq!(room.catalog.project_remove(&room.project, &audit).await.unwrap(), None, "it has an instance");
    assert_eq!(room.catalog.project_remove(&empty, &audit).await.unwrap(), Some(true));
    assert_eq!(room.catalog.project_remove(&empty, &audit).await.unwrap(), Some(false));
    assert!(room.catalog.session_by_digest(&row.digest, room.now()).await.unwrap().is_none());

    assert_eq!(room.catalog.user_list("domain").await.unwrap().len(), 1);
    assert!(room.catalog.user_remove(&user.id, &audit).await.unwrap());
    assert!(!room.catalog.user_remove(&user.id, &audit).await.unwrap());
    assert!(room.catalog.user_find(&user.id).await.unwrap().is_none());
    assert!(room.catalog.assignments_of_user(&user.id).await.unwrap().is_empty());
}
