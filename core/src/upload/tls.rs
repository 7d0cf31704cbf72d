//! Which servers are believed.
//!
//! rustls with *ring*, which the tunnel brings anyway. Certificates are checked by the platform (its trust store, its
//! revocation rules), or against root certificates that the app pins. Built on the upload thread at the start of a
//! pass, so that a change of the platform's trust store is seen.
//!
//! On Android the platform's verifier is Java, and panics unless the app has put its classes into the package and
//! handed over a context. There Mozilla's roots, which are built in, take its place.

use std::sync::Arc;

use rustls::{
    ClientConfig, Error as TlsError, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
};

use super::config::ConfigError;

/// Which certificates of servers are trusted.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// Those that the platform trusts. On Android those that Mozilla trusts, as of when the library was built; a private
    /// authority that the user or an administrator has installed is not among them: pin it.
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
        Trust::Platform => platform_verifier(provider)?,
        Trust::Pinned(PinnedRoots(roots)) => root_verifier(Arc::clone(roots), provider)?,
    };
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

#[cfg(not(target_os = "android"))]
fn platform_verifier(provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    Ok(Arc::new(rustls_platform_verifier::Verifier::new(provider)?))
}

#[cfg(target_os = "android")]
fn platform_verifier(provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    root_verifier(Arc::new(mozilla_roots()), provider)
}

#[cfg(any(target_os = "android", test))]
fn mozilla_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

fn root_verifier(
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| TlsError::General(error.to_string()))?;
    Ok(verifier)
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
    fn mozilla_s_roots_check_certificates_and_refuse_one_of_nobody() {
        let roots = mozilla_roots();
        // Fewer than this has not been seen in a decade: the list would be cut.
        assert!(roots.len() > 100, "{}", roots.len());
        let verifier = root_verifier(Arc::new(roots), Arc::new(ring::default_provider())).unwrap();
        let name = "logs.example.com".try_into().unwrap();
        let now = rustls::pki_types::UnixTime::now();
        let answer =
            verifier.verify_server_cert(&CertificateDer::from(&b"not one"[..]), &[], &name, &[], now);
        assert!(matches!(answer, Err(TlsError::InvalidCertificate(_))), "{answer:?}");
    }

    #[test]
    fn a_loopback_server_needs_no_trust_store() {
        assert!(client_config(&Trust::Platform, false).is_ok());
    }
}
