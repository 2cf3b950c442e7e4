//! Secrets at rest: sealed with a key that is not in the database.
//!
//! AES-256-GCM with a fresh random nonce. The place of the secret (which column of which row) is
//! authenticated with it, so a sealed text that is moved to another row does not open.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use secrecy::SecretString;
use strongroom_core::time::Randomness;
use strongroom_core::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

/// Names the scheme; a later one gets another word.
const SCHEME: &str = "aes256gcm:";

pub(crate) struct Sealer {
    key: LessSafeKey,
}

impl Sealer {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let derived = Zeroizing::new(blake3::derive_key("strongroom v1 catalog secrets", key));
        let unbound =
            UnboundKey::new(&AES_256_GCM, derived.as_ref()).expect("the key of AES-256 has 32 bytes");
        Self { key: LessSafeKey::new(unbound) }
    }

    /// `place` names column and row, such as `instance password 06f1…in03`.
    pub(crate) fn seal(&self, place: &str, secret: &str, random: &dyn Randomness) -> Result<String> {
        let mut nonce = [0_u8; NONCE_LEN];
        random.fill(&mut nonce);
        let mut sealed = secret.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| Error::internal("a secret could not be sealed"))?;
        Ok(format!("{SCHEME}{}{}", hex::encode(nonce), hex::encode(sealed)))
    }

    /// The secret, or `WrongKey` when this key did not seal it for this place.
    pub(crate) fn open(&self, place: &str, sealed: &str) -> Result<SecretString> {
        let refused = || {
            Error::new(
                ErrorKind::WrongKey,
                "The recovery key does not open a secret of the catalog; nothing was changed.",
            )
            .with_hint("Start with the recovery key that this catalog was made with.")
        };
        let bytes =
            sealed.strip_prefix(SCHEME).and_then(|text| hex::decode(text).ok()).ok_or_else(refused)?;
        let (nonce, rest) = bytes.split_at_checked(NONCE_LEN).ok_or_else(refused)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| refused())?;
        let mut rest = Zeroizing::new(rest.to_vec());
        let plain =
            self.key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut rest).map_err(|_| refused())?;
        let text = std::str::from_utf8(plain).map_err(|_| refused())?;
        Ok(SecretString::from(text))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    /// Counts, so that every nonce differs.
    struct Counting(std::sync::atomic::AtomicU8);

    impl Randomness for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    #[test]
    fn a_secret_opens_at_its_place_with_its_key_only() {
        let random = Counting(0.into());
        let sealer = Sealer::new(&[1; 32]);
        let sealed = sealer.seal("place one", "hunter22", &random).unwrap();
        assert_eq!(sealer.open("place one", &sealed).unwrap().expose_secret(), "hunter22");
        assert!(!sealed.contains(&hex::encode("hunter22")));
        assert_ne!(sealer.seal("place one", "hunter22", &random).unwrap(), sealed, "the nonce is fresh");

        assert_eq!(sealer.open("place two", &sealed).unwrap_err().kind(), ErrorKind::WrongKey);
        let other = Sealer::new(&[2; 32]);
        assert_eq!(other.open("place one", &sealed).unwrap_err().kind(), ErrorKind::WrongKey);
    }

    #[test]
    fn a_sealed_text_with_any_character_changed_does_not_open() {
        let sealer = Sealer::new(&[1; 32]);
        let sealed = sealer.seal("place", "s", &Counting(0.into())).unwrap();
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            assert!(sealer.open("place", std::str::from_utf8(&bytes).unwrap()).is_err(), "at {at}");
            assert!(sealer.open("place", &sealed[..at]).is_err(), "cut at {at}");
        }
    }
}
