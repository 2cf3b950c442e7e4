//! Keys that are always the same, and wrapped keys, as the fuzzer calls them.

use super::{Kind, LineageId, LineageKeys, ProjectId, RecoveryKey, Zeroizing, frame, unwrap_key};

pub(crate) fn fixed() -> LineageKeys {
    let raw = uuid::Uuid::from_u128(1);
    LineageKeys::new(&ProjectId::issue(raw), &LineageId::issue(raw), &Zeroizing::new([7; 32]))
        .expect("ids that were issued are hex digits")
}

pub(crate) fn recovery() -> RecoveryKey {
    RecoveryKey(Zeroizing::new([5; 32]))
}

/// An object as it is; and a nonce and a secret that are sealed first: the secret comes out as it
/// was, when it has the length of one, and under no other name.
pub(crate) fn wrapped_key(bytes: &[u8]) -> bool {
    let (key, other) = ("keys/1/1.1", "keys/2/1.1");
    let wrapping = recovery().wrapping_key();
    let is_whole = unwrap_key(key, &wrapping, bytes).is_ok();
    let Some((nonce, secret)) = bytes.split_first_chunk() else { return is_whole };
    let mut sealed = secret.to_vec();
    wrapping.seal(*nonce, key.as_bytes(), &mut sealed);
    let payload = [&nonce[..], &sealed].concat();
    let opened = unwrap_key(key, &wrapping, &frame::wrap(Kind::WrappedKey, key, &payload)).ok();
    assert_eq!(opened.as_ref().map(|opened| &opened[..]), (secret.len() == 32).then_some(secret));
    assert!(unwrap_key(other, &wrapping, &frame::wrap(Kind::WrappedKey, other, &payload)).is_err());
    opened.is_some() || is_whole
}

pub(crate) fn secret() -> Vec<u8> {
    (1..=44).collect()
}

pub(crate) fn kit() -> Vec<u8> {
    format!("strongroom recovery kit\n\nRecovery key  {}\n\nKeep it safe\n", recovery().to_text())
        .into_bytes()
}
