//! Where uploads go, under which rules.
//!
//! Parsed once, on the caller's thread, so that the upload thread can't meet a malformed URL, name or header. No host
//! is built in.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use url::Host;

use super::{entry::Limits, id::PrivateId, rules::UploadPolicy, tls::Trust};

/// Headers that the uploader sets itself, or that describe the connection.
const RESERVED_HEADERS: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "idempotency-key",
    "orig-content-length",
    "transfer-encoding",
    "upgrade",
];

/// Why a configuration can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The base URL is not usable. The URL is not repeated: it may contain a password.
    #[error("the base URL {0}")]
    BaseUrl(&'static str),
    /// Not the name of a collection.
    #[error("{0:?} is not a collection name: use letters, digits, '-', '_' and '.'")]
    Collection(String),
    /// Not a header that can be added.
    #[error("header {name:?} {problem}")]
    Header {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A root certificate can't be read.
    #[error("root certificate {index} can't be used: {reason}")]
    Certificate {
        /// Position in the list, from 0.
        index: usize,
        /// What the parser says.
        reason: String,
    },
    /// A list of pinned roots without a certificate would trust nobody.
    #[error("the list of pinned root certificates is empty; give at least one, or trust the platform's")]
    NoCertificates,
}

/// The name of a collection of streams at the server, such as `flows.log.example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection(String);

impl Collection {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Collection {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        // "." and ".." would be folded away with the path segment before them.
        if name.is_empty() || !name.bytes().all(legal) || matches!(name, "." | "..") {
            return Err(ConfigError::Collection(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who carries the requests to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// The HTTP client that is built in, on the upload thread.
    #[default]
    BuiltIn,
    /// The host, with a transport of the platform that outlives the process or waits for better times (WorkManager,
    /// background URLSession): it asks [`Uploader::next_task`](super::Uploader::next_task) for requests. `trust`, the
    /// timeouts and `proxy_from_env` are then the host's business.
    Host,
}

/// The configuration of an [`Uploader`](super::Uploader).
#[derive(Debug, Clone)]
pub struct UploadConfig {
    base: Url,
    pub(super) headers: HeaderMap,
    /// Which certificates are trusted. Default: the platform's.
    pub trust: Trust,
    /// Sizes of texts and bodies. Default: [`Limits::NORMAL`].
    pub limits: Limits,
    /// How long a connection may take, with name resolution and TLS. Default: 30 s, as logtail.
    pub connect_timeout: Duration,
    /// How long a request may take in all. Default: 45 s, as logtail.
    pub request_timeout: Duration,
    /// The longest wait within a pass. A server that asks for more ends the pass. Default: 30 s, about as long as
    /// somebody who asked for an upload watches it.
    pub max_wait: Duration,
    /// Use the proxy that the environment names (`HTTPS_PROXY` and the like). Default: no. A tunnel's log would
    /// otherwise follow settings that were meant for another program.
    pub proxy_from_env: bool,
    /// Whether the uploader may begin by itself. Default: [`UploadPolicy::OnDemand`], never.
    pub policy: UploadPolicy,
    /// Who carries the requests. Default: [`Transport::BuiltIn`].
    pub transport: Transport,
    /// Where the request for an upload that is not finished is kept (a file `FLUSH` of less than 4 KiB), so that the next
    /// start carries on with it when the process is killed: at most 5 times, within 24 hours. One uploader per directory;
    /// created with mode 0700 if missing. Default: `None`, such a request is forgotten.
    pub request_directory: Option<PathBuf>,
    /// Read the server's commands from its answers, for [`Uploader::set_command_listener`](super::Uploader).
    pub(crate) accept_commands: bool,
}

impl UploadConfig {
    /// A configuration for the server at `base`, with defaults for everything else: an `https` URL, or `http` for a
    /// loopback host, perhaps with a path.
    ///
    /// # Errors
    /// [`ConfigError::BaseUrl`] for anything else, or with a user name, password, query or fragment.
    pub fn new(base: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            base: parse_base(base).map_err(ConfigError::BaseUrl)?,
            headers: HeaderMap::new(),
            trust: Trust::Platform,
            limits: Limits::NORMAL,
            connect_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(45),
            max_wait: Duration::from_secs(30),
            proxy_from_env: false,
            policy: UploadPolicy::OnDemand,
            transport: Transport::BuiltIn,
            request_directory: None,
            accept_commands: false,
        })
    }

    /// The host of the server, as in the base URL.
    #[must_use]
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// Adds a header to every request, such as one for authorisation. Its value is treated as a secret.
    ///
    /// # Errors
    /// [`ConfigError::Header`] if name or value are malformed, or the uploader sets that header itself.
    pub fn add_header(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let error = |problem| ConfigError::Header { name: name.to_owned(), problem };
        let parsed = HeaderName::from_str(name).map_err(|_| error("is not a header name"))?;
        if RESERVED_HEADERS.contains(&parsed.as_str()) {
            return Err(error("is set by the uploader itself"));
        }
        let mut value =
            HeaderValue::from_str(value).map_err(|_| error("has a value with illegal characters"))?;
        value.set_sensitive(true);
        self.headers.append(parsed, value);
        Ok(())
    }

    pub(super) fn is_https(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// `{base}/c/{collection}/{private id}[?copyId={private id}]`. Holds secrets: never print it.
    pub(super) fn stream_url(
        &self,
        collection: &Collection,
        id: &PrivateId,
        copy_to: Option<&PrivateId>,
    ) -> Url {
        let mut url = self.base.clone();
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{path}/c/{collection}/{}", *id.to_hex()));
        if let Some(copy) = copy_to {
            url.set_query(Some(&format!("copyId={}", *copy.to_hex())));
        }
        url
    }
}

fn parse_base(base: &str) -> Result<Url, &'static str> {
    let url = Url::parse(base).map_err(|_| "is not a URL")?;
    let loopback = match url.host() {
        None => return Err("has no host"),
        Some(Host::Domain(domain)) => domain.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => return Err("uses http; only https is allowed, except for a loopback address"),
        _ => return Err("has a scheme other than https"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or password; use a header instead");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or fragment");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(base: &str) -> &'static str {
        match UploadConfig::new(base) {
            Err(ConfigError::BaseUrl(problem)) => problem,
            other => panic!("{base}: {other:?}"),
        }
    }

    #[test]
    fn https_and_loopback_http_are_accepted() {
        for base in [
            "https://log.example.com",
            "https://log.example.com:8443/logs/",
            "https://192.0.2.1",
            "http://localhost:8080",
            "http://127.0.0.1",
            "http://127.9.9.9:1/",
            "http://[::1]:8080",
        ] {
            assert!(UploadConfig::new(base).is_ok(), "{base}");
        }
    }

    #[test]
    fn anything_else_is_refused_without_being_repeated() {
        assert!(problem("http://log.example.com").contains("only https"));
        assert!(problem("http://localhost.example.com").contains("only https"));
        assert!(problem("http://10.0.0.1").contains("only https"));
        assert!(problem("http://[fe80::1]").contains("only https"));
        assert!(problem("ftp://127.0.0.1").contains("scheme"));
        assert!(problem("https://user@example.com").contains("user name"));
        assert!(problem("https://:pass@example.com").contains("user name"));
        assert!(problem("https://example.com?x=1").contains("query"));
        assert!(problem("https://example.com#x").contains("fragment"));
        for nonsense in ["", "example.com", "/c/x", "https://"] {
            assert!(problem(nonsense).contains("not a URL"), "{nonsense}");
        }
        assert!(problem("data:x").contains("no host"));
    }

    #[test]
    fn the_url_of_a_stream_is_logtails() {
        let id = PrivateId::from_bytes([0xab; 32]);
        let copy = PrivateId::from_bytes([0xcd; 32]);
        let collection = "flows.log.example.com".parse().unwrap();
        let hex = "ab".repeat(32);
        for base in ["https://example.com", "https://example.com/"] {
            let url = UploadConfig::new(base).unwrap().stream_url(&collection, &id, None);
            assert_eq!(url.as_str(), format!("https://example.com/c/flows.log.example.com/{hex}"));
        }
        let url = UploadConfig::new("https://example.com/a/b/").unwrap();
        let url = url.stream_url(&collection, &id, Some(&copy));
        let expected =
            format!("https://example.com/a/b/c/flows.log.example.com/{hex}?copyId={}", "cd".repeat(32));
        assert_eq!(url.as_str(), expected);
    }

    #[test]
    fn collection_names_can_not_leave_their_place_in_the_path() {
        for name in ["a", "flows.log.example.com", "A-b_c.9"] {
            assert_eq!(name.parse::<Collection>().unwrap().as_str(), name);
        }
        for name in ["", ".", "..", "a/b", "a b", "é", "a%2f", "a?b"] {
            assert_eq!(name.parse::<Collection>(), Err(ConfigError::Collection(name.to_owned())));
        }
    }

    #[test]
    fn headers_of_the_protocol_and_malformed_ones_are_refused() {
        let mut config = UploadConfig::new("https://example.com").unwrap();
        config.add_header("Authorization", "Bearer s3cret").unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
        for (name, value) in [
            ("Content-Encoding", "gzip"),
            ("host", "other"),
            ("Idempotency-Key", "1"),
            ("bad name", "x"),
            ("X-Ok", "line\nbreak"),
        ] {
            assert!(matches!(config.add_header(name, value), Err(ConfigError::Header { .. })), "{name}");
        }
        assert_eq!(config.headers.len(), 1);
    }
}
