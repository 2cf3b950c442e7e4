//! The test servers themselves: if these fail, no other result means anything.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

use strongroom_testkit::mysql::{MySqlServer, Options, require};
use strongroom_testkit::mysql_ledger::{MySqlWriters, judge};

#[test]
fn mysql_starts_writes_and_stops() {
    if !require() {
        return;
    }
    let names = vec!["localhost".to_owned()];
    let mut server = MySqlServer::start(&Options { certificate_names: names, ..Options::default() }).unwrap();
    assert_eq!(server.sql("select @@gtid_mode").unwrap(), "ON");
    let plugin = "select plugin_status from information_schema.plugins where plugin_name = 'clone'";
    assert_eq!(server.sql(plugin).unwrap(), "ACTIVE");
    assert!(server.sql("select nothing").is_err());

    let writers = MySqlWriters::start(&server, 2, true).unwrap();
    while writers.acknowledged().iter().any(|count| *count < 20) || writers.churned() < 2 {
        server.sql("select 1").unwrap();
    }
    let acknowledged = writers.stop().unwrap();
    judge(&server, &acknowledged).unwrap();
    let more: Vec<u64> = acknowledged.iter().map(|count| count + 1).collect();
    assert!(judge(&server, &more).is_err());
    server.sql("delete from ledger.books_in where entry = 3").unwrap();
    assert!(judge(&server, &acknowledged).is_err());

    server.restart().unwrap();
    server.kill9().unwrap();
    server.launch().unwrap();
    server.stop().unwrap();
    let again = MySqlServer::adopt(server.data_dir(), &[]).unwrap();
    assert_eq!(again.sql("select count(*) from ledger.books_in where entry = 3").unwrap(), "0");
}
