//! Tags of instances.

use strongroom_core::id::{InstanceId, ProjectId};
use strongroom_core::limits::TAGS_MAX;
use strongroom_core::tag::{TagChange, TagKey, TagValue, Tags};
use strongroom_core::{ErrorKind, Field, Result};
use tokio::task::JoinSet;

use crate::room::Room;

fn pairs(of: &[(&str, &str)]) -> Vec<(TagKey, TagValue)> {
    of.iter().map(|(key, value)| (TagKey::parse(key).unwrap(), TagValue::parse(value).unwrap())).collect()
}

fn tags(of: &[(&str, &str)]) -> Tags {
    pairs(of).into_iter().collect()
}

fn put(of: &[(&str, &str)]) -> TagChange {
    TagChange::put(pairs(of)).unwrap()
}

async fn change(room: &Room, instance: &InstanceId, change: &TagChange) -> Result<Tags> {
    room.catalog.tags_change(&room.project, instance, change, &room.audit("instance.tag")).await
}

pub(crate) async fn tags_are_put_removed_replaced_and_audited(room: &Room) {
    let (instance, other) = (room.add_instance("source").await.id, room.add_instance("other").await.id);
    let held = async |of: &InstanceId| room.catalog.tags_of_instance(&room.project, of).await.unwrap();
    assert_eq!(held(&instance).await, Tags::new());
    let first = tags(&[("Stage", "live"), ("stage", "größe = 部门"), ("empty", "")]);
    assert_eq!(change(room, &instance, &TagChange::Put(first.clone())).await.unwrap(), first);
    assert_eq!(held(&instance).await, first, "case and letters are kept");
    change(room, &other, &put(&[("stage", "test")])).await.unwrap();

    change(room, &instance, &put(&[("stage", "live")])).await.unwrap();
    let gone = TagChange::remove(vec![
        (TagKey::parse("Stage").unwrap(), None),
        (TagKey::parse("empty").unwrap(), Some(TagValue::parse("not so").unwrap())),
        (TagKey::parse("absent").unwrap(), None),
    ]);
    let left = tags(&[("stage", "live"), ("empty", "")]);
    assert_eq!(change(room, &instance, &gone.unwrap()).await.unwrap(), left);
    let told = &room.catalog.audit_list(&room.project, 1).await.unwrap()[0];
    assert_eq!(told.action, "instance.tag");
    assert_eq!(told.detail["before"]["Stage"], "live");
    assert_eq!(told.detail["after"], serde_json::json!({ "stage": "live", "empty": "" }));

    let both = room.catalog.tags_of_project(&room.project).await.unwrap();
    assert_eq!(both, [(instance.clone(), left), (other.clone(), tags(&[("stage", "test")]))].into());
    let none = change(room, &instance, &TagChange::Replace(Tags::new())).await.unwrap();
    assert_eq!((none, held(&instance).await), (Tags::new(), Tags::new()));
    assert_eq!(held(&other).await, tags(&[("stage", "test")]), "the other keeps its own");
}

pub(crate) async fn tags_go_with_their_instance_and_stay_in_their_project(room: &Room) {
    let instance = room.add_instance("source").await.id;
    change(room, &instance, &put(&[("stage", "live")])).await.unwrap();
    let foreign = ProjectId::parse(&"b".repeat(32)).unwrap();
    room.add_project(&foreign, None).await;
    let audit = room.audit("instance.tag");
    let refused = room.catalog.tags_change(&foreign, &instance, &put(&[("a", "b")]), &audit).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InstanceNotFound);
    assert!(room.catalog.tags_of_instance(&foreign, &instance).await.unwrap().is_empty());
    assert!(room.catalog.tags_of_project(&foreign).await.unwrap().is_empty());

    let audit = room.audit("instance.remove");
    room.catalog.instance_retire(&room.project, &instance, &audit, room.now()).await.unwrap();
    assert!(room.catalog.tags_of_instance(&room.project, &instance).await.unwrap().is_empty());
    assert!(room.catalog.tags_of_project(&room.project).await.unwrap().is_empty());
    let refused = change(room, &instance, &put(&[("stage", "live")])).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InstanceNotFound);
}

/// Many at once, each with a key of its own: as many as may are there afterwards, and no more.
pub(crate) async fn tags_put_at_once_never_pass_their_limit(room: &Room) {
    let instance = room.add_instance("source").await.id;
    let mut asked = JoinSet::new();
    for at in 0..TAGS_MAX + 10 {
        let (catalog, project, instance) = (room.catalog.clone(), room.project.clone(), instance.clone());
        let (audit, key) = (room.audit("instance.tag"), format!("key-{at}"));
        asked.spawn(async move {
            // On a server that is busy with other things a wait for the others may last too long: that is
            // said, nothing was changed, and it is asked again.
            for _ in 0..10 {
                let answer = catalog.tags_change(&project, &instance, &put(&[(&key, "x")]), &audit).await;
                match answer {
                    Err(error) if error.kind() == ErrorKind::Unavailable => {}
                    answer => return answer,
                }
            }
            panic!("the database never had time");
        });
    }
    let answers = asked.join_all().await;
    let kept = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(kept, TAGS_MAX);
    for refused in answers.into_iter().filter_map(Result::err) {
        assert_eq!(refused.kind(), ErrorKind::Parameter(Field::Tags), "{refused:?}");
    }
    let held = room.catalog.tags_of_instance(&room.project, &instance).await.unwrap();
    assert_eq!(held.len(), TAGS_MAX);
}
