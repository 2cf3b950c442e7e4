//! The journal, as the fuzzer calls it.

use super::{Done, FINISHING, Header, SCHEMA, proof, read_done, read_header, segment};

/// A journal as it is; then with a proof behind each line: it tells what its lines tell and no more.
pub(crate) fn journal(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let Some(header) = read_header(&mut rest) else { return false };
    let digest = header.manifest_digest;
    let told = read_done(&digest, rest).expect("memory can be read");
    let lines = || rest.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    assert!(told.segments.len() <= lines().count());

    let mut proven = String::new();
    let mut expected = Done::default();
    // A blank would end what is proven.
    for what in lines().filter(|what| !what.contains(' ')) {
        proven.extend([what, " ", &proof(&digest, what), "\n"]);
        expected.finishing |= what == FINISHING;
        expected.segments.extend(segment(what));
    }
    let done = read_done(&digest, proven.as_bytes()).expect("memory can be read");
    assert_eq!((&done.segments, done.finishing), (&expected.segments, expected.finishing));
    let others = read_done(&format!("{digest}0"), proven.as_bytes()).expect("memory can be read");
    assert!(others.segments.is_empty() && !others.finishing, "the lines of another backup");
    true
}

fn header() -> String {
    let tablespaces = vec![("16384".to_owned(), "/t".to_owned())];
    let header = Header { schema: SCHEMA, manifest_digest: "ab".repeat(32), tablespaces };
    serde_json::to_string(&header).expect("a header has string keys only") + "\n"
}

/// As a restore leaves it.
pub(crate) fn begun() -> Vec<u8> {
    let mut text = header();
    for what in ["1.0", "12.3", FINISHING] {
        text.extend([what, " ", &proof(&"ab".repeat(32), what), "\n"]);
    }
    text.into_bytes()
}

/// Lines whose proof the target makes.
pub(crate) fn unproven() -> Vec<u8> {
    (header() + "1.0\n18446744073709551615.4294967295\n1.4294967296\nfinishing\n").into_bytes()
}
