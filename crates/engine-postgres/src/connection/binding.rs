//! What binds a login to the TLS channel that it goes over.

use ring::digest;
use rustls::ClientConnection;

/// The channel binding `tls-server-end-point` (RFC 5929): the certificate hashed with the hash
/// of its own signature. `None` when that hash is not defined, as for Ed25519.
pub(crate) fn server_end_point(session: &ClientConnection) -> Option<Vec<u8>> {
    let certificate = session.peer_certificates()?.first()?;
    let algorithm = match signature_algorithm(certificate)? {
        // MD5 and SHA-1 are replaced by SHA-256, says the RFC.
        RSA_MD5 | RSA_SHA1 | ECDSA_SHA1 | RSA_SHA256 | ECDSA_SHA256 => &digest::SHA256,
        RSA_SHA384 | ECDSA_SHA384 => &digest::SHA384,
        RSA_SHA512 | ECDSA_SHA512 => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

const RSA_MD5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04];
const RSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];
const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const ECDSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];

/// The object identifier of a certificate's signature: `SEQUENCE { tbs, SEQUENCE { OID … } … }`.
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    let (certificate, _) = der_element(SEQUENCE, certificate)?;
    let (_to_be_signed, rest) = der_element(SEQUENCE, certificate)?;
    let (algorithm, _) = der_element(SEQUENCE, rest)?;
    let (identifier, _) = der_element(OBJECT_IDENTIFIER, algorithm)?;
    Some(identifier)
}

/// Splits the content of a DER element with the given tag from what follows it.
fn der_element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = bytes else { return None };
    if *found != tag {
        return None;
    }
    let (length, rest) = if *length < 0x80 {
        (usize::from(*length), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(*length & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h06_a_mangled_certificate_has_no_binding() {
        let certificate = [0x30, 13, 0x30, 2, 5, 0, 0x30, 7, 0x06, 3, 0x2a, 0x86, 0x48, 5, 0];
        assert_eq!(signature_algorithm(&certificate), Some(&[0x2a, 0x86, 0x48][..]));
        for length in 0..certificate.len() {
            assert_eq!(signature_algorithm(&certificate[..length]), None);
        }
        assert_eq!(signature_algorithm(&[0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1]), None);
        assert_eq!(signature_algorithm(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
