//! The same listener behind a certificate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use strongroom_api::{ApiSettings, TlsFiles};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::client::parse;
use crate::room::Room;

const PATIENCE: Duration = Duration::from_secs(20);

struct Certificate {
    files: TlsFiles,
    trust: RootCertStore,
}

fn certificate(folder: &Path) -> Certificate {
    let made = rcgen::generate_simple_self_signed(["strongroom.test".to_owned()]).unwrap();
    let files = TlsFiles { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let mut trust = RootCertStore::empty();
    trust.add(made.cert.der().clone()).unwrap();
    Certificate { files, trust }
}

#[tokio::test]
async fn the_listener_speaks_tls_when_it_has_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let made = certificate(folder.path());
    let settings = ApiSettings { header_read_timeout: Duration::from_millis(300), ..ApiSettings::default() };
    let room = Room::furnish(settings, Some(made.files)).await;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(made.trust).with_no_client_auth();
    let stream = TcpStream::connect(room.addr).await.unwrap();
    let name = ServerName::try_from("strongroom.test").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed");
    assert_eq!(parse(&answer).unwrap().status, 200);

    // Who speaks plainly, or not at all, gets no answer and is gone soon.
    for said in [&b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"", b"\x16\x03\x01"] {
        let mut stream = TcpStream::connect(room.addr).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("a09: it is closed");
        assert!(parse(&answer).is_none(), "{answer:?}");
    }
}

#[tokio::test]
async fn files_that_hold_no_certificate_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let good = certificate(folder.path()).files;
    let other = folder.path().join("other.pem");
    std::fs::write(&other, "no PEM").unwrap();
    for files in [
        TlsFiles { key: other.clone(), ..good.clone() },
        TlsFiles { cert: other.clone(), ..good.clone() },
        TlsFiles { cert: folder.path().join("absent.pem"), ..good.clone() },
    ] {
        let mut room = Room::furnish(ApiSettings::default(), Some(files)).await;
        let refused = room.ended().await.unwrap_err();
        assert!(refused.public().starts_with("The TLS file /"), "{}", refused.public());
        assert!(refused.hint().is_some());
    }
}
