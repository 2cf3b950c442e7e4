//! Everything that was sealed, lost seals included: which key and nonce met which ciphertext.
//!
//! Knows of the stored format only where a salt, an owner and a payload lie
//! (docs/formats/repository.md), so that it judges the writer without asking it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

type Digest = [u8; 32];

/// The book. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Seals(Arc<Mutex<Vec<(String, Digest)>>>);

impl Seals {
    pub fn new() -> Self {
        Self::default()
    }

    fn book(&self) -> MutexGuard<'_, Vec<(String, Digest)>> {
        self.0.lock().expect("no thread panics while it holds the book")
    }

    /// How many seals were seen.
    pub fn count(&self) -> usize {
        self.book().len()
    }

    /// The keys and nonces that met two plaintexts.
    pub fn reused(&self) -> Vec<String> {
        let mut seen: HashMap<&str, &Digest> = HashMap::new();
        let book = self.book();
        let is_another = |unit, digest| seen.insert(unit, digest).is_some_and(|known| known != digest);
        let mut is_another = is_another;
        book.iter().filter(|(unit, digest)| is_another(unit, digest)).map(|(unit, _)| unit.clone()).collect()
    }

    /// Objects that are sealed as a whole: manifests and wrapped keys.
    pub(super) fn note_object(&self, key: &str, bytes: &[u8]) {
        let payload = bytes.len().checked_sub(32).and_then(|end| bytes.get(14 + key.len()..end));
        let Some(payload) = payload.filter(|payload| payload.len() > 12) else { return };
        let unit = if key.contains("/at/") && payload[0] == 1 {
            format!("manifest {key}")
        } else if key.starts_with("keys/") {
            // All project keys are wrapped by one key, all lineage keys of a project by another.
            let wrapping = key.split_once("/l/").map_or("recovery", |(project, _)| project);
            format!("wrapped by {wrapping} {:x?}", &payload[..12])
        } else {
            return;
        };
        self.book().push((unit, *blake3::hash(payload).as_bytes()));
    }

    /// A record of a pack whose header stands in front of `written`, or at last its slot table,
    /// which has a key of its own from another salt.
    pub(super) fn note_piece(&self, written: &[u8], slot: u32, bytes: &[u8]) {
        if written.get(10..12) == Some(&[8, 0]) {
            return self.note_log(written, slot, bytes);
        }
        // A later generation seals nothing but its table, under a salt of its own.
        if written.get(72..76) != Some(&[0; 4]) {
            return;
        }
        let (Some(kind), Some(pack), Some(salt)) =
            (written.get(12), written.get(52..72), written.get(76..92))
        else {
            return;
        };
        let unit = format!("pack {kind} {pack:x?} {salt:x?} slot {slot}");
        self.book().push((unit, *blake3::hash(bytes).as_bytes()));
    }

    /// A piece of log: its key is made of the object's name and its salt, which both stand in front.
    fn note_log(&self, written: &[u8], piece: u32, bytes: &[u8]) {
        let length =
            written.get(12..14).map_or(0, |field| usize::from(field[0]) | usize::from(field[1]) << 8);
        let Some(front) = written.get(14..14 + length + 21) else { return };
        let unit = format!("log {front:x?} piece {piece}");
        self.book().push((unit, *blake3::hash(bytes).as_bytes()));
    }
}
