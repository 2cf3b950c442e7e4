//! HTTPS: the listener with a certificate, and commands that check it.

use std::fs;

use crate::room::Room;

#[test]
fn commands_speak_https_and_check_the_certificate() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let mut room = Room::empty();
    let (cert, key) = (room.scratch.path().join("cert.pem"), room.scratch.path().join("key.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    room.options = [
        "--tls-cert".to_owned(),
        cert.display().to_string(),
        "--tls-key".to_owned(),
        key.display().to_string(),
    ]
    .to_vec();
    room.serve();
    assert!(room.endpoint.starts_with("https://"), "{}", room.endpoint);
    let trusted = cert.display().to_string();
    room.run(&["backup", "list", "--server-ca-file", &trusted]).expect(0);
    let refused = room.run(&["backup", "list"]).expect(6);
    assert!(refused.stderr.contains("ertificate"), "{}", refused.stderr);
}
