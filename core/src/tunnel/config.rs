//! What a tunnel is made of: keys, peers, addresses.
//!
//! [`Config::parse`] reads wg-quick files; the structs can also be filled in by hand. Nothing here touches the
//! network: host names stay names until the driver resolves them.

mod parse;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;

use super::key::{PresharedKey, PrivateKey, PublicKey};

/// Inner bytes per packet if the configuration doesn't say: 1500 less the outer IPv6, UDP and WireGuard headers
/// (40 + 8 + 32), as wg-quick has it.
pub const DEFAULT_MTU: u16 = 1420;
/// No link that speaks IP carries less (RFC 791).
const MIN_MTU: u16 = 576;
/// The longest UDP payload over IPv4 is 65,507 bytes; less 32 bytes of WireGuard, rounded down to whole 16-byte
/// padding.
const MAX_MTU: u16 = 65_472;

/// A whole tunnel.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our key.
    pub private_key: PrivateKey,
    /// Our addresses inside the tunnel, with the length of their network.
    pub addresses: Vec<IpNet>,
    /// The UDP port to listen on; `None` leaves the choice to the operating system.
    pub listen_port: Option<u16>,
    /// The longest inner packet in bytes, 576 to 65,472; `None` means 1420.
    pub mtu: Option<u16>,
    /// Mark for outgoing datagrams (Linux `SO_MARK`), so that routing rules can tell them from inner traffic.
    pub fw_mark: Option<u32>,
    /// Name servers that the host should use while the tunnel is up. The tunnel itself does nothing with them.
    pub dns: Vec<IpAddr>,
    /// Search domains that stand among the name servers in wg-quick files.
    pub search_domains: Vec<String>,
    /// The other ends.
    pub peers: Vec<PeerConfig>,
    /// Keys of the file that were understood and deliberately not acted on, such as `PostUp`.
    pub ignored: Vec<IgnoredKey>,
}

impl Config {
    /// A configuration without peers; push them onto `peers`.
    #[must_use]
    pub const fn new(private_key: PrivateKey) -> Self {
        Self {
            private_key,
            addresses: Vec::new(),
            listen_port: None,
            mtu: None,
            fw_mark: None,
            dns: Vec::new(),
            search_domains: Vec::new(),
            peers: Vec::new(),
            ignored: Vec::new(),
        }
    }

    /// Reads a wg-quick file.
    ///
    /// Section and key names are case-insensitive, `#` starts a comment, list keys may be repeated. Commands
    /// (`PreUp`, `PostUp`, `PreDown`, `PostDown`), `Table` and `SaveConfig` are noted in [`Self::ignored`] and never
    /// executed. Two peers with the same allowed prefix: the last one wins, as in other WireGuard tools.
    ///
    /// # Errors
    /// The first thing wrong, with its line. No error contains a key's value.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        parse::parse(text)
    }

    /// Checks what the types can't: at least one peer, no peer twice, an MTU in range. [`Self::parse`] has done
    /// so; a tunnel does it again for configurations made by hand.
    ///
    /// # Errors
    /// [`ConfigError::NoPeer`], [`ConfigError::DuplicatePeer`], [`ConfigError::OwnKey`] or [`ConfigError::Mtu`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.peers.is_empty() {
            return Err(ConfigError::NoPeer);
        }
        if let Some(mtu) = self.mtu.filter(|mtu| !(MIN_MTU..=MAX_MTU).contains(mtu)) {
            return Err(ConfigError::Mtu { mtu });
        }
        let mut keys: Vec<PublicKey> = self.peers.iter().map(|peer| peer.public_key).collect();
        keys.sort_unstable();
        if let Some(public_key) = keys.array_windows().find_map(|[a, b]| (a == b).then_some(*a)) {
            return Err(ConfigError::DuplicatePeer { public_key });
        }
        let own = self.private_key.public_key();
        if keys.binary_search(&own).is_ok() {
            return Err(ConfigError::OwnKey { public_key: own });
        }
        Ok(())
    }
}

/// One other end of the tunnel.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// Who it is.
    pub public_key: PublicKey,
    /// A further secret shared with it.
    pub preshared_key: Option<PresharedKey>,
    /// Inner addresses that are sent to it and that it may send from.
    pub allowed_ips: Vec<IpNet>,
    /// Where it is reached; `None` until it calls us.
    pub endpoint: Option<Endpoint>,
    /// Seconds between keepalives that hold a NAT mapping open; `None` sends none.
    pub persistent_keepalive: Option<u16>,
}

impl PeerConfig {
    /// A peer without addresses; fill in the rest.
    #[must_use]
    pub const fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            preshared_key: None,
            allowed_ips: Vec::new(),
            endpoint: None,
            persistent_keepalive: None,
        }
    }
}

/// Where a peer is reached over UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An address and port.
    Address(SocketAddr),
    /// A host name to be resolved when the tunnel starts.
    Name {
        /// DNS name.
        host: String,
        /// UDP port.
        port: u16,
    },
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        parse::endpoint(text).ok_or_else(|| EndpointError(text.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// A text that is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an endpoint: use host:port, 192.0.2.1:51820 or [2001:db8::1]:51820")]
pub struct EndpointError(String);

/// A key that the file has and tuntrail does not act on. The value is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredKey {
    /// Line number, from 1.
    pub line: usize,
    /// The key in its usual spelling.
    pub key: &'static str,
}

/// What is wrong with a configuration. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A line that is neither a section, nor `Key = Value`, nor a comment. Its text is not shown: it may be a key.
    #[error("line {line}: expected a section such as [Peer], or `Key = Value`")]
    Syntax {
        /// Where.
        line: usize,
    },
    /// A section other than `[Interface]` and `[Peer]`.
    #[error("line {line}: unknown section [{section}]; expected [Interface] or [Peer]")]
    UnknownSection {
        /// Where.
        line: usize,
        /// What stood there.
        section: String,
    },
    /// A key above the first section.
    #[error("line {line}: {key} stands before any section; put [Interface] or [Peer] above it")]
    NoSection {
        /// Where.
        line: usize,
        /// The key.
        key: String,
    },
    /// A key that this section doesn't have.
    #[error("line {line}: unknown key {key} in section [{section}]; check the spelling and the section")]
    UnknownKey {
        /// Where.
        line: usize,
        /// The section it stands in.
        section: &'static str,
        /// The key.
        key: String,
    },
    /// A key that may stand once in its section and stands twice.
    #[error("line {line}: {key} is repeated; remove one of the two")]
    Repeated {
        /// Where the second one is.
        line: usize,
        /// The key.
        key: &'static str,
    },
    /// A value that can't be read.
    #[error("line {line}: {key} = {value}: expected {expected}")]
    Value {
        /// Where.
        line: usize,
        /// The key.
        key: &'static str,
        /// What stood there; replaced by a note if it looks like a secret.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A key value (private, public or preshared) that can't be read. Its text is not shown.
    #[error("line {line}: {key}: expected 44 characters of base64 that stand for 32 bytes")]
    Key {
        /// Where.
        line: usize,
        /// The key.
        key: &'static str,
    },
    /// No `PrivateKey`.
    #[error("no PrivateKey; add one to section [Interface]")]
    MissingPrivateKey,
    /// A peer without `PublicKey`.
    #[error("line {line}: this [Peer] has no PublicKey; add it")]
    MissingPublicKey {
        /// Where the peer's section starts.
        line: usize,
    },
    /// No peer at all.
    #[error("no peer; add a section [Peer]")]
    NoPeer,
    /// Two peers with one key.
    #[error("two peers have the public key {public_key}; merge them into one")]
    DuplicatePeer {
        /// The key.
        public_key: PublicKey,
    },
    /// A peer with our own key.
    #[error("the public key {public_key} of a peer is our own; use the peer's key")]
    OwnKey {
        /// The key.
        public_key: PublicKey,
    },
    /// An MTU out of range.
    #[error("MTU {mtu} is out of range; use 576 to 65472")]
    Mtu {
        /// The value.
        mtu: u16,
    },
}
