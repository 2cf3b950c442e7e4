//! Who is let in, and what is never said to whom.

use std::time::{Duration, Instant};

use strongroom_core::engine::{CheckState, Source, TlsMode};
use strongroom_core::{ErrorKind, Retry};
use strongroom_testkit::port::Port;
use strongroom_testkit::postgres::{Options, PostgresServer, require};

use crate::desk::{PASSWORD, Taken, create_role, probe, source, source_at};

fn server_with_tls(hba: &[&str]) -> PostgresServer {
    server_of(15, hba)
}

fn server_of(version: u32, hba: &[&str]) -> PostgresServer {
    let hba = ["local all all trust", "local replication all trust"].iter().chain(hba);
    let options =
        Options { tls: true, hba: hba.map(|line| (*line).to_owned()).collect(), ..Options::default() };
    let server = PostgresServer::start(version, &options).unwrap();
    create_role(&server);
    server
}

fn encrypted(server: &PostgresServer, tls: TlsMode) -> Source {
    let ca_pem = server.ca_pem().map(str::to_owned);
    Source { host: "localhost".to_owned(), tls, ca_pem, ..source(server) }
}

fn reach_line(source: &Source) -> String {
    let probe = probe(source).unwrap();
    assert!(probe.passed(), "{probe:?}");
    probe.lines[0].found.clone()
}

#[test]
fn tls_in_each_mode_and_the_login_is_bound_to_it() {
    for version in [15, 17, 18].into_iter().filter(|version| require(*version)) {
        tls_in_each_mode(version);
    }
}

fn tls_in_each_mode(version: u32) {
    let server = server_of(version, &["host replication all 127.0.0.1/32 scram-sha-256"]);
    assert_eq!(
        reach_line(&encrypted(&server, TlsMode::VerifyFull)),
        "TLS 1.3, certificate verified, login bound to it"
    );
    assert_eq!(
        reach_line(&encrypted(&server, TlsMode::Require)),
        "TLS 1.3, certificate not checked, login bound to it"
    );
    assert_eq!(reach_line(&encrypted(&server, TlsMode::Disable)), "without TLS");
    let by_address = Source { host: "127.0.0.1".to_owned(), ..encrypted(&server, TlsMode::VerifyFull) };
    assert!(reach_line(&by_address).contains("verified"));
    let taken = Taken::new();
    let facts = taken.take(&encrypted(&server, TlsMode::VerifyFull)).unwrap();
    taken.finish_restore(&facts).unwrap();
    assert_eq!(taken.boot(version, &facts).psql("postgres", "select 1").unwrap(), "1");
}

#[test]
fn h06_a_certificate_that_does_not_convince_gets_no_password() {
    let server = server_with_tls(&["host replication all 127.0.0.1/32 scram-sha-256"]);
    let stranger = PostgresServer::start(15, &Options { tls: true, ..Options::default() }).unwrap();
    let wrong_authority =
        Source { ca_pem: stranger.ca_pem().map(str::to_owned), ..encrypted(&server, TlsMode::VerifyFull) };
    let no_authority =
        Source { ca_pem: Some("nonsense".to_owned()), ..encrypted(&server, TlsMode::VerifyFull) };
    let error = Taken::new().take(&wrong_authority).unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::SourceRefused, Retry::Never));
    assert!(
        error.public().contains("certificate") && error.public().contains("No password was sent"),
        "{error}"
    );
    // The right authority, and the certificate of another host.
    let options =
        Options { tls: true, certificate_names: vec!["elsewhere.test".to_owned()], ..Options::default() };
    let elsewhere = PostgresServer::start(15, &options).unwrap();
    create_role(&elsewhere);
    let error = Taken::new().take(&encrypted(&elsewhere, TlsMode::VerifyFull)).unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::SourceRefused, Retry::Never));
    assert!(error.public().contains("No password was sent"), "{error}");
    assert!(!elsewhere.log().contains("password authentication failed"));
    assert!(reach_line(&encrypted(&elsewhere, TlsMode::Require)).contains("not checked"));

    let probe = probe(&wrong_authority).unwrap();
    assert!(!probe.passed() && probe.lines[0].state == CheckState::Missing);
    assert!(matches!(Taken::new().take(&no_authority).unwrap_err().kind(), ErrorKind::Parameter(_)));
}

#[test]
fn h06_tls_is_never_talked_down() {
    let server = PostgresServer::start(15, &Options::default()).unwrap();
    create_role(&server);
    let error = Taken::new().take(&encrypted(&server, TlsMode::Require)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceRefused);
    assert!(error.public().contains("does not offer TLS"), "{error}");
}

#[test]
fn h06_md5_only_when_allowed() {
    let server =
        server_with_tls(&["host all md5er 127.0.0.1/32 md5", "host replication md5er 127.0.0.1/32 md5"]);
    let sql =
        format!("set password_encryption = 'md5'; create role md5er login replication password '{PASSWORD}'");
    server.psql("postgres", &sql).unwrap();
    let refused = Source { user: "md5er".to_owned(), ..source(&server) };
    let error = Taken::new().take(&refused).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceRefused);
    assert!(
        error.public().contains("MD5") && error.hint().unwrap().contains("ALTER ROLE \"md5er\""),
        "{error:?}"
    );
    assert!(probe(&Source { allow_md5: true, ..refused }).unwrap().passed());
}

#[test]
fn h06_no_plain_password_without_tls() {
    let server = server_with_tls(&["host replication all 127.0.0.1/32 password"]);
    let error = Taken::new().take(&encrypted(&server, TlsMode::Disable)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceRefused);
    assert!(error.public().contains("not sent"), "{error}");
    assert!(probe(&encrypted(&server, TlsMode::VerifyFull)).unwrap().passed());
}

#[test]
fn b11_a_wrong_password_is_said_once_and_soon() {
    let server = PostgresServer::start(15, &Options::default()).unwrap();
    create_role(&server);
    let wrong = Source { password: "guess".to_owned().into(), ..source(&server) };
    let begun = Instant::now();
    let error = Taken::new().take(&wrong).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!((error.kind(), error.retry()), (ErrorKind::SourceRefused, Retry::Never), "{error:?}");
    assert!(!format!("{error:?}{error} {:?}", error.hint()).contains("guess"));
    let empty = Source { password: String::new().into(), ..source(&server) };
    assert_eq!(Taken::new().take(&empty).unwrap_err().kind(), ErrorKind::SourceRefused);
    // Lock-outs count attempts: a check that finds the password wrong does not try it elsewhere.
    let before = server.log().matches("password authentication failed").count();
    assert!(!probe(&wrong).unwrap().passed());
    assert_eq!(server.log().matches("password authentication failed").count() - before, 1);
}

#[test]
fn b11_nobody_there() {
    let held = Port::hold().unwrap();
    let free = held.number();
    let error = probe(&source_at(free)).unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::SourceUnreachable, Retry::Later));
    let nowhere = Source { host: "nowhere.invalid".to_owned(), ..source_at(free) };
    assert_eq!(Taken::new().take(&nowhere).unwrap_err().kind(), ErrorKind::SourceUnreachable);
}

#[test]
fn b21_a_port_that_answers_with_silence_is_given_up_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let begun = Instant::now();
    let error = probe(&source_at(listener.local_addr().unwrap().port())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceUnreachable);
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
}
