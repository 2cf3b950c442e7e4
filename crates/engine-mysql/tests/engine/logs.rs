//! Capture of the binary log from real servers: byte for byte what they wrote, without a gap that is not
//! told, and leading a copy to where its source is.

use std::process::Stdio;
use std::time::{Duration, Instant};

use strongroom_core::engine::{CancelToken, CheckState, Engine};
use strongroom_core::logs::{LogPosition, LogRange};
use strongroom_core::{ErrorKind, Retry};
use strongroom_testkit::log_archive::Mishap;
use strongroom_testkit::mysql::{MySqlServer, require};

use crate::desk::{Taken, engine, source};
use crate::log_desk::{Desk, end, log_server};

/// Rows, a changed definition, new files.
fn work(server: &MySqlServer, rounds: u32) {
    for round in 0..rounds {
        let sql = format!(
            "create database if not exists work; create table if not exists work.rows_of (id int auto_increment primary key, body text);
             set session cte_max_recursion_depth = 100000;
             insert into work.rows_of (body) with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000)
                 select sha2(concat(i, '/', {round}), 512) from n;
             delete from work.rows_of where id % 7 = {round} % 7;
             alter table work.rows_of comment = 'round {round}';"
        );
        server.sql(&sql).unwrap();
        if round % 3 == 2 {
            server.sql("flush binary logs").unwrap();
        }
    }
}

/// A transaction whose one event is larger than what is held back, and one that is compressed.
fn big_work(server: &MySqlServer) {
    server
        .sql(
            "create database if not exists work; create table if not exists work.big (id int auto_increment primary key, body longblob);
             insert into work.big (body) values (repeat('0123456789abcdef', 600000));
             set session binlog_transaction_compression = on; insert into work.big (body) values (repeat('zip', 100000))",
        )
        .unwrap();
}

fn is_one_range(desk: &Desk) -> (LogPosition, LogPosition) {
    let held = desk.ranges();
    let [(_, ranges)] = &held[..] else { panic!("{held:?}") };
    let [range] = ranges[..] else { panic!("{held:?}") };
    (range.from, range.until)
}

fn executed(server: &MySqlServer) -> String {
    server.sql("select replace(@@global.gtid_executed, '\\n', '')").unwrap()
}

#[test]
fn captured_binary_log_is_the_servers_own() {
    if !require() {
        return;
    }
    let mut server = log_server(&[]);
    let desk = Desk::new();
    let capture = desk.capture(&server);
    work(&server, 7);
    big_work(&server);
    // Those of newer servers have tags.
    let _ = server.sql("set gtid_next = 'automatic:some_tag'; insert into work.big (body) values ('tagged')");
    // Events without checksums, which such a file has none of.
    server.sql("set global binlog_checksum = none; insert into work.big (body) values ('bare'); set global binlog_checksum = crc32")
        .unwrap();
    work(&server, 2);
    desk.wait_for(&server);
    // What is idle is caught up with, too.
    let begun = Instant::now();
    while desk.told().caught_up.is_none() {
        assert!(begun.elapsed() < Duration::from_mins(1));
        server.sql("select sleep(0.2)").unwrap();
    }
    let now: i64 = server.sql("select unix_timestamp()").unwrap().parse().unwrap();
    let caught_up = desk.told().caught_up.unwrap();
    assert!((now - caught_up.as_second()).abs() < 60, "{caught_up}");
    capture.stop();
    // The next one reads what is held, tags and all, and goes on there; a file that ended with the server
    // names no next one.
    for _ in 0..2 {
        server.restart().unwrap();
        let capture = desk.capture(&server);
        work(&server, 1);
        desk.wait_for(&server);
        capture.stop();
    }
    is_one_range(&desk);
    assert!(desk.judge(&server) > 5);
    assert_eq!(desk.told().gaps, []);
}

/// A process that ends takes with it what it had not made durable; the next one goes on at that byte, be
/// it in the middle of an event.
#[test]
fn p03_a_capture_of_mysql_that_died_goes_on_at_its_last_durable_byte() {
    if !require() {
        return;
    }
    let server = log_server(&[]);
    let desk = Desk::new();
    let mut deaths = 0;
    for round in 0..10_u64 {
        let before = desk.told().written_bytes;
        let mishap = Mishap::DiesAfter(before + 50_000 + round * 2_333_337);
        let capture = desk.capture_with(&server, mishap);
        while capture.is_running() {
            big_work(&server);
            work(&server, 1);
        }
        assert_eq!(capture.end().kind(), ErrorKind::Unavailable);
        deaths += 1;
        if round % 3 == 2 {
            let capture = desk.capture(&server);
            work(&server, 3);
            desk.wait_for(&server);
            capture.stop();
        }
    }
    let capture = desk.capture(&server);
    desk.wait_for(&server);
    capture.stop();
    is_one_range(&desk);
    assert!(desk.judge(&server) > 2 && deaths == 10);
    assert_eq!(desk.told().gaps, []);
}

#[test]
fn b01_a_mysql_server_that_was_killed_or_cut_off_leaves_no_gap() {
    if !require() {
        return;
    }
    let mut server = log_server(&[]);
    let desk = Desk::new();
    let mut capture = desk.capture(&server);
    for round in 0..4 {
        desk.wait_for(&server);
        work(&server, 2);
        if round % 2 == 0 {
            server.kill9().unwrap();
        } else {
            let ids = "select group_concat(concat('kill ', processlist_id) separator ';') from performance_schema.threads \
                       where processlist_command like 'Binlog Dump%'";
            let begun = Instant::now();
            loop {
                let kill = server.sql(ids).unwrap();
                if kill != "NULL" {
                    server.sql(&kill).unwrap();
                    break;
                }
                assert!(begun.elapsed() < Duration::from_mins(1));
            }
        }
        let error = capture.end();
        assert_eq!(error.retry(), Retry::Later, "{error}");
        if round % 2 == 0 {
            server.launch().unwrap();
        }
        capture = desk.capture(&server);
    }
    work(&server, 1);
    desk.wait_for(&server);
    capture.stop();
    is_one_range(&desk);
    assert!(desk.judge(&server) > 2);
}

#[test]
fn b09_purged_logs_are_a_gap_that_is_told_by_its_transactions() {
    if !require() {
        return;
    }
    let server = log_server(&[]);
    let desk = Desk::new();
    let capture = desk.capture(&server);
    work(&server, 1);
    desk.wait_for(&server);
    capture.stop();
    let (_, until) = is_one_range(&desk);
    let held = executed(&server);
    work(&server, 4);
    server.sql("flush binary logs").unwrap();
    let wanted = server.sql(&format!("select gtid_subtract(@@global.gtid_executed, '{held}')")).unwrap();
    let kept = end(&server);
    server.sql(&format!("purge binary logs to 'binlog.{:06}'", kept.file)).unwrap();
    let capture = desk.capture(&server);
    work(&server, 1);
    desk.wait_for(&server);
    capture.stop();
    let gaps = std::mem::take(&mut desk.told().gaps);
    let [(from, to, words)] = &gaps[..] else { panic!("{gaps:?}") };
    assert_eq!((*from, *to), (Some(until), LogPosition::start_of(kept.file)));
    assert!(words.contains(&format!("missing: {wanted} (")) && words.contains("(1236)"), "{words} {wanted}");
    let held = desk.ranges();
    let [(_, ranges)] = &held[..] else { panic!("{held:?}") };
    assert_eq!((ranges.len(), ranges[0].until, ranges[1].from), (2, until, *to), "{held:?}");
}

#[test]
fn v03_a_reset_log_is_not_taken_for_the_one_before() {
    if !require() {
        return;
    }
    let server = log_server(&[]);
    let desk = Desk::new();
    let capture = desk.capture(&server);
    work(&server, 4);
    desk.wait_for(&server);
    capture.stop();
    let (_, until) = is_one_range(&desk);
    let reset = |to: u64| {
        let words = [format!("reset binary logs and gtids to {to}"), format!("reset master to {to}")];
        assert!(words.iter().any(|statement| server.sql(statement).is_ok()));
    };
    reset(1);
    work(&server, 1);
    let error = desk.capture(&server).end();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::SourceRefused, Retry::Later), "{error}");
    assert!(error.public().contains("it has not executed"), "{error}");
    assert!(error.hint().unwrap().contains("RESET BINARY LOGS AND GTIDS TO n"), "{error:?}");
    assert_eq!(is_one_range(&desk).1, until);
    // As the hint says.
    reset(until.file + 3);
    let capture = desk.capture(&server);
    work(&server, 2);
    desk.wait_for(&server);
    capture.stop();
    let gap = desk.told().gaps.pop().unwrap();
    assert_eq!((gap.0, gap.1), (Some(until), LogPosition::start_of(until.file + 3)));
    let capture = desk.capture(&server);
    work(&server, 1);
    desk.wait_for(&server);
    capture.stop();
    assert_eq!((desk.ranges()[0].1.len(), desk.told().gaps.len()), (2, 0));
}

#[test]
fn b03_binary_log_of_another_server_is_not_captured() {
    if !require() {
        return;
    }
    let (server, twin) = (log_server(&[]), log_server(&[]));
    let desk = Desk::new();
    let error = desk.capture_as(&twin, &server).end();
    assert_eq!(error.kind(), ErrorKind::SourceRefused, "{error}");
    assert_eq!(desk.ranges().len(), 0);
}

#[test]
fn b11_each_lack_of_a_mysql_capture_is_mended_by_the_statement_given() {
    if !require() {
        return;
    }
    let server = MySqlServer::start(&strongroom_testkit::mysql::Options {
        arguments: ["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"].map(str::to_owned).to_vec(),
        ..Default::default()
    })
    .unwrap();
    crate::desk::create_account(&server);
    server.sql("set global binlog_checksum = none").unwrap();
    let probed = || engine().probe_logs(&source(&server), &CancelToken::new()).unwrap();
    let lacks: Vec<_> = probed().into_iter().filter(|line| line.state != CheckState::Ok).collect();
    let whats: Vec<&str> = lacks.iter().map(|line| line.what.as_str()).collect();
    let wanted = ["gtid_mode", "checksums of events", "right REPLICATION SLAVE", "right REPLICATION CLIENT"];
    assert_eq!(whats, wanted, "{lacks:#?}");
    let refused = Desk::new().capture(&server).end();
    assert_eq!(refused.kind(), ErrorKind::SourceRefused);
    assert!(refused.hint().unwrap().contains("SET PERSIST gtid_mode = ON;"), "{refused:?}");
    // No log leads on from a backup of such a server, and it is taken all the same.
    assert_eq!(Taken::new().take(&source(&server)).unwrap().log, None);
    for lack in &lacks {
        server.sql(lack.remedy.as_deref().unwrap()).unwrap();
    }
    assert!(probed().iter().all(|line| line.state == CheckState::Ok), "{:#?}", probed());
    assert!(Taken::new().take(&source(&server)).unwrap().log.is_some());
}

/// A copy that was taken while the server was written to, and then given the log that was captured, is
/// the server.
#[test]
fn v03_captured_binary_log_leads_a_copy_to_where_its_source_is() {
    if !require() {
        return;
    }
    let server = log_server(&[]);
    let desk = Desk::new();
    let capture = desk.capture(&server);
    work(&server, 3);
    let taken = Taken::new();
    let facts = std::thread::scope(|scope| {
        let taking = scope.spawn(|| taken.take(&source(&server)).unwrap());
        while !taking.is_finished() {
            // A definition that changes in an unlucky moment ends the clone; rows do not.
            server
                .sql("insert into work.rows_of (body) select left(body, 99) from work.rows_of limit 500")
                .unwrap();
        }
        taking.join().unwrap()
    });
    work(&server, 3);
    desk.wait_for(&server);
    capture.stop();
    let (about, ranges) = desk.ranges().remove(0);
    let point = facts.log.unwrap();
    assert!(
        point.stream == about.id && ranges.len() == 1 && ranges[0].continues(point.position),
        "{point:?}"
    );
    let copy = taken.boot();
    assert_ne!(executed(&copy), executed(&server));
    let files = desk.write_out(&about, LogRange { from: point.position, until: ranges[0].until });
    let mut reader = std::process::Command::new(server.tool("mysqlbinlog").unwrap().get_program());
    let mut reader = reader
        .args(["--no-defaults", "--verify-binlog-checksum"])
        .args(&files)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let replayed = copy.tool("mysql").unwrap().stdin(reader.stdout.take().unwrap()).output().unwrap();
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    assert!(reader.wait().unwrap().success());
    assert_eq!(executed(&copy), executed(&server));
    let sums = "checksum table work.rows_of; select count(*), max(id) from work.rows_of";
    assert_eq!(copy.sql(sums).unwrap(), server.sql(sums).unwrap());
}
