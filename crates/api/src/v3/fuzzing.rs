//! What clients of the RDS dialects send, as the fuzzer calls it.

use http::Uri;
use strongroom_core::backup::InstanceRef;
use strongroom_core::limits::{LIST_ROWS_MAX, TAGS_MAX, TASK_ROWS_MAX};
use strongroom_core::restore::RestoreTarget;
use strongroom_core::tag::Tags;
use strongroom_core::text::{BackupName, InstanceName};

use super::{backups, instances, restores, tags, tasks};
use crate::body;
use crate::fuzzing::tells_no_value;
use crate::query::Params;
use crate::rds::moment;

/// One body as each document that these dialects take. What is taken says nothing that its rules do not
/// let it say; what is not does not come back in the refusal.
pub(crate) fn bodies(bytes: &[u8]) -> bool {
    let Ok(document) = body::parse(bytes) else { return false };
    let mut taken = 0;
    if let Ok(new) = backups::new_backup(&document) {
        taken += 1;
        assert!(BackupName::parse(new.name.as_str()).is_ok());
        let InstanceRef::Instance(id) = new.instance else { panic!("this dialect names instances") };
        assert_eq!(document["instance_id"].as_str(), Some(id.as_str()));
    }
    for wish in [
        restores::recovery(&document),
        restores::new_instance(&document),
        crate::v1::restores::new_instance(&document),
        crate::v1::restores::in_place("node", &document),
    ] {
        let Ok(wish) = wish else { continue };
        taken += 1;
        if let RestoreTarget::New { name, .. } = &wish.target {
            assert!(InstanceName::parse(name.as_str()).is_ok());
        }
        assert!(wish.databases.iter().all(|(_, names)| !names.is_empty()));
    }
    if let Ok(change) = tags::tag_change(&document) {
        taken += 1;
        assert!(change.applied_to(&Tags::new()).is_ok_and(|tags| tags.len() <= TAGS_MAX));
    }
    tells_no_value(&document, |object| restores::new_instance(&object).map(|_| ()));
    tells_no_value(&document, |object| tags::tag_change(&object).map(|_| ()));
    taken > 0
}

/// The query strings of the lists, and the times in them.
pub(crate) fn queries(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let is_time = moment::parse(text).is_some() || restores::day(text).is_ok();
    let Ok(uri) = format!("/?{text}").parse::<Uri>() else { return is_time };
    let params = Params::of(&uri);
    let backups = backups::wanted(&params).inspect(|wanted| {
        assert!((1..=LIST_ROWS_MAX).contains(&wanted.limit));
        assert!(wanted.created_from.is_some() == wanted.created_until.is_some());
    });
    let instances = instances::wanted(&params);
    let tasks = tasks::wanted(&params).inspect(|wanted| {
        assert!(wanted.as_ref().is_none_or(|wanted| (1..=TASK_ROWS_MAX).contains(&u64::from(wanted.limit))));
    });
    is_time || backups.is_ok() || (instances.is_ok() && tasks.is_ok())
}
