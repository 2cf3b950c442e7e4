//! Every limit of text at its edge: one below, exact, one above; and the limits that are promises.

use strongroom_core::id::{BackupId, InstanceId, JobId};
use strongroom_core::limits::*;
use strongroom_core::member::MemberPath;
use strongroom_core::text::{BackupName, Description, InstanceName};

fn text_of(length: usize) -> String {
    "x".repeat(length)
}

#[test]
fn a04_names_are_taken_from_the_shortest_to_the_longest() {
    for (length, is_valid) in [
        (NAME_LENGTH_CHARS_MIN - 1, false),
        (NAME_LENGTH_CHARS_MIN, true),
        (NAME_LENGTH_CHARS_MIN + 1, true),
        (NAME_LENGTH_CHARS_MAX - 1, true),
        (NAME_LENGTH_CHARS_MAX, true),
        (NAME_LENGTH_CHARS_MAX + 1, false),
    ] {
        assert_eq!(BackupName::parse(&text_of(length)).is_ok(), is_valid, "backup name of {length}");
        assert_eq!(InstanceName::parse(&text_of(length)).is_ok(), is_valid, "instance name of {length}");
    }
}

#[test]
fn a05_descriptions_are_counted_in_characters_up_to_their_limit() {
    for (length, is_valid) in [
        (DESCRIPTION_LENGTH_CHARS_MAX - 1, true),
        (DESCRIPTION_LENGTH_CHARS_MAX, true),
        (DESCRIPTION_LENGTH_CHARS_MAX + 1, false),
    ] {
        for character in ["x", "ü", "語", "🗄"] {
            let text = character.repeat(length);
            assert_eq!(Description::parse(&text).is_ok(), is_valid, "{length} times {character}");
        }
    }
}

#[test]
fn ids_are_looked_up_up_to_their_limit() {
    for (length, is_valid) in [
        (0, false),
        (1, true),
        (ID_LENGTH_CHARS_MAX - 1, true),
        (ID_LENGTH_CHARS_MAX, true),
        (ID_LENGTH_CHARS_MAX + 1, false),
    ] {
        let text = text_of(length);
        assert_eq!(BackupId::parse(&text).is_ok(), is_valid, "backup id of {length}");
        assert_eq!(InstanceId::parse(&text).is_ok(), is_valid, "instance id of {length}");
        assert_eq!(JobId::parse_lenient(&text).is_ok(), is_valid, "job id of {length}");
    }
}

#[test]
fn h01_member_paths_are_taken_up_to_their_limit() {
    for (length, is_valid) in
        [(MEMBER_PATH_BYTES_MAX - 1, true), (MEMBER_PATH_BYTES_MAX, true), (MEMBER_PATH_BYTES_MAX + 1, false)]
    {
        let path = "data/".to_owned() + &text_of(length - "data/".len());
        assert_eq!(MemberPath::parse(path.as_bytes()).is_ok(), is_valid, "path of {length}");
    }
}

/// A dead worker is noticed within 45 s; a lease is renewed three times before it ends.
#[test]
fn a_lease_ends_soon_enough_for_the_promise() {
    let claimed_by_polling_ms = 1_000;
    assert!(LEASE_DURATION_MS + claimed_by_polling_ms <= 45_000);
    assert_eq!(LEASE_DURATION_MS % 3, 0);
}

/// Elsewhere, a wish to end and the progress of a job are known within seconds, and a lease outlives
/// several heartbeats that are not answered.
#[test]
fn heartbeats_come_often_enough() {
    const { assert!(HEARTBEAT_INTERVAL_MS <= 2_000) };
    const { assert!(HEARTBEAT_INTERVAL_MS.cast_signed() * 3 <= LEASE_DURATION_MS) };
    const { assert!(CLOCK_OFFSET_MS_MAX * 3 <= LEASE_DURATION_MS, "no clock that is trusted ends a lease") };
    const { assert!(SOURCE_SLOT_RELEASE_TIMEOUT_MS < 120_000, "a slot goes within two minutes") };
}

/// An automated backup begins soon after its moment, and what is over is looked for within the time
/// that the guide tells; a change of a policy can be undone before anything goes by it.
#[test]
fn schedules_and_rules_act_as_often_as_is_told() {
    const { assert!(SCHEDULE_INTERVAL_MS <= 5_000) };
    const { assert!(RETENTION_INTERVAL_S <= 600) };
    const { assert!(RETENTION_GRACE_S.cast_unsigned() > RETENTION_INTERVAL_S) };
    const { assert!(AUTOMATED_WAITING_OF_PROJECT_MAX < AUTOMATED_WAITING_MAX) };
}

/// All tries of a job, with their back-off doubled each time, begin within two minutes of waiting.
#[test]
fn back_off_does_not_grow_beyond_the_promise() {
    let waiting_ms: i64 = (0..JOB_ATTEMPTS_MAX - 1).map(|retry| JOB_BACKOFF_BASE_MS << retry).sum();
    assert!(waiting_ms <= 120_000, "{waiting_ms}");
}

/// Told in the guide on space: many deletes are one sweep, and what failed is tried again the same day.
#[test]
fn sweeps_come_soon_and_leave_room_for_deletes() {
    assert_eq!((SWEEP_DELAY_S, SWEEP_RETRY_S), (60, 3_600));
    const { assert!(SWEEP_ROOM_KEPT_BYTES >= 16 << 20, "tombstones and verdicts are small") };
}

/// Documented to callers and operators: a change here is a change of SECURITY.md and the guides.
#[test]
fn a09_b11_b21_promised_times_stand() {
    assert_eq!((HEADER_READ_TIMEOUT_MS, BODY_READ_TIMEOUT_MS), (10_000, 30_000));
    assert_eq!((SOURCE_CONNECT_TIMEOUT_MS, SOURCE_IDLE_TIMEOUT_MS), (10_000, 120_000));
    assert_eq!(DRAIN_TIMEOUT_MS, 30_000);
    const { assert!(REQUEST_TIMEOUT_MS > BODY_READ_TIMEOUT_MS, "a slow body is told from a slow answer") };
}

/// Told in the guide on logs: how much can be lost, how much memory captures take, when a source is let
/// go, and how soon a capture is tried again.
#[test]
fn b08_logs_are_durable_soon_and_sources_are_let_go() {
    assert_eq!((LOG_PART_WAIT_MS, LOG_PART_BYTES_MAX, LOG_PARTS_MERGED), (5_000, 16 << 20, 16));
    const { assert!(LOG_CAPTURES_MAX * LOG_PART_BYTES_MAX <= 256 << 20) };
    assert_eq!(LOG_RETAINED_BYTES_MAX, 8 << 30);
    const { assert!(LOG_PAUSE_MS_MAX >= JOB_BACKOFF_BASE_MS && LOG_PAUSE_MS_MAX <= 300_000) };
    const { assert!(LOG_BASE_LOOK_S <= 60 && LOG_BASE_PAUSE_S >= 3_600) };
    let name = |length| strongroom_core::logs::LogStreamId::parse(&text_of(length));
    assert!(name(LOG_STREAM_NAME_BYTES_MAX - 1).is_some() && name(LOG_STREAM_NAME_BYTES_MAX).is_some());
    assert!(name(LOG_STREAM_NAME_BYTES_MAX + 1).is_none() && name(0).is_none());
}
