//! The check of a source: each lack with the statement that mends it, and the statement does.

use std::io::Write;
use std::net::TcpListener;

use strongroom_core::ErrorKind;
use strongroom_core::engine::{CheckLine, CheckState, Probe, Source, TlsMode};
use strongroom_testkit::mysql::{MySqlServer, Options, require};
use strongroom_testkit::port::Port;

use crate::desk::{ACCOUNT, create_account, probe, source, source_at};
use crate::world;

fn line<'p>(probe: &'p Probe, what: &str) -> &'p CheckLine {
    probe
        .lines
        .iter()
        .find(|line| line.what == what)
        .unwrap_or_else(|| panic!("{what} in {:#?}", probe.lines))
}

fn not_ok(probe: &Probe) -> Vec<&str> {
    probe.lines.iter().filter(|line| line.state != CheckState::Ok).map(|line| line.what.as_str()).collect()
}

fn missing(probe: &Probe) -> Vec<&str> {
    let is_missing = |line: &&CheckLine| line.state == CheckState::Missing;
    probe.lines.iter().filter(is_missing).map(|line| line.what.as_str()).collect()
}

/// Runs what the line says, as an administrator would.
fn mend(server: &MySqlServer, probe: &Probe, what: &str) {
    let remedy = line(probe, what).remedy.clone().unwrap();
    server.sql(&remedy).unwrap_or_else(|error| panic!("{remedy}: {error}"));
}

#[test]
fn a_good_mysql_source_passes() {
    if !require() {
        return;
    }
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let server = MySqlServer::start(&Options { certificate_names: names, ..Options::default() }).unwrap();
    create_account(&server);
    let verified =
        Source { tls: TlsMode::VerifyFull, ca_pem: server.ca_pem().map(str::to_owned), ..source(&server) };
    let found = probe(&verified).unwrap();
    assert!(found.passed() && not_ok(&found).is_empty(), "{found:#?}");
    assert!(found.lines[0].found.contains("certificate verified"), "{:?}", found.lines[0]);
    assert!(line(&found, "version").found.starts_with("MySQL "));
    assert_eq!(found.identity.unwrap().system_identifier, server.sql("select @@server_uuid").unwrap());
    // The server's own certificate is nobody's who was not named.
    let other = Source { ca_pem: None, ..verified };
    let refused = probe(&other).unwrap();
    assert!(!refused.passed() && refused.lines[0].found.contains("certificate"), "{refused:#?}");
    // The password is remembered by now: without TLS it is proved and not shown.
    let plain = Source { tls: TlsMode::Disable, ..source(&server) };
    assert!(probe(&plain).unwrap().passed());
    server.sql("flush privileges").unwrap();
    let forgotten = probe(&plain).unwrap();
    assert!(forgotten.lines[0].found.contains("It was not sent"), "{forgotten:#?}");
}

#[test]
fn b11_each_lack_of_a_mysql_source_is_mended_by_the_statement_given() {
    if !require() {
        return;
    }
    let arguments = ["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"].map(str::to_owned).to_vec();
    let server =
        MySqlServer::start(&Options { clone_plugin: false, arguments, ..Options::default() }).unwrap();
    server
        .sql("create user 'strong''room'@'127.0.0.%' identified by 'correct horse ünd \\\\ battery'")
        .unwrap();
    let before = probe(&source(&server)).unwrap();
    assert_eq!(missing(&before), ["clone plugin", "backup right"]);
    let warned = ["tables of other engines", "gtid_mode"];
    assert_eq!(not_ok(&before)[2..], warned, "{before:#?}");
    assert!(before.identity.is_some() && !before.passed());
    mend(&server, &before, "clone plugin");
    let half = probe(&source(&server)).unwrap();
    assert_eq!(missing(&half), ["backup right"]);
    let remedy = line(&half, "backup right").remedy.as_deref();
    assert_eq!(remedy, Some("GRANT BACKUP_ADMIN ON *.* TO 'strong''room'@'127.0.0.%';"));
    mend(&server, &half, "backup right");
    for what in warned {
        mend(&server, &before, what);
    }
    let after = probe(&source(&server)).unwrap();
    assert!(after.passed() && not_ok(&after).is_empty(), "{after:#?}");
    assert_eq!(after.identity, before.identity);
}

#[test]
fn b11_each_refused_mysql_login_is_told_apart() {
    if !require() {
        return;
    }
    let server = MySqlServer::start(&Options::default()).unwrap();
    let nobody = probe(&source(&server)).unwrap();
    // Who is not there is asked for a method by lot, so that nobody learns who is.
    let [lack] = missing(&nobody)[..] else { panic!("{nobody:#?}") };
    let remedy = line(&nobody, lack).remedy.clone().unwrap();
    let found = &line(&nobody, lack).found;
    assert!(lack != "login" || found.contains(ACCOUNT));
    // From where this machine comes is for the server to say (an address, or the name it has for it):
    // what the remedy creates must be let in.
    let create = &remedy[remedy.find("CREATE USER 'strong''room'@").unwrap()..];
    server.sql(&create.replace("'...'", "'correct horse ünd \\\\ battery'")).unwrap();
    let made = probe(&source(&server)).unwrap();
    assert!(made.passed(), "{remedy}: {made:#?}");
    let host = server.sql("select host from mysql.user where user = 'strong''room'").unwrap();
    assert_eq!(lack == "login", host != "%", "{remedy}");
    server.sql(&format!("drop user 'strong''room'@'{host}'")).unwrap();
    create_account(&server);
    let wrong = Source { password: "guess".to_owned().into(), ..source(&server) };
    assert!(line(&probe(&wrong).unwrap(), "login").found.contains("wrong password or no such account"));
    server.sql("alter user 'strong''room'@'%' account lock").unwrap();
    let locked = probe(&source(&server)).unwrap();
    let unlock = line(&locked, "login").remedy.clone().unwrap();
    assert!(
        unlock.starts_with("ALTER USER 'strong''room'@") && unlock.ends_with("ACCOUNT UNLOCK;"),
        "{unlock}"
    );
    server.sql("alter user 'strong''room'@'%' account unlock password expire").unwrap();
    let expired = probe(&source(&server)).unwrap();
    assert!(line(&expired, "login").remedy.clone().unwrap().contains("IDENTIFIED BY '...'"), "{expired:#?}");
    server.sql("alter user 'strong''room'@'%' identified by 'correct horse ünd \\\\ battery'; set global require_secure_transport = on").unwrap();
    let plain = Source { tls: TlsMode::Disable, ..source(&server) };
    // A server that does not remember the password asks for it before it says what it misses.
    let asked = probe(&plain).unwrap();
    assert_eq!(asked.lines.last().unwrap().wanted, "a protected login", "{asked:#?}");
    assert!(probe(&source(&server)).unwrap().passed());
    let insecure = probe(&plain).unwrap();
    assert_eq!(line(&insecure, "login").wanted, "TLS", "{insecure:#?}");
}

#[test]
fn what_a_person_should_know_of_a_mysql_source_does_not_stop_them() {
    if !require() {
        return;
    }
    let server = world::start(None);
    world::add_other_engines(&server);
    let found = probe(&source(&server)).unwrap();
    assert!(found.passed());
    let others = line(&found, "other engines");
    assert_eq!(others.state, CheckState::Warning);
    assert!(others.found.starts_with("3 tables of other engines than InnoDB: shop.lines (CSV"), "{others:?}");
    assert_eq!(others.remedy.as_deref(), Some("ALTER TABLE `shop`.`lines` ENGINE = InnoDB;"));
    let beside = line(&found, "rows of other engines");
    assert_eq!(beside.state, CheckState::Warning);
    assert!(
        beside.found.contains("not dumped: shop.lines (CSV, rows not counted), shop.old (ARCHIVE"),
        "{beside:?}"
    );
    let remedy = beside.remedy.as_deref().unwrap();
    assert!(
        remedy.starts_with("GRANT SELECT ON `shop`.`lines` TO 'strong''room'@'%'; GRANT SELECT"),
        "{remedy}"
    );
    mend(&server, &found, "rows of other engines");
    let after = probe(&source(&server)).unwrap();
    assert_eq!(line(&after, "rows of other engines").state, CheckState::Ok, "{after:#?}");
}

/// A port where somebody greets, and takes note of what is said to them.
fn greeter(greeting: &'static [u8]) -> (Source, std::thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = source_at(listener.local_addr().unwrap().port());
    let thread = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let length = u32::try_from(greeting.len()).unwrap().to_le_bytes();
        client.write_all(&[&[length[0], length[1], length[2], 0], greeting].concat()).unwrap();
        let mut said = Vec::new();
        let _ = std::io::Read::read_to_end(&mut client, &mut said);
        said
    });
    (source, thread)
}

#[test]
fn mariadb_and_servers_that_are_too_old_are_refused_by_name_without_a_login() {
    for (greeting, what, name) in [
        (
            &b"\x0a11.8.3-MariaDB-deb12\0\x01\0\0\0saltsalt\0\xfe\xf7\x08\x02\0\xff\x81\x15\0\0\0\0\0\0\x1d\0\0\0saltsaltsalt\0mysql_native_password\0"[..],
            "clone protocol",
            "MariaDB (11.8.3-MariaDB-deb12)",
        ),
        (
            b"\x0a5.7.44-log\0\x01\0\0\0saltsalt\0\xff\xf7\x08\x02\0\xff\x81\x15\0\0\0\0\0\0\0\0\0\0saltsaltsalt\0mysql_native_password\0",
            "version",
            "MySQL 5.7.44-log",
        ),
        (
            b"\x0a8.0.26\0\x01\0\0\0saltsalt\0\xff\xff\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0saltsaltsalt\0caching_sha2_password\0",
            "version",
            "MySQL 8.0.26",
        ),
    ] {
        let (source, thread) = greeter(greeting);
        let found = probe(&source).unwrap();
        assert!(!found.passed() && found.identity.is_none());
        assert_eq!(missing(&found), [what]);
        assert_eq!(line(&found, what).found, name);
        assert!(line(&found, what).why.as_deref().unwrap().contains("clone protocol"));
        // A farewell at most, and nothing about us.
        assert!(thread.join().unwrap().len() <= 5, "somebody introduced themselves");
        let (source, thread) = greeter(greeting);
        let error = crate::desk::Taken::new().take(&source).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceRefused);
        assert!(error.public().contains(name), "{}", error.public());
        thread.join().unwrap();
    }
}

#[test]
fn b11_nobody_there_is_said_in_words() {
    let held = Port::hold().unwrap();
    let error = probe(&source_at(held.number())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceUnreachable);
    assert!(error.public().contains("could not be reached"), "{}", error.public());
}
