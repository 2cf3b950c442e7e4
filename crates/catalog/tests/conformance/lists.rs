//! Lists, filters and numbers.

use strongroom_catalog::{BackupFilter, Cursor, InstanceFacts, JobFilter, JobSliceFilter};
use strongroom_core::backup::{BackupState, BackupType};
use strongroom_core::engine::EngineKind;
use strongroom_core::id::ProjectId;
use strongroom_core::job::{JobKind, JobState};

use crate::room::Room;

pub(crate) async fn a26_pages_are_newest_first_complete_and_stable(room: &Room) {
    let instance = room.add_instance("source").await;
    let mut added = Vec::new();
    for number in 0..13 {
        added.push(room.add_completed(&instance, &format!("backup-{number:02}")).await);
        // Several share a moment.
        room.advance_s(i64::from(number % 3 == 0));
    }
    added.sort_by(|one, two| (two.created, two.id.as_str()).cmp(&(one.created, one.id.as_str())));

    let mut listed = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let filter = BackupFilter::default();
        let page = room.catalog.backup_page(&room.project, &filter, after.as_ref(), 4).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(Cursor::parse(&Cursor::after(last).to_string()).unwrap());
        listed.extend(page);
        if listed.len() == 4 {
            // A newer backup does not move the pages that follow.
            room.advance_s(1);
            room.add_completed(&instance, "newcomer").await;
        }
    }
    assert_eq!(listed, added);
}

pub(crate) async fn filters_and_counts_agree(room: &Room) {
    let (one, two) = (room.add_instance("one").await, room.add_instance("two").await);
    let began = room.now();
    room.add_completed(&one, "first").await;
    let middle = room.advance_s(5);
    room.add_completed(&two, "second").await;
    let (mut automated, job) = room.new_backup(&one, "second");
    automated.kind = BackupType::Auto;
    room.admit(&automated, &job).await.unwrap();

    let base = BackupFilter::default;
    for (filter, names) in [
        (base(), vec!["second", "second", "first"]),
        (BackupFilter { kind: Some(BackupType::Manual), ..base() }, vec!["second", "first"]),
        (BackupFilter { state: Some(BackupState::Building), ..base() }, vec!["second"]),
        (BackupFilter { instance: Some(one.id.clone()), ..base() }, vec!["second", "first"]),
        (
            BackupFilter { instance: Some(one.id.clone()), kind: Some(BackupType::Manual), ..base() },
            vec!["first"],
        ),
        (BackupFilter { created_until: Some(began), ..base() }, vec!["first"]),
        (BackupFilter { created_from: Some(middle), ..base() }, vec!["second", "second"]),
    ] {
        let page = room.catalog.backup_page(&room.project, &filter, None, 100).await.unwrap();
        let found: Vec<&str> = page.iter().map(|backup| backup.name.as_str()).collect();
        assert_eq!(found, names, "{filter:?}");
        let slice = room.catalog.backup_slice(&room.project, &filter, 0, 100).await.unwrap();
        assert_eq!((&slice.rows, slice.total), (&page, names.len() as u64), "{filter:?}");
        // A full page does not tell by itself how long the list is.
        let full = room.catalog.backup_slice(&room.project, &filter, 0, 1).await.unwrap();
        assert_eq!((full.rows.len(), full.total), (1, names.len() as u64), "{filter:?}");
        let all = room.catalog.backup_page(&room.project, &base(), None, 100).await.unwrap();
        let admitted: Vec<_> = all.into_iter().filter(|backup| filter.admits(backup)).collect();
        assert_eq!(admitted, page, "{filter:?}");
    }

    let foreign = ProjectId::parse(&"b".repeat(32)).unwrap();
    room.add_project(&foreign, None).await;
    for filter in [base(), BackupFilter { instance: Some(one.id.clone()), ..base() }] {
        assert!(room.catalog.backup_page(&foreign, &filter, None, 100).await.unwrap().is_empty());
        let slice = room.catalog.backup_slice(&foreign, &filter, 0, 100).await.unwrap();
        assert_eq!((slice.rows.len(), slice.total), (0, 0), "{filter:?}");
    }
    let name = strongroom_core::text::BackupName::from_stored("second");
    let by_name = room.catalog.backup_by_name(&room.project, &name).await.unwrap().unwrap();
    assert_eq!(by_name.kind, BackupType::Manual);
    assert!(room.catalog.backup_by_name(&foreign, &name).await.unwrap().is_none());
    assert!(room.catalog.backup_find(&foreign, &by_name.id).await.unwrap().is_none());
    assert!(room.catalog.job_find(&foreign, &by_name.job_id).await.unwrap().is_none());
}

/// Places in a list: every part of it, with every filter, and beyond its end.
pub(crate) async fn a26_slices_are_parts_of_the_list_and_know_its_length(room: &Room) {
    let (one, two) = (room.add_instance("one").await, room.add_instance("two").await);
    for number in 0..7 {
        room.add_completed(if number % 3 == 0 { &two } else { &one }, &format!("backup-{number}")).await;
        // Several share a moment.
        room.advance_s(i64::from(number % 2));
    }
    room.add_backup(&two, "running").await;

    for filter in [
        BackupFilter::default(),
        BackupFilter { instance: Some(one.id.clone()), ..BackupFilter::default() },
        BackupFilter { state: Some(BackupState::Completed), ..BackupFilter::default() },
        BackupFilter { instance: Some(two.id), kind: Some(BackupType::Manual), ..BackupFilter::default() },
        BackupFilter { kind: Some(BackupType::Auto), ..BackupFilter::default() },
    ] {
        let whole = room.catalog.backup_page(&room.project, &filter, None, 100).await.unwrap();
        for offset in 0..=whole.len() + 1 {
            for limit in [1, 2, 3, 100] {
                let wanted: Vec<_> = whole.iter().skip(offset).take(limit).cloned().collect();
                let (place, rows) = (offset as u64, u32::try_from(limit).unwrap());
                let slice = room.catalog.backup_slice(&room.project, &filter, place, rows).await.unwrap();
                assert_eq!(slice.rows, wanted, "{filter:?} {offset} {limit}");
                assert_eq!(slice.total, whole.len() as u64, "{filter:?} {offset} {limit}");
            }
        }
    }
    let far = room.catalog.backup_slice(&room.project, &BackupFilter::default(), i64::MAX as u64, 1).await;
    let far = far.unwrap();
    assert_eq!((far.rows.len(), far.total), (0, 8));
}

/// What the statement lets through is what the rule in words lets through, part by part.
pub(crate) async fn slices_of_jobs_are_parts_of_their_list(room: &Room) {
    let (one, two) = (room.add_instance("one").await, room.add_instance("two").await);
    for number in 0..5 {
        room.add_completed(if number % 2 == 0 { &one } else { &two }, &format!("backup-{number}")).await;
        room.advance_s(i64::from(number % 2));
    }
    room.add_backup(&one, "running").await;
    let all = room.catalog.job_list(&room.project, &JobFilter::default(), 100).await.unwrap();
    assert_eq!(all.len(), 6);

    let (base, middle) = (JobSliceFilter::default, all[3].created);
    for filter in [
        base(),
        JobSliceFilter { instance: Some(one.id.clone()), ..base() },
        JobSliceFilter { kind: Some(JobKind::Backup), ..base() },
        JobSliceFilter { kind: Some(JobKind::Delete), ..base() },
        JobSliceFilter { engine: Some(EngineKind::PostgreSql), ..base() },
        JobSliceFilter { engine: Some(EngineKind::MySql), ..base() },
        JobSliceFilter { states: Some([JobState::Ready, JobState::Leased]), ..base() },
        JobSliceFilter { states: Some([JobState::Succeeded; 2]), ..base() },
        JobSliceFilter { created_from: Some(middle), ..base() },
        JobSliceFilter { created_until: Some(middle), ..base() },
    ] {
        let engine = Some(EngineKind::PostgreSql);
        let whole: Vec<_> = all.iter().filter(|job| filter.admits(job, engine)).cloned().collect();
        for offset in 0..=whole.len() + 1 {
            let wanted: Vec<_> = whole.iter().skip(offset).take(2).cloned().collect();
            let slice = room.catalog.job_slice(&room.project, &filter, offset as u64, 2).await.unwrap();
            assert_eq!((slice.rows, slice.total), (wanted, whole.len() as u64), "{filter:?} {offset}");
        }
    }
    let foreign = ProjectId::parse(&"b".repeat(32)).unwrap();
    room.add_project(&foreign, None).await;
    let slice = room.catalog.job_slice(&foreign, &base(), 0, 100).await.unwrap();
    assert_eq!((slice.rows.len(), slice.total), (0, 0));
}

pub(crate) async fn facts_and_moments_of_an_instance(room: &Room) {
    let (one, two) = (room.add_instance("one").await, room.add_instance("two").await);
    let mut moments = Vec::new();
    let mut newest = None;
    for name in ["first", "second"] {
        room.advance_s(10);
        newest = room.add_completed(&one, name).await.source_bytes;
        moments.push(room.now());
    }
    room.advance_s(10);
    room.add_backup(&one, "running").await;

    let facts = room.catalog.instance_facts(&room.project, None).await.unwrap();
    assert_eq!(facts[&one.id], InstanceFacts { backing_up: true, source_bytes: newest });
    assert_eq!(facts[&two.id], InstanceFacts::default());
    let only = room.catalog.instance_facts(&room.project, Some(&two.id)).await.unwrap();
    assert_eq!(only.into_keys().collect::<Vec<_>>(), std::slice::from_ref(&two.id));
    assert!(
        newest.is_some()
            && room.catalog.instance_stored_bytes(&room.project, &one.id).await.unwrap().bytes() > 0
    );
    assert_eq!(room.catalog.instance_stored_bytes(&room.project, &two.id).await.unwrap().bytes(), 0);

    let asked = async |until| {
        let found = room.catalog.backup_moments(&room.project, &one.id, until).await.unwrap();
        found.into_iter().map(|(moment, _)| moment).collect::<Vec<_>>()
    };
    assert_eq!(asked(None).await, moments);
    assert_eq!(asked(Some(moments[0])).await, moments[..1]);

    let foreign = ProjectId::parse(&"b".repeat(32)).unwrap();
    room.add_project(&foreign, None).await;
    assert!(room.catalog.instance_facts(&foreign, Some(&one.id)).await.unwrap().is_empty());
    assert!(room.catalog.backup_moments(&foreign, &one.id, None).await.unwrap().is_empty());
    assert_eq!(room.catalog.instance_stored_bytes(&foreign, &one.id).await.unwrap().bytes(), 0);
}

pub(crate) async fn the_reading_counts_what_there_is(room: &Room) {
    let (one, two) = (room.add_instance("one").await, room.add_instance("two").await);
    room.add_completed(&one, "first").await;
    let finished = room.now();
    room.advance_s(7);
    room.add_backup(&two, "second").await;
    room.advance_s(3);

    let reading = room.catalog.metrics_reading(room.now()).await.unwrap();
    assert_eq!(reading.backups, vec![(BackupState::Building, 1), (BackupState::Completed, 1)]);
    let jobs = vec![(JobState::Ready, JobKind::Backup, 1), (JobState::Succeeded, JobKind::Backup, 1)];
    assert_eq!(reading.jobs, jobs);
    assert_eq!(reading.oldest_pending_ms, Some(3_000));
    let fresh = |id| reading.instances.iter().find(|instance| instance.instance_id == id).unwrap();
    assert_eq!(fresh(one.id.clone()).last_success, Some(finished));
    assert_eq!(fresh(two.id.clone()).last_success, None);
    assert_eq!(fresh(one.id.clone()).last_verified, None);
}
