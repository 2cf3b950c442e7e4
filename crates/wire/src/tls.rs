//! TLS towards a source: how much of the certificate is checked.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};
use strongroom_core::engine::{Source, TlsMode};
use strongroom_core::{Error, ErrorKind, Field, Result};

use crate::transport::broken;
use crate::trouble::Trouble;

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
pub(crate) fn refused(error: &io::Error) -> Trouble {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    Trouble::Domain(match reason {
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
        None => return broken(error),
    })
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
