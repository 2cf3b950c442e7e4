//! Instances and who finds them.

use secrecy::ExposeSecret;
use strongroom_core::ErrorKind;
use strongroom_core::backup::InstanceRef;
use strongroom_core::id::ProjectId;
use strongroom_core::instance::InstanceState;

use crate::room::{PASSWORD, Room};

pub(crate) async fn a_name_is_free_again_when_its_instance_is_retired(room: &Room) {
    let first = room.add_instance("source").await;
    assert_eq!(room.catalog.instance_list(&room.project).await.unwrap(), vec![first.clone()]);
    let same = room.new_instance("source");
    assert_eq!(room.admit_instance(&same).await.unwrap_err().kind(), ErrorKind::InstanceNameTaken);

    let audit = room.audit("instance.remove");
    let now = room.advance_s(1);
    room.catalog.instance_retire(&room.project, &first.id, &audit, now).await.unwrap();
    assert!(room.catalog.instance_list(&room.project).await.unwrap().is_empty());
    let again = room.catalog.instance_retire(&room.project, &first.id, &audit, now).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::InstanceNotFound);
    room.admit_instance(&same).await.unwrap();

    let retired = room.catalog.instance_find_any(&room.project, first.id.as_str()).await.unwrap().unwrap();
    assert_eq!((retired.state, retired.updated), (InstanceState::Retired, now));
    room.catalog.instance_observe(&first.id, InstanceState::Ready, "15.19", now).await.unwrap();
    let still = room.catalog.instance_by_id(&first.id).await.unwrap().unwrap();
    assert_eq!(still.state, InstanceState::Retired);
    let password = room.catalog.instance_password(&first.id).await;
    assert_eq!(password.unwrap_err().kind(), ErrorKind::InstanceNotFound);
}

pub(crate) async fn an_instance_with_a_live_job_is_not_retired(room: &Room) {
    let instance = room.add_instance("source").await;
    let backup = room.add_backup(&instance, "nightly").await;
    let audit = room.audit("instance.remove");
    let busy = room.catalog.instance_retire(&room.project, &instance.id, &audit, room.now()).await;
    assert_eq!(busy.unwrap_err().kind(), ErrorKind::InstanceBusy);

    let claim = room.claim_of(&backup.job_id).await;
    room.publish(&claim.fence, &backup).await.unwrap();
    room.catalog.instance_retire(&room.project, &instance.id, &audit, room.now()).await.unwrap();

    // What it left behind can still be deleted; a new backup cannot begin.
    room.ask_delete(&backup).await.unwrap();
    let (late, job) = room.new_backup(&instance, "late");
    assert_eq!(room.admit(&late, &job).await.unwrap_err().kind(), ErrorKind::InstanceNotFound);
}

pub(crate) async fn a14_references_stay_inside_the_project(room: &Room) {
    let instance = room.add_instance("source").await;
    let password = room.catalog.instance_password(&instance.id).await.unwrap();
    assert_eq!(password.expose_secret(), PASSWORD);

    let [id, node, name] = [instance.id.as_str(), instance.node_id.as_str(), "source"].map(str::to_owned);
    let foreign = ProjectId::parse(&"b".repeat(32)).unwrap();
    room.add_project(&foreign, None).await;
    for (reference, found) in [
        (InstanceRef::Instance(id.clone()), true),
        (InstanceRef::Instance(node.clone()), true),
        (InstanceRef::Instance(name.clone()), false),
        (InstanceRef::PrimaryNode(node), true),
        (InstanceRef::PrimaryNode(name.clone()), false),
        (InstanceRef::Any(name), true),
        (InstanceRef::Any(id.clone()), true),
        (InstanceRef::Any("Source".to_owned()), false),
    ] {
        let own = room.catalog.instance_find(&room.project, &reference).await.unwrap();
        assert_eq!(own.is_some(), found, "{reference:?}");
        assert!(room.catalog.instance_find(&foreign, &reference).await.unwrap().is_none());
    }
    assert!(room.catalog.instance_find_any(&foreign, &id).await.unwrap().is_none());
}
