//! What the intake takes and refuses.

use strongroom_core::Result as CoreResult;
use strongroom_core::engine::PatchWriter;

use super::*;

/// Takes everything and keeps nothing.
struct Void;

impl BackupSink for Void {
    fn open(&self, _member: Member) -> CoreResult<Box<dyn MemberWriter + '_>> {
        Ok(Box::new(Self))
    }

    fn patch(&self, _member: Member, _kept: u64) -> CoreResult<Box<dyn PatchWriter + '_>> {
        Ok(Box::new(Self))
    }
}

impl PatchWriter for Void {
    fn write_at(&mut self, _offset: u64, _bytes: &[u8]) -> CoreResult<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> CoreResult<()> {
        Ok(())
    }
}

impl MemberWriter for Void {
    fn write(&mut self, _bytes: &[u8]) -> CoreResult<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> CoreResult<()> {
        Ok(())
    }
}

fn intake(size_bytes_max: u64) -> Intake<'static> {
    let shape = ClusterShape { blocks_per_segment: 131_072, has_checksums: true, size_bytes_max };
    Intake::new(&Void, shape, &[TablespaceRow { id: 16_384, location: b"/t".to_vec() }])
}

#[test]
fn h03_a_stream_without_an_end_is_given_up() {
    let mut intake = intake(1 << 20);
    intake.begin_archive(b"base.tar").unwrap();
    // An archive may say that a file has terabytes; it is believed only up to a point.
    let mut header = [0; 512];
    header[..6].copy_from_slice(b"base/x");
    header[100..107].copy_from_slice(b"0000600");
    header[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    intake.feed(&header).unwrap();
    let piece = vec![7; 32 * 1024];
    let accepted = (0..100).take_while(|_| intake.feed(&piece).is_ok()).count();
    assert_eq!(accepted, 31);
}

#[test]
fn h03_only_announced_archives_are_taken_each_once() {
    let mut intake = intake(u64::MAX);
    assert!(intake.feed(b"x").is_err());
    intake.begin_archive(b"16384.tar").unwrap();
    intake.has_entries = true;
    for bad in [&b"16384.tar"[..], b"16385.tar", b"../base.tar", b"base.tar.gz", b""] {
        assert!(intake.begin_archive(bad).is_err(), "{}", bad.escape_ascii());
    }
}

#[test]
fn control_files_are_told_apart() {
    let mut bytes = 7_u64.to_le_bytes().to_vec();
    bytes.extend_from_slice(&1300_u32.to_le_bytes());
    bytes.extend_from_slice(&202_209_061_u32.to_le_bytes());
    let control = ControlFile::parse(&bytes, 7).unwrap();
    assert_eq!((control.control_version, control.catalog_version), (1300, 202_209_061));
    assert_eq!(ControlFile::parse(&bytes, 8).unwrap_err().kind(), ErrorKind::SourceHostile);
    let big_endian = 7_u64.to_be_bytes().into_iter().chain([0; 8]).collect::<Vec<_>>();
    assert_eq!(ControlFile::parse(&big_endian, 7).unwrap_err().kind(), ErrorKind::NotSupported);
    assert!(ControlFile::parse(&bytes[..15], 7).is_err());
}
