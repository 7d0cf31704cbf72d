//! Where a PostgreSQL database is, and how to get in.

use std::{fmt, net::IpAddr, path::Path, str::FromStr, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use thiserror::Error;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Where Debian's PostgreSQL, and those of most distributions, have their Unix socket.
const DEFAULT_SOCKET_FOLDER: &str = "/run/postgresql";

/// A PostgreSQL database: `postgres://user:password@host:port/database?parameters`, or
/// `postgres:///database` for the Unix socket in `/run/postgresql`, or another one with `?host=/folder`.
///
/// Neither `Debug` nor `Display` shows the password or the user.
///
/// A host that is not this machine is reached with TLS only, and its certificate is checked against the
/// system's trust store or [`with_root_certificates`](Self::with_root_certificates); `?sslmode=disable` in the
/// URL switches that off. To this machine (`localhost`, a loopback address, a Unix socket) there is no TLS unless
/// the URL says `?sslmode=require`.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    // Boxed, since it is large and a file name beside it is small.
    config: Box<tokio_postgres::Config>,
    roots: Vec<CertificateDer<'static>>,
}

/// What is wrong with the address of a database. The texts repeat nothing of it: the password is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PostgresUrlError {
    /// It is no URL of a PostgreSQL database.
    #[error(
        "this is no usable PostgreSQL URL (not shown, it may hold a password); write \
         postgres://user@host:5432/database or postgres:///database, percent-encode special characters, and use \
         parameters of PostgreSQL such as host, sslmode=disable|require and connect_timeout"
    )]
    Malformed,
    /// The file of root certificates has none, or something else.
    #[error("there is no usable certificate in the PEM text of root certificates")]
    Certificates,
}

impl FromStr for PostgresUrl {
    type Err = PostgresUrlError;

    fn from_str(text: &str) -> Result<Self, PostgresUrlError> {
        // The parser also takes lists of words, in which a mistyped file name could look like an option.
        if !Self::looks_like_one(text) {
            return Err(PostgresUrlError::Malformed);
        }
        let mut config: tokio_postgres::Config = text.parse().map_err(|_| PostgresUrlError::Malformed)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host(DEFAULT_SOCKET_FOLDER);
        }
        // "Prefer" falls back to no encryption when somebody in between asks for it.
        if config.get_ssl_mode() == SslMode::Prefer {
            config.ssl_mode(if is_this_machine(&config) { SslMode::Disable } else { SslMode::Require });
        }
        if config.get_application_name().is_none() {
            config.application_name("tuntrail-logserver");
        }
        Ok(Self { config: Box::new(config), roots: Vec::new() })
    }
}

impl PostgresUrl {
    /// Whether a text means a PostgreSQL database rather than a file.
    #[must_use]
    pub fn looks_like_one(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }

    /// Whether there is a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// The same with this password in place of any other.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.config.password(password);
        self
    }

    /// The same, but trusting only certificates that lead to one of these roots (PEM).
    ///
    /// # Errors
    ///
    /// [`PostgresUrlError::Certificates`] if there is none or one cannot be read.
    pub fn with_root_certificates(mut self, pem: &[u8]) -> Result<Self, PostgresUrlError> {
        self.roots = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| PostgresUrlError::Certificates)?;
        if self.roots.is_empty() {
            return Err(PostgresUrlError::Certificates);
        }
        Ok(self)
    }

    pub(super) const fn config(&self) -> &tokio_postgres::Config {
        &self.config
    }

    /// How to encrypt connections; `None` if they are not.
    pub(super) fn tls(&self) -> Result<Option<MakeRustlsConnect>, rustls::Error> {
        if self.config.get_ssl_mode() == SslMode::Disable {
            return Ok(None);
        }
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if self.roots.is_empty() {
            Arc::new(Verifier::new(Arc::clone(&provider))?)
        } else {
            let mut roots = RootCertStore::empty();
            for root in &self.roots {
                roots.add(root.clone())?;
            }
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Some(MakeRustlsConnect::new(config)))
    }
}

/// Whether all addresses of the configuration are on this machine.
fn is_this_machine(config: &tokio_postgres::Config) -> bool {
    // An address stands in for the name of the same position.
    if !config.get_hostaddrs().is_empty() {
        return config.get_hostaddrs().iter().all(IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        }
        // The only other kind, and on Windows there is none.
        _ => true,
    })
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.config.get_dbname().unwrap_or("(named like the user)");
        let hosts: Vec<String> = self
            .config
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) => name.clone(),
                #[cfg(unix)]
                Host::Unix(folder) => Path::display(folder).to_string(),
            })
            .collect();
        write!(f, "{database} at {}", hosts.join(", "))
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_neither_shown_nor_in_errors() {
        let url = url("postgres://me:s3cret@db.example.com:5433/logs?connect_timeout=3");
        assert!(url.has_password());
        assert_eq!(url.to_string(), "logs at db.example.com");
        assert_eq!(format!("{url:?}"), "PostgresUrl(logs at db.example.com)");
        for wrong in [
            "postgres://me:s3cret@db/logs?s3cret=1",
            "postgres://me:s3cret@db:s3cret/logs",
            "postgres://me:s3cret@db/logs?sslmode=s3cret",
            "postgres://me:s3cret%zz@db/logs?port=s3cret",
            "password=s3cret host=db",
        ] {
            let error = wrong.parse::<PostgresUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn other_hosts_are_reached_with_tls_only_and_this_one_without() {
        for (text, mode) in [
            ("postgres://db.example.com/logs", SslMode::Require),
            ("postgres://10.0.0.7/logs", SslMode::Require),
            ("postgres://localhost,db.example.com/logs", SslMode::Require),
            ("postgres://localhost/logs?hostaddr=10.0.0.7", SslMode::Require),
            ("postgres://db.example.com/logs?sslmode=prefer", SslMode::Require),
            ("postgres://db.example.com/logs?sslmode=disable", SslMode::Disable),
            ("postgres://127.0.0.1/logs", SslMode::Disable),
            ("postgres://[::1]/logs", SslMode::Disable),
            ("postgres://localhost/logs?sslmode=require", SslMode::Require),
        ] {
            assert_eq!(url(text).config.get_ssl_mode(), mode, "{text}");
            assert_eq!(url(text).tls().unwrap().is_some(), mode == SslMode::Require, "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn without_a_host_the_usual_socket_is_meant() {
        assert_eq!(url("postgres:///logs").to_string(), "logs at /run/postgresql");
        assert_eq!(url("postgresql:///logs?host=/tmp/x").to_string(), "logs at /tmp/x");
        assert_eq!(url("postgres:///logs").config.get_ssl_mode(), SslMode::Disable);
    }

    #[test]
    fn root_certificates_must_be_some() {
        for wrong in [&b""[..], b"hello", b"-----BEGIN CERTIFICATE-----\nAA!\n-----END CERTIFICATE-----\n"] {
            let error = url("postgres://db/logs").with_root_certificates(wrong).unwrap_err();
            assert_eq!(error, PostgresUrlError::Certificates);
        }
    }

    fn url(text: &str) -> PostgresUrl {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }
}
