//! Capture of the log from real servers: byte for byte what they wrote, without a gap that is not told,
//! and never at the cost of their disk.

use std::time::{Duration, Instant};

use strongroom_core::engine::{CancelToken, CheckState, Engine};
use strongroom_core::logs::LogPosition;
use strongroom_core::{ErrorKind, Retry};
use strongroom_testkit::log_archive::Mishap;
use strongroom_testkit::postgres::PostgresServer;

use crate::desk::{Taken, engine, source};
use crate::log_desk::{Desk, OWNER, log_server, slots, stop_when_begun};
use crate::standby::standby_of;

/// Several MiB of log: rows, switches of segments, a checkpoint.
fn work(server: &PostgresServer, rounds: u32) {
    for round in 0..rounds {
        let sql = format!(
            "create table if not exists work (i bigint, t text);
             insert into work select i, md5((i * {round})::text) from generate_series(1, 12000) i;
             delete from work where i % 7 = {round} % 7;"
        );
        server.psql("postgres", &sql).unwrap();
        if round % 4 == 3 {
            server.psql("postgres", "select pg_switch_wal()").unwrap();
            server.psql("postgres", "checkpoint").unwrap();
        }
    }
}

fn is_one_range(desk: &Desk) -> (LogPosition, LogPosition) {
    let held = desk.ranges();
    let [(_, ranges)] = &held[..] else { panic!("{held:?}") };
    let [range] = ranges[..] else { panic!("{held:?}") };
    (range.from, range.until)
}

fn log_is_the_servers_own(version: u32) {
    let server = log_server(version, &[]);
    let desk = Desk::new();
    let capture = desk.capture(&server);
    work(&server, 8);
    desk.wait_for(&server);
    // What is idle is caught up with, too.
    let begun = Instant::now();
    while desk.told().caught_up.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        server.psql("postgres", "select pg_sleep(0.2)").unwrap();
    }
    let now = server.psql("postgres", "select extract(epoch from now())::bigint").unwrap();
    let (now, caught_up) = (now.parse::<i64>().unwrap(), desk.told().caught_up.unwrap());
    assert!((now - caught_up.as_second()).abs() < 60, "{caught_up}");
    capture.stop();
    is_one_range(&desk);
    assert!(desk.judge(&server) > 8);
    // The server lets go of what is durable here, and of nothing else.
    let held = "select pg_current_wal_lsn() - restart_lsn < 1048576 from pg_replication_slots";
    assert_eq!(server.psql("postgres", held).unwrap(), "t");
    if server.has_tool("pg_waldump") {
        let (stream, ranges) = &desk.ranges()[0];
        let (folder, names) = desk.write_out(stream, ranges[0]);
        let first = folder.join(&names[0]);
        let last = folder.join(&names[names.len() - 1]);
        let told = server
            .run_tool("pg_waldump", &["--stats", first.to_str().unwrap(), last.to_str().unwrap()])
            .unwrap();
        assert!(told.contains("Heap"), "{told}");
    }
    engine().release_logs(&source(&server), OWNER, &CancelToken::new()).unwrap();
    assert_eq!(slots(&server), "");
    engine().release_logs(&source(&server), OWNER, &CancelToken::new()).unwrap();
}

#[test]
fn captured_log_is_the_servers_own_15() {
    log_is_the_servers_own(15);
}

#[test]
fn captured_log_is_the_servers_own_17() {
    log_is_the_servers_own(17);
}

#[test]
fn captured_log_is_the_servers_own_18() {
    log_is_the_servers_own(18);
}

#[test]
fn captured_log_is_the_servers_own_before_slots_could_be_read() {
    log_is_the_servers_own(13);
}

/// A process that ends takes with it what it had not made durable; the next one goes on at that byte.
#[test]
fn p03_a_capture_that_died_goes_on_at_its_last_durable_byte() {
    let server = log_server(15, &[]);
    let desk = Desk::new();
    let mut deaths = 0;
    for round in 0..12_u64 {
        if round % 3 == 2 {
            let capture = desk.capture(&server);
            work(&server, 2);
            capture.stop();
            continue;
        }
        let before = desk.told().written_bytes;
        let mishap = Mishap::DiesAfter(before + 100_000 + round * 333_337);
        let capture = desk.capture_with(&server, mishap, 1 << 40);
        // It may have got less than it needs to die.
        while capture.is_running() {
            work(&server, 1);
        }
        assert_eq!(capture.end().kind(), ErrorKind::Unavailable);
        deaths += 1;
    }
    let capture = desk.capture(&server);
    desk.wait_for(&server);
    capture.stop();
    is_one_range(&desk);
    assert!(desk.judge(&server) > 20 && deaths > 6, "{deaths}");
    assert_eq!(desk.told().gaps, []);
}

#[test]
fn b01_a_server_that_was_killed_or_cut_off_leaves_no_gap() {
    let mut server = log_server(15, &[]);
    let desk = Desk::new();
    let mut capture = desk.capture(&server);
    for round in 0..4 {
        work(&server, 3);
        if round % 2 == 0 {
            server.kill9().unwrap();
        } else {
            // The last round of writes may still be on its way.
            let cut = "select count(pg_terminate_backend(pid)) from pg_stat_replication";
            while server.psql("postgres", cut).unwrap() == "0" {}
        }
        let error = capture.end();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::SourceUnreachable, Retry::Later), "{error}");
        if round % 2 == 0 {
            server.launch().unwrap();
        }
        capture = desk.capture(&server);
    }
    work(&server, 1);
    desk.wait_for(&server);
    capture.stop();
    is_one_range(&desk);
    assert!(desk.judge(&server) > 10);
}

#[test]
fn b08_the_source_is_let_go_before_its_disk_is_in_danger() {
    let server = log_server(15, &[]);
    let desk = Desk::new();
    let capture = desk.capture(&server);
    work(&server, 2);
    desk.wait_for(&server);
    capture.stop();
    let (_, until) = is_one_range(&desk);
    // A repository that takes nothing any more, and a source that writes on.
    let capture = desk.capture_with(&server, Mishap::TakesNothing, 4 << 20);
    while capture.is_running() {
        work(&server, 1);
    }
    let error = capture.end();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::SourceRefused, Retry::Later), "{error}");
    assert!(desk.told().given_up[0] > 4 << 20);
    assert_eq!(slots(&server), "");
    // What of it the server still has by chance is captured all the same; here it has nothing.
    server.psql("postgres", "alter system set wal_keep_size = 0").unwrap();
    server.psql("postgres", "select pg_reload_conf()").unwrap();
    for _ in 0..6 {
        work(&server, 4);
    }
    let capture = desk.capture(&server);
    work(&server, 2);
    desk.wait_for(&server);
    capture.stop();
    let gap = desk.told().gaps.pop().unwrap();
    assert_eq!(gap.0, Some(until));
    let held = desk.ranges();
    let [(_, ranges)] = &held[..] else { panic!("{held:?}") };
    assert_eq!((ranges.len(), ranges[0].until, ranges[1].from), (2, until, gap.1), "{held:?}");
    assert!(gap.2.contains("58P01") && gap.1.offset == 0, "{gap:?}");
}

#[test]
fn b08_a_slot_that_the_server_gave_up_is_made_anew_and_the_gap_is_told() {
    let server = log_server(15, &["wal_keep_size = 0"]);
    let desk = Desk::new();
    let capture = desk.capture(&server);
    work(&server, 1);
    desk.wait_for(&server);
    capture.stop();
    let (_, until) = is_one_range(&desk);
    let bound = |size: &str| {
        server.psql("postgres", &format!("alter system set max_slot_wal_keep_size = '{size}'")).unwrap();
        server.psql("postgres", "select pg_reload_conf()").unwrap();
    };
    bound("2MB");
    while server.psql("postgres", "select wal_status from pg_replication_slots").unwrap() != "lost" {
        work(&server, 4);
    }
    bound("1GB");
    let capture = desk.capture(&server);
    work(&server, 1);
    desk.wait_for(&server);
    capture.stop();
    let (from, to, _) = desk.told().gaps.pop().unwrap();
    assert!(from == Some(until) && to > until, "{from:?} {to}");
    let status = server.psql("postgres", "select wal_status from pg_replication_slots").unwrap();
    assert!(["reserved", "extended"].contains(&status.as_str()), "{status}");
}

/// A bound beyond which the capture itself lets go counts from the beginning, too.
#[test]
fn b08_a_slot_that_holds_too_much_already_is_let_go_at_once() {
    let server = log_server(17, &[]);
    let desk = Desk::new();
    stop_when_begun(desk.capture(&server), &server);
    for _ in 0..3 {
        work(&server, 4);
    }
    let error = desk.capture_with(&server, Mishap::None, 1 << 20).end();
    assert_eq!(error.kind(), ErrorKind::SourceRefused, "{error}");
    assert_eq!((slots(&server).as_str(), desk.told().given_up.len()), ("", 1));
}

#[test]
fn b08_nothing_is_captured_from_a_source_without_a_bound() {
    let server = log_server(15, &["max_slot_wal_keep_size = -1"]);
    let desk = Desk::new();
    let error = desk.capture(&server).end();
    assert_eq!(error.kind(), ErrorKind::SourceRefused);
    assert!(error.hint().unwrap().contains("ALTER SYSTEM SET max_slot_wal_keep_size"), "{error:?}");
    assert_eq!((slots(&server).as_str(), desk.ranges().len()), ("", 0));
    let probed = || engine().probe_logs(&source(&server), &CancelToken::new()).unwrap();
    let [line] = &probed()[..] else { panic!("one line") };
    assert_eq!(line.state, CheckState::Missing);
    let remedy = line.remedy.clone().unwrap();
    for statement in remedy.split_inclusive(';') {
        server.psql("postgres", statement).unwrap();
    }
    let begun = Instant::now();
    while probed()[0].state != CheckState::Ok {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn v03_a_promotion_is_followed_to_the_next_timeline() {
    let primary = log_server(15, &[]);
    let place = Taken::new();
    let standby = standby_of(&primary, &place);
    let desk = Desk::new();
    let capture = desk.capture(&standby);
    work(&primary, 3);
    let reached = primary.psql("postgres", "select pg_current_wal_flush_lsn()").unwrap();
    desk.wait_until(&reached, &standby);
    standby.psql("postgres", "select pg_promote()").unwrap();
    work(&standby, 3);
    let now = "select pg_current_wal_flush_lsn()";
    desk.wait_until(&standby.psql("postgres", now).unwrap(), &standby);
    capture.stop();
    let held = desk.ranges();
    let [(first, first_ranges), (second, second_ranges)] = &held[..] else { panic!("{held:?}") };
    assert_eq!((first_ranges.len(), second_ranges.len()), (1, 1), "{held:?}");
    let origin = second.origin.clone().unwrap();
    assert_eq!((&origin.stream, origin.position), (&first.id, first_ranges[0].until));
    assert_eq!(second_ranges[0].from, LogPosition::start_of(origin.position.file));
    assert!(second.facts["history"].as_str().unwrap().starts_with("1\t"), "{second:?}");
    assert!(desk.judge(&standby) > 6);
    // A backup says where log leads on from it, by the same names.
    let taken = Taken::new();
    let point = taken.take(&source(&standby)).unwrap().log.unwrap();
    assert_eq!(point.stream, second.id);
    assert!(point.position > second_ranges[0].from);
    // Whoever was away meanwhile goes on the same way.
    let late = Desk::new();
    let capture = late.capture(&standby);
    late.wait_for(&standby);
    capture.stop();
    assert_eq!(late.ranges()[0].0, *second);
}

/// The server went on from an earlier state while nobody looked, to another timeline of its own.
#[test]
fn v03_a_capture_that_was_away_goes_the_way_the_server_went() {
    let mut server = log_server(15, &[]);
    let desk = Desk::new();
    let capture = desk.capture(&server);
    work(&server, 2);
    desk.wait_for(&server);
    capture.stop();
    let (_, until) = is_one_range(&desk);
    server.stop().unwrap();
    std::fs::write(server.data_dir().join("recovery.signal"), b"").unwrap();
    let conf = server.data_dir().join("postgresql.auto.conf");
    let text = std::fs::read_to_string(&conf).unwrap_or_default();
    std::fs::write(&conf, text + "restore_command = 'false'\n").unwrap();
    server.launch().unwrap();
    work(&server, 2);
    let capture = desk.capture(&server);
    desk.wait_for(&server);
    capture.stop();
    let held = desk.ranges();
    let [(_, first), (second, ranges)] = &held[..] else { panic!("{held:?}") };
    // All of the first timeline is there: from where the capture was to where the server left it.
    assert!(first.len() == 1 && first[0].until >= until, "{held:?}");
    assert_eq!(second.origin.clone().unwrap().position, first[0].until);
    assert_eq!((second.facts["timeline"].as_u64(), ranges.len()), (Some(2), 1));
    assert!(desk.judge(&server) > 3);
    assert_eq!(desk.told().gaps, []);
}

#[test]
fn b03_log_of_another_server_is_not_captured() {
    let (server, twin) = (log_server(15, &[]), log_server(15, &[]));
    let desk = Desk::new();
    let capture = desk.capture_as(&twin, &server);
    let error = capture.end();
    assert_eq!(error.kind(), ErrorKind::SourceRefused, "{error}");
    assert_eq!((slots(&twin).as_str(), desk.ranges().len()), ("", 0));
}
