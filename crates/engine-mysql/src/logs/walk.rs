//! The beginning of a file as it is held: which transactions it has, and where its last whole event ends.

use sha2::{Digest, Sha256};

use super::event::{self, HEAD_SIZE_BYTES, Head, MAGIC, kind};
use super::gtid::GtidSet;
use crate::fault::{Fault, Result};

/// The largest event whose body is looked at. Sets of transactions are as large as what was executed has holes.
const BODY_SIZE_BYTES_MAX: u32 = 16 << 20;

/// Takes a file from its first byte on, however it is cut.
pub(super) struct Walk {
    /// Of the next byte.
    position: u64,
    /// Behind the last event that is whole; 0 before there is one.
    whole: u64,
    /// Of the bytes from there on.
    tail: Sha256,
    head: Option<Head>,
    /// The head, and the body of an event that is looked at.
    kept: Vec<u8>,
    /// What of the event has not come.
    left: usize,
    has_checksums: bool,
    format: Option<Vec<u8>>,
    set: GtidSet,
}

/// What a walk has found.
pub(super) struct Held {
    /// Where the source is asked to go on: behind the last whole event.
    pub(super) whole: u64,
    /// How many bytes are held behind that, and their digest.
    pub(super) tail_bytes: u64,
    pub(super) tail: [u8; 32],
    /// The first event of the file: no two files have the same.
    pub(super) format: Option<Vec<u8>>,
    /// All transactions of the file and of those before it.
    pub(super) set: GtidSet,
}

impl Walk {
    pub(super) fn new() -> Self {
        Self {
            position: 0,
            whole: 0,
            tail: Sha256::new(),
            head: None,
            kept: Vec::new(),
            left: 0,
            has_checksums: true,
            format: None,
            set: GtidSet::default(),
        }
    }

    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let count = self.take_some(bytes)?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    pub(super) fn end(self) -> Held {
        Held {
            whole: self.whole,
            tail_bytes: self.position - self.whole,
            tail: self.tail.finalize().into(),
            format: self.format,
            set: self.set,
        }
    }

    /// Takes what belongs together, and at least a byte.
    fn take_some(&mut self, bytes: &[u8]) -> Result<usize> {
        let Some(head) = self.head else { return self.take_head(bytes) };
        let count = bytes.len().min(self.left);
        if is_looked_at(head) {
            self.kept.extend_from_slice(&bytes[..count]);
        }
        self.advance(&bytes[..count]);
        self.left -= count;
        if self.left == 0 {
            self.end_event(head)?;
        }
        Ok(count)
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<usize> {
        if self.position < MAGIC.len() as u64 {
            let expected = usize::try_from(self.position).ok().and_then(|at| MAGIC.get(at));
            if expected != bytes.first() {
                return Err(Fault::hostile("a file that is no binary log"));
            }
            self.advance(&bytes[..1]);
            if self.position == MAGIC.len() as u64 {
                self.mark_whole();
            }
            return Ok(1);
        }
        let count = bytes.len().min(HEAD_SIZE_BYTES - self.kept.len());
        self.kept.extend_from_slice(&bytes[..count]);
        self.advance(&bytes[..count]);
        if let Some(raw) = self.kept.first_chunk::<HEAD_SIZE_BYTES>() {
            let head = Head::parse(raw)?;
            if is_looked_at(head) && head.size > BODY_SIZE_BYTES_MAX {
                return Err(Fault::hostile("an event without an end"));
            }
            self.left = head.size as usize - HEAD_SIZE_BYTES;
            self.head = Some(head);
            if self.left == 0 {
                self.end_event(head)?;
            }
        }
        Ok(count)
    }

    fn end_event(&mut self, head: Head) -> Result<()> {
        if is_looked_at(head) {
            self.look_at(head)?;
        }
        self.kept.clear();
        self.head = None;
        self.mark_whole();
        Ok(())
    }

    fn look_at(&mut self, head: Head) -> Result<()> {
        if head.kind == kind::FORMAT {
            self.has_checksums = event::format_has_checksums(&self.kept)?;
            self.format = Some(self.kept.clone());
            return Ok(());
        }
        let body = event::body(&self.kept, self.has_checksums)?;
        match head.kind {
            kind::GTID => self.set.add_event(body),
            kind::TAGGED_GTID => self.set.add_tagged_event(body),
            _ => self.set.add_encoded(body),
        }
    }

    fn advance(&mut self, bytes: &[u8]) {
        self.position += bytes.len() as u64;
        self.tail.update(bytes);
    }

    fn mark_whole(&mut self) {
        self.whole = self.position;
        self.tail = Sha256::new();
    }
}

fn is_looked_at(head: Head) -> bool {
    matches!(head.kind, kind::FORMAT | kind::GTID | kind::TAGGED_GTID | kind::PREVIOUS_GTIDS)
}

#[cfg(test)]
mod tests {
    use super::super::fuzzing::events;
    use super::*;

    fn file() -> (Vec<u8>, Vec<u64>) {
        let (mut file, mut ends) = (MAGIC.to_vec(), vec![4]);
        for event in events() {
            file.extend_from_slice(&event);
            ends.push(file.len() as u64);
        }
        (file, ends)
    }

    #[test]
    fn held_log_is_walked_through_however_it_is_cut() {
        let (file, ends) = file();
        for length in 0..=file.len() {
            let mut walk = Walk::new();
            for piece in file[..length].chunks(1 + length % 97) {
                walk.take(piece).unwrap();
            }
            let held = walk.end();
            let whole = ends.iter().rev().find(|end| **end <= length as u64).copied().unwrap_or(0);
            assert_eq!((held.whole, held.tail_bytes), (whole, length as u64 - whole));
            let tail: [u8; 32] = Sha256::digest(&file[usize::try_from(whole).unwrap()..length]).into();
            assert_eq!(held.tail, tail);
            assert_eq!(held.format.is_some(), whole >= ends[1]);
            if length == file.len() {
                assert_eq!(
                    held.set.text(),
                    "abababab-abab-abab-abab-abababababab:1-5:7,abababab-abab-abab-abab-abababababab:tag:3"
                );
            }
        }
    }

    #[test]
    fn h06_what_is_no_binary_log_is_refused() {
        assert!(Walk::new().take(b"\xfebim").is_err());
        let (mut file, _) = file();
        file[20] ^= 1;
        assert!(Walk::new().take(&file).is_err(), "the first event's checksum");
        let mut huge = MAGIC.to_vec();
        huge.extend_from_slice(&[0, 0, 0, 0, kind::PREVIOUS_GTIDS, 0, 0, 0, 0, 0, 0, 0, 0x7f]);
        huge.extend_from_slice(&[0; 6]);
        assert!(Walk::new().take(&huge).is_err());
    }
}
