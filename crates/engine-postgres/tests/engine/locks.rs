//! Who holds tables does not hold a backup up, and a backup holds nothing that others wait for.

use std::collections::BTreeSet;
use std::thread;

use strongroom_testkit::postgres::{Options, PostgresServer, require};
use strongroom_testkit::session::Session;

use crate::cluster;
use crate::desk::{Taken, create_role, slots_are_gone, source};

const VERSION: u32 = 15;
/// What our sessions hold that keeps somebody from writing or from changing a definition.
const LOCKS: &str = "select coalesce(string_agg(locktype || ' ' || mode, ', '), '')
    from pg_locks join pg_stat_activity using (pid)
    where backend_type = 'walsender' and mode <> 'AccessShareLock' and locktype <> 'virtualxid'";
const COPYING: &str = "select count(*) from pg_stat_progress_basebackup";

/// A session that has locked this table against everybody.
fn lock(server: &PostgresServer, table: &str) -> Session {
    let mut client = server.tool("psql");
    client.args(["-X", "-d", "postgres"]);
    let held = format!(
        "select count(*) from pg_locks where relation = '{table}'::regclass and mode = 'AccessExclusiveLock' and granted"
    );
    let is_held = || server.psql("postgres", &held).unwrap() != "0";
    let statements = format!("begin; lock table {table} in access exclusive mode;\n");
    Session::hold(client, &statements, is_held).unwrap()
}

#[test]
fn b05_locked_tables_stop_no_backup_and_it_locks_none() {
    if !require(VERSION) {
        return;
    }
    let server = PostgresServer::start(VERSION, &Options::default()).unwrap();
    create_role(&server);
    cluster::fill(&server);
    let wanted = cluster::digest(&server);
    let holder = lock(&server, "large_values");
    let mut taken = Taken::new();
    taken.sink.slow_down();
    let source = source(&server);
    let (facts, looks, locks) = thread::scope(|scope| {
        let taking = scope.spawn(|| taken.take(&source));
        let (mut looks, mut locks) = (0, BTreeSet::new());
        while !taking.is_finished() {
            looks += u32::from(server.psql("postgres", COPYING).unwrap() != "0");
            locks.insert(server.psql("postgres", LOCKS).unwrap());
        }
        (taking.join().unwrap(), looks, locks)
    });
    let facts = facts.unwrap();
    assert!(looks > 5, "nobody looked while the copy ran");
    assert_eq!(locks, BTreeSet::from([String::new()]));
    slots_are_gone(&server);
    drop(holder);
    taken.finish_restore(&facts).unwrap();
    let restored = taken.boot(VERSION, &facts);
    assert_eq!(cluster::digest(&restored), wanted);
}
