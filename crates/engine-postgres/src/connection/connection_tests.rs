//! Silence, chatter and rows, over a socket whose other end is the test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use strongroom_core::ErrorKind;
use strongroom_core::engine::{CancelToken, StopReason, TlsMode};

use super::*;

/// A server that lets anybody in and then does what it is told; it ends when the client leaves.
fn server(then: impl FnOnce(&mut TcpStream) + Send + 'static) -> (Source, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = Source {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
        user: "x".to_owned(),
        password: String::new().into(),
        tls: TlsMode::Disable,
        ca_pem: None,
        allow_md5: false,
        networks: strongroom_core::network::SourceNetworks::loopback(),
    };
    let thread = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut startup = [0; 4];
        client.read_exact(&mut startup).unwrap();
        let mut rest = vec![0; u32::from_be_bytes(startup) as usize - 4];
        client.read_exact(&mut rest).unwrap();
        client.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").unwrap();
        then(&mut client);
        let _ = client.read_to_end(&mut Vec::new());
    });
    (source, thread)
}

#[test]
fn b21_a_server_that_stalls_is_given_up() {
    let (source, thread) = server(|_| {});
    let cancel = CancelToken::new();
    let watch = Watch::new(&cancel).with_silence(Duration::from_millis(600));
    let mut connection = Connection::open(&source, Purpose::Replication, &watch).ok().unwrap();
    let begun = Instant::now();
    let Err(fault) = connection.query("IDENTIFY_SYSTEM", &watch) else { panic!("nobody answered") };
    assert_eq!(strongroom_core::Error::from(fault).kind(), ErrorKind::SourceUnreachable);
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(connection);
    thread.join().unwrap();
}

#[test]
fn b21_chatter_is_no_answer() {
    let (source, thread) = server(|client| {
        // Notices and parameter reports for as long as somebody listens.
        while client.write_all(b"N\0\0\0\x05\0S\0\0\0\x08a\0b\0").is_ok() {}
    });
    let cancel = CancelToken::new();
    let watch = Watch::new(&cancel).with_silence(Duration::from_millis(600));
    let mut connection = Connection::open(&source, Purpose::Replication, &watch).ok().unwrap();
    let begun = Instant::now();
    assert!(connection.receive(&watch).is_err());
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(connection);
    thread.join().unwrap();
}

#[test]
fn a_wait_ends_soon_after_it_is_cancelled() {
    let (source, thread) = server(|_| {});
    let cancel = CancelToken::new();
    let watch = Watch::new(&cancel);
    let mut connection = Connection::open(&source, Purpose::Replication, &watch).ok().unwrap();
    cancel.stop(StopReason::Cancelled);
    let begun = Instant::now();
    let Err(fault) = connection.query("IDENTIFY_SYSTEM", &watch) else { panic!("nobody answered") };
    assert_eq!(strongroom_core::Error::from(fault).kind(), ErrorKind::Cancelled);
    assert!(begun.elapsed() < Duration::from_secs(1));
    drop(connection);
    thread.join().unwrap();
}

#[test]
fn a_message_that_was_waited_for_is_not_lost() {
    let (source, thread) = server(|client| {
        client.write_all(b"N\0\0\0\x05\0D\0\0\0\x0b\0\x01\0\0\0\x01").unwrap();
        client.write_all(b"7Z\0\0\0\x05I").unwrap();
    });
    let cancel = CancelToken::new();
    let watch = Watch::new(&cancel);
    let mut connection = Connection::open(&source, Purpose::Replication, &watch).ok().unwrap();
    while !connection.has_message_within(Duration::from_secs(5), &watch).unwrap() {}
    assert!(connection.has_message_within(Duration::from_secs(5), &watch).unwrap());
    assert_eq!(connection.query_value("SHOW x", &watch).unwrap(), "7");
    drop(connection);
    thread.join().unwrap();
}

#[test]
fn h06_malformed_rows_are_refused() {
    let row = [0, 2, 0, 0, 0, 1, b'7', 0xff, 0xff, 0xff, 0xff];
    let decoded = Row::decode(&row).unwrap();
    assert_eq!(decoded.parse::<u32>(0).unwrap(), 7);
    assert_eq!(decoded.bytes(1).unwrap(), None);
    assert!(decoded.text(1).is_err() && decoded.bytes(2).is_err());
    for length in 0..row.len() {
        assert!(Row::decode(&row[..length]).is_err(), "{length}");
    }
    assert!(Row::decode(&[0, 1, 0x7f, 0xff, 0xff, 0xff, 1]).is_err());
}

/// What a name meant when the instance was registered does not count: what it means now does.
#[test]
fn a18_an_address_that_is_not_allowed_is_never_called() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    for (host, networks) in [("127.0.0.1", ""), ("localhost", "private"), ("::ffff:127.0.0.1", "10.0.0.0/8")]
    {
        let source = Source {
            host: host.to_owned(),
            port: listener.local_addr().unwrap().port(),
            user: "x".to_owned(),
            password: String::new().into(),
            tls: TlsMode::Disable,
            ca_pem: None,
            allow_md5: false,
            networks: networks.parse().unwrap(),
        };
        let cancel = CancelToken::new();
        let Err(fault) = Connection::open(&source, Purpose::Replication, &Watch::new(&cancel)) else {
            panic!("{host} was called");
        };
        let error = strongroom_core::Error::from(fault);
        assert_eq!(error.kind(), ErrorKind::SourceRefused, "{error:?}");
        assert!(error.public().contains("is not one a database may have here"), "{}", error.public());
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}
