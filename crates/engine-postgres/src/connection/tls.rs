//! TLS towards a source: how much of the certificate is checked, and what binds a login to it.

use std::io;
use std::sync::Arc;

use ring::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};
use strongroom_core::engine::{Source, TlsMode};
use strongroom_core::{Error, ErrorKind, Field, Result};

/// A TLS client for the source, ready for its handshake.
pub(crate) fn client(source: &Source) -> Result<ClientConnection> {
    let crypto = Arc::new(provider::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&crypto))
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?;
    let config = if source.tls == TlsMode::VerifyFull {
        builder.with_root_certificates(roots(source)?).with_no_client_auth()
    } else {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(crypto)))
            .with_no_client_auth()
    };
    let name = ServerName::try_from(source.host.clone()).map_err(|error| {
        Error::parameter(Field::Host, "host: neither a host name nor an address, which TLS needs")
            .with_source(error)
    })?;
    ClientConnection::new(Arc::new(config), name).map_err(Error::internal)
}

/// The authorities to trust: the instance's own, or else the system's.
fn roots(source: &Source) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = &source.ca_pem {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let added = certificate
                .map_err(|error| error.to_string())
                .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
            added.map_err(|error| {
                Error::parameter(Field::Tls, "tls: the authority's certificate is not valid PEM")
                    .with_source(error)
            })?;
        }
    } else {
        // Single entries of a system's store may be unreadable; the others are good.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err(Error::parameter(Field::Tls, "tls: no certificate of an authority was given or found"));
    }
    Ok(roots)
}

/// A failed handshake: mostly a certificate that does not convince.
pub(crate) fn refused(error: &io::Error) -> Error {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match reason {
        Some(rustls::Error::InvalidCertificate(why)) => Error::new(
            ErrorKind::SourceRefused,
            format!("The certificate of the source was refused: {why}. No password was sent."),
        )
        .with_hint("Give the authority that signed it, and use the host name that stands in it."),
        Some(other) => Error::new(
            ErrorKind::SourceRefused,
            "TLS with the source could not be agreed upon. No password was sent.",
        )
        .with_source(other.clone()),
        None => super::transport::broken(error),
    }
}

/// Mode `require`: encrypts against listeners, takes any certificate. The signature of the
/// handshake is checked, so the peer holds the key of the certificate it shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

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
