//! AES-256-GCM, as the format uses it: 96-bit nonces that are counted, never drawn, except for
//! wrapped keys (drawn at random, one seal for each key).

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Bytes an AEAD adds.
pub(crate) const TAG_BYTES: usize = 16;

/// A key for one pack, manifest, slot table or wrapping.
#[derive(Clone)]
pub(crate) struct SealingKey(std::sync::Arc<LessSafeKey>);

/// The ciphertext was not made with this key, nonce and associated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAuthentic;

impl SealingKey {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let unbound = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes");
        Self(std::sync::Arc::new(LessSafeKey::new(unbound)))
    }

    /// Encrypts in place and appends the tag.
    pub(crate) fn seal(&self, nonce: [u8; 12], aad: &[u8], buffer: &mut Vec<u8>) {
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), buffer)
            .expect("a record is far below the AEAD's limit of 64 GiB");
    }

    /// Decrypts in place; answers the plaintext.
    pub(crate) fn open<'a>(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        buffer: &'a mut [u8],
    ) -> Result<&'a mut [u8], NotAuthentic> {
        self.0
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), buffer)
            .map_err(|_| NotAuthentic)
    }
}

/// The slot number as nonce, zero-padded (repository.md section 3).
pub(crate) fn slot_nonce(slot: u16) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..2].copy_from_slice(&slot.to_le_bytes());
    nonce
}

/// The nonce of keys that seal exactly once.
pub(crate) const ONLY_NONCE: [u8; 12] = [0; 12];
