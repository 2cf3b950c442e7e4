//! Archives cut into pieces of any size, and members that no server sends.

use proptest::prelude::*;

use super::*;

/// A header as a server makes it, to be spoilt by the tests.
fn header(name: &[u8], kind: u8, size: u64, mode: u32) -> [u8; 512] {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
    if size < 1 << 33 {
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    } else {
        header[124] = 0x80;
        header[128..136].copy_from_slice(&size.to_be_bytes());
    }
    header[136..147].copy_from_slice(format!("{:011o}", 1_700_000_000).as_bytes());
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut header);
    header
}

fn seal(header: &mut [u8; 512]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        bytes.extend_from_slice(&header(name.as_bytes(), b'0', content.len() as u64, 0o600));
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

type NamedContent = (String, Vec<u8>);

/// Reads an archive cut at the given places; contents are joined.
fn read(pieces: &[&[u8]]) -> Result<(Vec<NamedContent>, bool)> {
    let mut reader = TarReader::new();
    let mut files: Vec<NamedContent> = Vec::new();
    let mut has_ended = false;
    for piece in pieces {
        let mut input = *piece;
        while let Some(event) = reader.next(&mut input)? {
            match event {
                TarEvent::Entry(entry) => {
                    files.push((String::from_utf8_lossy(&entry.name).into_owned(), Vec::new()));
                }
                TarEvent::Content(bytes) => files.last_mut().unwrap().1.extend_from_slice(bytes),
                TarEvent::EntryEnd => {}
                TarEvent::End => has_ended = true,
            }
        }
        assert!(input.is_empty());
    }
    Ok((files, has_ended))
}

proptest! {
    #[test]
    fn the_cut_of_the_input_does_not_matter(
        sizes in prop::collection::vec(0_usize..3000, 0..6),
        cuts in prop::collection::vec(1_usize..1500, 1..40),
    ) {
        let files: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(number, size)| (format!("base/{number}"), vec![u8::try_from(number).unwrap(); *size]))
            .collect();
        let named: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content.clone())).collect();
        let bytes = archive(&named);
        let mut pieces = Vec::new();
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let (found, has_ended) = read(&pieces).unwrap();
        prop_assert_eq!(found, files);
        prop_assert!(has_ended);
    }

    #[test]
    fn h06_garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..4096), cut in 1_usize..700) {
        let pieces: Vec<_> = bytes.chunks(cut).collect();
        let mut reader = TarReader::new();
        for piece in pieces {
            let mut input = piece;
            while let Ok(Some(_)) = reader.next(&mut input) {}
        }
    }

    #[test]
    fn h06_a_spoilt_header_is_an_error_or_harmless(at in 0_usize..512, value in any::<u8>()) {
        let mut spoilt = header(b"base/1", b'0', 100, 0o600);
        spoilt[at] = value;
        seal(&mut spoilt);
        let mut reader = TarReader::new();
        if let Ok(Some(TarEvent::Entry(entry))) = reader.next(&mut &spoilt[..]) {
            prop_assert!(entry.mode <= 0o777 && entry.size <= limits::MEMBER_SIZE_BYTES_MAX);
            prop_assert!(!entry.name.starts_with(b"/") && !entry.name.split(|b| *b == b'/').any(|part| part == b".."));
        }
    }
}

fn first(header: &[u8; 512]) -> Result<Option<TarEvent<'static>>> {
    TarReader::new().next(&mut &header.to_vec().leak()[..])
}

#[test]
fn h01_names_that_leave_the_directory_are_refused() {
    for name in
        [&b"../x"[..], b"/etc/passwd", b"base/../../x", b"a//b", b"", b".", b"./", b"..", b"./../x", b"a/./b"]
    {
        assert!(first(&header(name, b'0', 0, 0o600)).is_err(), "{}", name.escape_ascii());
    }
    assert!(first(&header(b"a\0b", b'0', 0, 0o600)).is_err());
}

#[test]
fn h02_h03_only_plain_files_and_directories() {
    for kind in b"12346789xgLKSV" {
        assert!(first(&header(b"base/1", *kind, 0, 0o600)).is_err(), "{}", char::from(*kind));
    }
    assert!(first(&header(b"base/1", b'0', 0, 0o4755)).is_err());
    assert!(first(&header(b"base/1", b'0', 0, 0o2755)).is_err());
    assert!(first(&header(b"base", b'5', 0, 0o4755)).is_err());
    assert!(first(&header(b"base", b'5', 0, 0o2750)).is_ok());
    assert!(first(&header(b"base", b'5', 1, 0o700)).is_err());
}

#[test]
fn h03_sizes_that_lie_are_refused() {
    assert!(first(&header(b"base/1", b'0', limits::MEMBER_SIZE_BYTES_MAX, 0o600)).is_ok());
    assert!(first(&header(b"base/1", b'0', limits::MEMBER_SIZE_BYTES_MAX + 1, 0o600)).is_err());
    let mut negative = header(b"base/1", b'0', 0, 0o600);
    negative[124..136].fill(0xff);
    seal(&mut negative);
    assert!(first(&negative).is_err());
    let mut too_long = header(b"base/1", b'0', 0, 0o600);
    too_long[124..136].fill(0xbf);
    seal(&mut too_long);
    assert!(first(&too_long).is_err());
}

#[test]
fn what_a_server_sends_is_understood() {
    let Ok(Some(TarEvent::Entry(directory))) = first(&header(b"./pg_wal/archive_status", b'5', 0, 0o40700))
    else {
        panic!("a directory is an entry")
    };
    assert_eq!(directory.name, b"pg_wal/archive_status");
    assert!(directory.is_directory && directory.mode == 0o700 && directory.mtime_s == 1_700_000_000);
    let Ok(Some(TarEvent::Entry(large))) = first(&header(b"base/5/1", b'0', 9 << 30, 0o600)) else {
        panic!("a large file is an entry")
    };
    assert_eq!(large.size, 9 << 30);
}

#[test]
fn h06_nothing_may_follow_the_end() {
    let mut bytes = archive(&[]);
    bytes.push(0);
    assert!(read(&[&bytes]).is_err());
    let mut hidden = vec![0; 512];
    hidden.extend_from_slice(&header(b"base/1", b'0', 0, 0o600));
    assert!(read(&[&hidden]).is_err());
}

#[test]
fn an_archive_may_end_only_between_files() {
    let bytes = archive(&[("base/1", vec![7; 700])]);
    let mut reader = TarReader::new();
    let mut input = &bytes[..512 + 699];
    while reader.next(&mut input).unwrap().is_some() {}
    assert!(!reader.is_between_entries());
    let mut rest = &bytes[512 + 699..512 + 1024];
    while reader.next(&mut rest).unwrap().is_some() {}
    assert!(reader.is_between_entries());
}
