//! TLS towards rendezvous servers: a pinned key, or else a certificate signed for the web.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};

use crate::config::Pin;

/// The server showed another key than the one that is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server's key is not the pinned one: it showed {shown}, the config says {expected}. If the server was \
     set up anew, run `wireplug-serverd pin` there and put what it prints into the config; otherwise somebody \
     else answers in its place"
)]
pub struct WrongPin {
    /// What the config says.
    pub expected: Pin,
    /// What the server showed.
    pub shown: Pin,
}

/// TLS is not to be had in this build.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS: {0}; this build of wireplug is broken")]
pub struct TlsError(String);

/// The TLS side of a connection to a server with this pin.
///
/// # Errors
/// [`TlsError`] if the cryptography compiled in cannot do TLS 1.2 or 1.3.
pub fn client_config(pin: Option<Pin>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if let Some(pin) = pin {
        Arc::new(Pinned { pin, provider: Arc::clone(&provider) })
    } else {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| TlsError(error.to_string()))?
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Takes the one certificate whose key is pinned, whoever signed it and whatever its name and dates: a
/// machine whose clock is wrong must be able to connect. That the server has the private key is proven by
/// the handshake's signature, which is checked as always.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        let shown = Pin::of_public_key(&key);
        if shown == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        let wrong = WrongPin { expected: self.pin, shown };
        Err(rustls::Error::Other(OtherError(Arc::new(wrong))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData as _;

    use super::*;

    fn verify(
        config_pin: Pin,
        certificate: &CertificateDer<'_>,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let name = ServerName::try_from("another.example").unwrap();
        let long_ago = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1));
        Pinned { pin: config_pin, provider }.verify_server_cert(certificate, &[], &name, &[], long_ago)
    }

    #[test]
    fn the_pinned_key_is_taken_under_any_name_and_date() {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let pin = Pin::of_public_key(&made.signing_key.subject_public_key_info());
        assert!(verify(pin, made.cert.der()).is_ok());
    }

    #[test]
    fn another_key_is_refused_with_both_pins_and_the_way_out() {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let shown = Pin::of_public_key(&made.signing_key.subject_public_key_info());
        let expected = Pin::of_public_key(b"another");
        let error = verify(expected, made.cert.der()).unwrap_err().to_string();
        for part in [&shown.to_string(), &expected.to_string(), "wireplug-serverd pin"] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }

    #[test]
    fn both_kinds_can_be_set_up() {
        assert!(client_config(None).is_ok());
        assert!(client_config(Some(Pin::of_public_key(b"x"))).is_ok());
    }
}
