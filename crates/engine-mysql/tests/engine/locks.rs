//! Who holds tables does not hold a backup up, and a backup holds nothing that others wait for.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use strongroom_testkit::mysql::{MySqlServer, require};
use strongroom_testkit::session::Session;

use crate::desk::{Taken, donor_is_free, source};
use crate::world::{self, checksums};

/// What our sessions hold that keeps somebody from writing or from changing a definition.
const LOCKS: &str = "select coalesce(group_concat(distinct object_type, ' ', coalesce(object_name, ''), ' ', lock_type), '')
    from performance_schema.metadata_locks m
    join performance_schema.threads t on t.thread_id = m.owner_thread_id
    where processlist_user = 'strong''room' and lock_status = 'GRANTED'
      and (object_type in ('BACKUP LOCK', 'GLOBAL', 'COMMIT', 'TABLESPACE')
           or lock_type in ('SHARED_UPGRADABLE', 'SHARED_NO_WRITE', 'SHARED_READ_ONLY', 'SHARED_NO_READ_WRITE', 'EXCLUSIVE'))";
const CLONING: &str = "select count(*) from performance_schema.threads
    where processlist_user = 'strong''room' and processlist_command = 'Clone'";

/// A session of an administrator who has locked these tables.
pub(crate) fn lock(server: &MySqlServer, tables: &str) -> Session {
    let held = "select count(*) from performance_schema.threads
        where processlist_command = 'Sleep' and processlist_user = 'root'";
    let is_held = || server.sql(held).unwrap() != "0";
    Session::hold(server.tool("mysql").unwrap(), &format!("lock tables {tables};\n"), is_held).unwrap()
}

#[test]
fn b05_locked_tables_stop_no_mysql_backup_and_it_locks_none() {
    if !require() {
        return;
    }
    let server = world::start(None);
    let wanted = checksums(&server);
    let holder = lock(&server, "shop.wares write, shop.zipped write");
    let mut taken = Taken::new();
    taken.sink.slow_down(Duration::from_millis(20));
    let source = source(&server);
    let (taking, looks, locks) = thread::scope(|scope| {
        let taking = scope.spawn(|| taken.take(&source));
        let (mut looks, mut locks) = (0, BTreeSet::new());
        while !taking.is_finished() {
            looks += u32::from(server.sql(CLONING).unwrap() != "0");
            locks.insert(server.sql(LOCKS).unwrap());
        }
        (taking.join().unwrap(), looks, locks)
    });
    taking.unwrap();
    assert!(looks > 5, "nobody looked while the clone ran");
    assert_eq!(locks, BTreeSet::from([String::new()]));
    donor_is_free(&server);
    drop(holder);
    let restored = taken.boot();
    assert_eq!(checksums(&restored), wanted);
}
