//! Projects, users, tokens, access keys, settings.

use secrecy::{ExposeSecret, SecretString};
use strongroom_catalog::{AccessKey, Role, TokenOwner, TokenRow};
use strongroom_core::ErrorKind;
use strongroom_core::id::ProjectId;

use crate::room::Room;

pub(crate) async fn a11_a_token_ends_with_its_time_and_at_its_revocation(room: &Room) {
    let user = room.add_user("ada").await;
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

    let owner = TokenOwner {
        token_id: "short".to_owned(),
        user_id: user.id.clone(),
        user_name: "ada".to_owned(),
        project_id: room.project.clone(),
        role: Role::Operator,
    };
    let at = room.advance_s(59);
    assert_eq!(room.catalog.token_by_digest(&short.digest, at).await.unwrap(), Some(owner));
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
    let same_name = room.catalog.project_create(&project, room.now()).await.unwrap_err();
    assert!(matches!(same_name.kind(), ErrorKind::Parameter(_)), "{same_name:?}");
    assert!(room.catalog.project_find(&project.id).await.unwrap().is_none());

    let user = room.add_user("ada").await;
    let found = room.catalog.user_by_name("domain", "ada").await.unwrap().unwrap();
    assert_eq!(found.id, user.id);
    assert_eq!(found.password_hash.unwrap().expose_secret(), "$argon2id$canary");
    assert!(room.catalog.user_by_name("domain", "Ada").await.unwrap().is_none());
    assert_eq!(room.catalog.user_find(&user.id).await.unwrap().unwrap().name, "ada");
    let same_name = room.catalog.user_create(&user, room.now()).await;
    assert!(same_name.is_err());
}

pub(crate) async fn access_keys_open_again(room: &Room) {
    let user = room.add_user("ada").await;
    let key = AccessKey {
        id: "AK1".to_owned(),
        user_id: user.id,
        project_id: room.project.clone(),
        role: Role::Admin,
        created: room.now(),
    };
    let secret = SecretString::from("canary-secret-key");
    room.catalog.access_key_create(&key, &secret, &room.audit("access_key.create")).await.unwrap();
    let owner = room.catalog.access_key_find("AK1").await.unwrap().unwrap();
    assert_eq!(owner.key, key);
    assert_eq!((owner.user_name.as_str(), owner.secret.expose_secret()), ("ada", "canary-secret-key"));

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
