//! Which servers are believed.
//!
//! rustls with *ring*, which the tunnel brings anyway. Certificates are checked by the platform (its trust store, its
//! revocation rules), or against root certificates that the app pins. Built on the upload thread at the start of a
//! pass, so that a change of the platform's trust store is seen.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use rustls_platform_verifier::Verifier;

use super::config::ConfigError;

/// Which certificates of servers are trusted.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// Those that the platform trusts. On Android the host must have initialised `rustls-platform-verifier` with its
    /// context, or every handshake fails.
    #[default]
    Platform,
    /// Those that lead to one of these roots, and no others.
    Pinned(PinnedRoots),
}

/// Root certificates chosen by the app.
#[derive(Debug, Clone)]
pub struct PinnedRoots(Arc<RootCertStore>);

impl PinnedRoots {
    /// Roots from PEM text, one or more `CERTIFICATE` sections.
    ///
    /// # Errors
    /// [`ConfigError::Certificate`] for one that can't be read, [`ConfigError::NoCertificates`] if there is none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, ConfigError> {
        let certificates = CertificateDer::pem_slice_iter(pem).enumerate().map(|(index, certificate)| {
            certificate.map_err(|error| ConfigError::Certificate { index, reason: error.to_string() })
        });
        Self::collect(certificates)
    }

    /// Roots from DER, one certificate each.
    ///
    /// # Errors
    /// As [`Self::from_pem`].
    pub fn from_der<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, ConfigError> {
        Self::collect(certificates.into_iter().map(|der| Ok(CertificateDer::from(der.to_vec()))))
    }

    fn collect(
        certificates: impl Iterator<Item = Result<CertificateDer<'static>, ConfigError>>,
    ) -> Result<Self, ConfigError> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in certificates.enumerate() {
            roots
                .add(certificate?)
                .map_err(|error| ConfigError::Certificate { index, reason: error.to_string() })?;
        }
        if roots.is_empty() {
            return Err(ConfigError::NoCertificates);
        }
        Ok(Self(Arc::new(roots)))
    }
}

/// The TLS configuration for a server reached by `https`, or, without TLS, one that trusts nobody: the HTTP client
/// wants one in any case, and must not need a trust store for a loopback server.
pub(super) fn client_config(trust: &Trust, https: bool) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        _ if !https => {
            return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
        }
        Trust::Platform => Arc::new(Guarded(platform_verifier(provider)?)),
        Trust::Pinned(PinnedRoots(roots)) => {
            WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider)
                .build()
                .map_err(|error| TlsError::General(error.to_string()))?
        }
    };
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn platform_verifier(provider: Arc<CryptoProvider>) -> Result<Verifier, TlsError> {
    guard(|| Verifier::new(provider))
}

/// Turns a panic into a failed handshake: the verifier for Android panics if the host has not initialised it, and a
/// missing call must not take the tunnel down.
#[derive(Debug)]
struct Guarded<V>(V);

fn guard<T>(check: impl FnOnce() -> Result<T, TlsError>) -> Result<T, TlsError> {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| {
        Err(TlsError::General(
            "the platform's certificate verifier is not initialised; pin roots or call its init".into(),
        ))
    })
}

impl<V: ServerCertVerifier> ServerCertVerifier for Guarded<V> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        guard(|| self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_or_missing_roots_are_refused() {
        assert_eq!(PinnedRoots::from_pem(b"").unwrap_err(), ConfigError::NoCertificates);
        assert_eq!(PinnedRoots::from_pem(b"no PEM at all").unwrap_err(), ConfigError::NoCertificates);
        assert_eq!(PinnedRoots::from_der([]).unwrap_err(), ConfigError::NoCertificates);
        let broken = PinnedRoots::from_der([&b"not a certificate"[..]]).unwrap_err();
        assert!(matches!(broken, ConfigError::Certificate { index: 0, .. }), "{broken}");
        let pem = b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        assert!(matches!(PinnedRoots::from_pem(pem), Err(ConfigError::Certificate { index: 0, .. })));
    }

    #[test]
    fn a_panic_of_the_platform_verifier_is_a_failed_handshake() {
        let result: Result<(), _> = guard(|| panic!("not initialised"));
        assert!(result.unwrap_err().to_string().contains("not initialised"));
    }

    #[test]
    fn a_loopback_server_needs_no_trust_store() {
        assert!(client_config(&Trust::Platform, false).is_ok());
    }
}
