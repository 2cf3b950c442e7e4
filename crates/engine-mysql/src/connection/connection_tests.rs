//! Silence, chatter and rows, over a socket whose other end is the test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use strongroom_core::ErrorKind;
use strongroom_core::engine::{CancelToken, StopReason};

use super::*;

fn source_at(port: u16) -> Source {
    Source {
        host: "127.0.0.1".to_owned(),
        port,
        user: "x".to_owned(),
        password: "secret".to_owned().into(),
        tls: TlsMode::Disable,
        ca_pem: None,
        allow_md5: false,
        networks: SourceNetworks::loopback(),
    }
}

fn greeting() -> Vec<u8> {
    let mut body = b"\x0a9.7.4\0\x01\0\0\0saltsalt\0".to_vec();
    body.extend_from_slice(&[0xff, 0xff, 255, 2, 0, 0xff, 0xff, 21]);
    body.extend_from_slice(&[0; 10]);
    body.extend_from_slice(b"saltsaltsalt\0caching_sha2_password\0");
    packet(0, &body)
}

fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&[length[0], length[1], length[2], number], body].concat()
}

fn take(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    client.read_exact(&mut head).ok()?;
    let mut body = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    client.read_exact(&mut body).ok()?;
    Some(body)
}

/// A server that lets anybody in and then does what it is told; it ends when the client leaves.
fn server(then: impl FnOnce(&mut TcpStream) + Send + 'static) -> (Source, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = source_at(listener.local_addr().unwrap().port());
    let thread = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(&greeting()).unwrap();
        take(&mut client).unwrap();
        client.write_all(&packet(2, &[0, 0, 0, 2, 0, 0, 0])).unwrap();
        then(&mut client);
        let _ = client.read_to_end(&mut Vec::new());
    });
    (source, thread)
}

#[test]
fn b21_a_mysql_server_that_stalls_is_given_up() {
    let (source, thread) = server(|_| {});
    let cancel = CancelToken::new();
    let watch = Watch::new(&cancel).with_silence(Duration::from_millis(600));
    let mut connection = Connection::open(&source, &watch).ok().unwrap();
    let begun = Instant::now();
    let Err(fault) = connection.query("select 1", &watch) else { panic!("nobody answered") };
    assert_eq!(strongroom_core::Error::from(fault).kind(), ErrorKind::SourceUnreachable);
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(connection);
    thread.join().unwrap();
}

#[test]
fn a_wait_for_a_mysql_server_ends_soon_after_it_is_cancelled() {
    let (source, thread) = server(|_| {});
    let cancel = CancelToken::new();
    let watch = Watch::new(&cancel);
    let mut connection = Connection::open(&source, &watch).ok().unwrap();
    cancel.stop(StopReason::Cancelled);
    let begun = Instant::now();
    let Err(fault) = connection.query("select 1", &watch) else { panic!("nobody answered") };
    assert_eq!(strongroom_core::Error::from(fault).kind(), ErrorKind::Cancelled);
    assert!(begun.elapsed() < Duration::from_secs(1));
    drop(connection);
    thread.join().unwrap();
}

#[test]
fn rows_come_to_their_end_and_errors_do_not_end_the_session() {
    let (source, thread) = server(|client| {
        take(client).unwrap();
        for (number, body) in
            [&[1][..], b"\x03def", b"\x017", b"\xfb", &[0xfe, 0, 0, 2, 0, 0, 0]].iter().enumerate()
        {
            client.write_all(&packet(u8::try_from(number + 1).unwrap(), body)).unwrap();
        }
        take(client).unwrap();
        client.write_all(&packet(1, b"\xff\x28\x04#42000no such thing")).unwrap();
        take(client).unwrap();
        client.write_all(&packet(1, b"\xfb/etc/passwd")).unwrap();
    });
    let cancel = CancelToken::new();
    let watch = Watch::new(&cancel);
    let mut connection = Connection::open(&source, &watch).ok().unwrap();
    let rows = connection.query("select x", &watch).unwrap();
    assert_eq!((rows.len(), rows[0].number(0).unwrap(), rows[1].number(0).unwrap()), (2, Some(7), None));
    let Err(Fault::Server(error)) = connection.query("select y", &watch) else { panic!("no error") };
    assert_eq!((error.code, error.message.as_str()), (1064, "no such thing"));
    assert!(matches!(connection.query("select z", &watch), Err(Fault::Domain(_))));
    drop(connection);
    thread.join().unwrap();
}

#[test]
fn h06_a_mysql_login_never_shows_its_password_without_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = source_at(listener.local_addr().unwrap().port());
    let thread = thread::spawn(move || {
        let mut said = Vec::new();
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(&greeting()).unwrap();
        said.extend(take(&mut client).unwrap());
        client.write_all(&packet(2, &[1, 4])).unwrap();
        client.read_to_end(&mut said).unwrap();
        said
    });
    let cancel = CancelToken::new();
    let Err(fault) = Connection::open(&source, &Watch::new(&cancel)) else { panic!("logged in") };
    let error = strongroom_core::Error::from(fault);
    assert_eq!(error.kind(), ErrorKind::SourceRefused);
    assert!(error.public().contains("It was not sent"), "{}", error.public());
    assert!(!thread.join().unwrap().windows(6).any(|bytes| bytes == b"secret"));
}

#[test]
fn h06_plain_text_behind_the_greeting_is_not_taken_for_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = Source { tls: TlsMode::Require, ..source_at(listener.local_addr().unwrap().port()) };
    let thread = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(&[greeting(), packet(2, &[0, 0, 0, 2, 0, 0, 0])].concat()).unwrap();
        let _ = client.read_to_end(&mut Vec::new());
    });
    let cancel = CancelToken::new();
    let Err(fault) = Connection::open(&source, &Watch::new(&cancel)) else { panic!("logged in") };
    assert_eq!(strongroom_core::Error::from(fault).kind(), ErrorKind::SourceHostile);
    thread.join().unwrap();
}

/// What a name meant when the instance was registered does not count: what it means now does.
#[test]
fn a18_a_mysql_address_that_is_not_allowed_is_never_called() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    for (host, networks) in [("127.0.0.1", ""), ("localhost", "private"), ("::ffff:127.0.0.1", "10.0.0.0/8")]
    {
        let port = listener.local_addr().unwrap().port();
        let source = Source { host: host.to_owned(), networks: networks.parse().unwrap(), ..source_at(port) };
        let cancel = CancelToken::new();
        let Err(fault) = Connection::open(&source, &Watch::new(&cancel)) else {
            panic!("{host} was called");
        };
        let error = strongroom_core::Error::from(fault);
        assert_eq!(error.kind(), ErrorKind::SourceRefused, "{error:?}");
        assert!(error.public().contains("is not one a database may have here"), "{}", error.public());
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}
