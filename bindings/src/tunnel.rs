//! What a tunnel is told, and what it asks of the app.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tuntrail::tunnel::{self, Endpoint, PresharedKey, PrivateKey, PublicKey, Resolver, TunnelOptions};

use crate::{CallbackError, TuntrailError, network::prefixes};

/// A WireGuard tunnel. Keys are in base64, as in configuration files, and are left out when it is printed.
#[derive(Clone, PartialEq, Eq, uniffi::Record)]
#[uniffi::export(Display)]
pub struct TunnelConfig {
    /// Our secret key.
    pub private_key: String,
    /// Our addresses inside the tunnel, such as `10.0.0.2/32`. For the app to give to the system; the tunnel does nothing with
    /// them.
    pub addresses: Vec<String>,
    /// The other ends, at least one.
    pub peers: Vec<Peer>,
    /// The UDP port to listen on. Default: any.
    #[uniffi(default = None)]
    pub listen_port: Option<u16>,
    /// The longest inner packet in bytes, 576 to 65,472. Default: 1,420.
    #[uniffi(default = None)]
    pub mtu: Option<u16>,
    /// Name servers, for the app to give to the system.
    #[uniffi(default = [])]
    pub dns: Vec<String>,
    /// Search domains, for the app to give to the system.
    #[uniffi(default = [])]
    pub search_domains: Vec<String>,
    /// Mark of outgoing datagrams (Linux `SO_MARK`). Default: none.
    #[uniffi(default = None)]
    pub fw_mark: Option<u32>,
}

/// One other end of a tunnel.
#[derive(Clone, PartialEq, Eq, uniffi::Record)]
#[uniffi::export(Display)]
pub struct Peer {
    /// Who it is.
    pub public_key: String,
    /// Inner addresses that are sent to it and that it may send from, such as `0.0.0.0/0`.
    pub allowed_ips: Vec<String>,
    /// `host:port`, `192.0.2.1:51820` or `[2001:db8::1]:51820`. Default: none, until it calls us.
    #[uniffi(default = None)]
    pub endpoint: Option<String>,
    /// A further secret shared with it.
    #[uniffi(default = None)]
    pub preshared_key: Option<String>,
    /// Seconds between keepalives that hold a NAT mapping open; each wakes the radio. Default: none.
    #[uniffi(default = None)]
    pub persistent_keepalive: Option<u16>,
}

/// Where inner packets come from and go to.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
pub enum TunDevice {
    /// A descriptor that gives and takes bare packets: Android's `ParcelFileDescriptor.detachFd()`, a Linux TUN device. The tunnel
    /// owns it from this call on, and closes it also if it can't start.
    Tun {
        /// The open descriptor.
        descriptor: i32,
    },
    /// The utun descriptor of an Apple packet tunnel provider. It is duplicated and stays the system's.
    Utun {
        /// The open descriptor.
        descriptor: i32,
    },
    /// A Wintun adapter that is made for the tunnel and goes with it. Windows only; needs administrator rights, and takes
    /// seconds the first time.
    Wintun {
        /// Full path of the signed `wintun.dll` of the process's architecture. Whoever can write there can run code in this process.
        library: String,
        /// Name of the adapter, as in the system's list.
        name: String,
        /// Its GUID, such as `{dadbc5d7-7ab9-4d3f-9d34-8b3cbb4f5d1a}`, so that the same adapter with its network profile comes
        /// back each time. Default of the system: a new one.
        guid: Option<String>,
    },
}

/// How a tunnel was started.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct TunnelInfo {
    /// What the IPv4 socket is bound to, as `address:port`.
    pub local_v4: Option<String>,
    /// What the IPv6 socket is bound to.
    pub local_v6: Option<String>,
    /// The LUID of the Wintun adapter, by which Windows' IP Helper functions set its addresses and routes.
    pub adapter_luid: Option<u64>,
}

/// Exempts the tunnel's UDP sockets from the VPN, such as by `VpnService.protect`.
#[uniffi::export(foreign)]
pub trait SocketProtector: Send + Sync {
    /// Protects a socket and tells whether that worked; if not, the socket is not used. Called once per socket, before it
    /// sends anything: on the thread that starts the tunnel, and on the tunnel's own (`tuntrail-tunnel`) after a change of
    /// the network. Packets wait meanwhile: return quickly, and don't call the client.
    fn protect(&self, socket: u64) -> Result<bool, CallbackError>;
}

/// Finds the addresses of peers whose endpoint is a host name: for systems where the app's own look-ups go into its tunnel, such
/// as by Android's `Network.getAllByName` of the underlying network.
#[uniffi::export(foreign)]
pub trait HostResolver: Send + Sync {
    /// The IP addresses of a host, as text. May block. Called on the thread that starts the tunnel, and later, after changes of the
    /// network and failed handshakes, on short-lived threads `tuntrail-resolve`, one at a time. Addresses that are none, or of one link
    /// only (`fe80::1%en0`), are passed over.
    fn resolve(&self, host: String) -> Result<Vec<String>, CallbackError>;
}

/// Reads a wg-quick file. Commands in it are ignored. Errors name the line, and never repeat a key.
#[uniffi::export]
pub fn parse_tunnel_config(text: &str) -> Result<TunnelConfig, TuntrailError> {
    tunnel::Config::parse(text).map(|config| TunnelConfig::of(&config)).map_err(TuntrailError::config)
}

/// A new random private key in base64.
#[uniffi::export]
pub fn generate_private_key() -> Result<String, TuntrailError> {
    let key =
        PrivateKey::generate().map_err(|error| TuntrailError::Internal { reason: error.to_string() })?;
    Ok(key.to_base64().to_string())
}

/// The public half of a private key, both in base64.
#[uniffi::export]
pub fn public_key_of(private_key: &str) -> Result<String, TuntrailError> {
    let key = PrivateKey::from_base64(private_key).map_err(|error| bad_key("the private key", error))?;
    Ok(key.public_key().to_string())
}

/// The key is not repeated.
fn bad_key(which: &str, error: impl fmt::Display) -> TuntrailError {
    TuntrailError::config(format!("{which} can't be read: {error}"))
}

impl TunnelConfig {
    fn of(core: &tunnel::Config) -> Self {
        let text = |items: &[ipnet::IpNet]| items.iter().map(ToString::to_string).collect();
        let peers = core.peers.iter().map(|peer| Peer {
            public_key: peer.public_key.to_string(),
            allowed_ips: text(&peer.allowed_ips),
            endpoint: peer.endpoint.as_ref().map(ToString::to_string),
            preshared_key: peer.preshared_key.as_ref().map(|key| key.to_base64().to_string()),
            persistent_keepalive: peer.persistent_keepalive,
        });
        Self {
            private_key: core.private_key.to_base64().to_string(),
            addresses: text(&core.addresses),
            peers: peers.collect(),
            listen_port: core.listen_port,
            mtu: core.mtu,
            dns: core.dns.iter().map(ToString::to_string).collect(),
            search_domains: core.search_domains.clone(),
            fw_mark: core.fw_mark,
        }
    }

    pub(crate) fn into_core(self) -> Result<tunnel::Config, TuntrailError> {
        let private_key =
            PrivateKey::from_base64(&self.private_key).map_err(|error| bad_key("private_key", error))?;
        let mut core = tunnel::Config::new(private_key);
        core.addresses = prefixes(&self.addresses)?;
        core.listen_port = self.listen_port;
        core.mtu = self.mtu;
        core.fw_mark = self.fw_mark;
        core.dns = self.dns.iter().map(|text| address(text)).collect::<Result<_, _>>()?;
        core.search_domains = self.search_domains;
        core.peers = self.peers.into_iter().map(Peer::into_core).collect::<Result<_, _>>()?;
        core.validate().map_err(TuntrailError::config)?;
        Ok(core)
    }
}

impl Peer {
    fn into_core(self) -> Result<tunnel::PeerConfig, TuntrailError> {
        let public_key = PublicKey::from_base64(&self.public_key)
            .map_err(|error| bad_key("the public_key of a peer", error))?;
        let mut core = tunnel::PeerConfig::new(public_key);
        let preshared_key = self.preshared_key.map(|key| PresharedKey::from_base64(&key)).transpose();
        core.preshared_key = preshared_key.map_err(|error| bad_key("the preshared_key of a peer", error))?;
        core.allowed_ips = prefixes(&self.allowed_ips)?;
        core.endpoint = self.endpoint.map(|text| endpoint(&text)).transpose()?;
        core.persistent_keepalive = self.persistent_keepalive;
        Ok(core)
    }
}

fn address(text: &str) -> Result<IpAddr, TuntrailError> {
    text.parse().map_err(|_| TuntrailError::config(format!("{text:?} is not an IP address")))
}

fn endpoint(text: &str) -> Result<Endpoint, TuntrailError> {
    text.parse().map_err(TuntrailError::config)
}

/// What the app does for the tunnel, as the tunnel takes it.
pub(crate) fn options(
    protector: Option<Arc<dyn SocketProtector>>,
    resolver: Option<Arc<dyn HostResolver>>,
) -> TunnelOptions {
    TunnelOptions {
        protect: protector.map(|protector| {
            let protect = move |socket: tunnel::SocketHandle<'_>| match protector.protect(number(socket)) {
                Ok(true) => Ok(()),
                Ok(false) => Err(io::Error::other("the app could not protect it")),
                Err(error) => Err(io::Error::other(error)),
            };
            Box::new(protect) as tunnel::Protect
        }),
        resolver: resolver.map(|resolver| {
            let resolve = move |host: &str, port: u16| {
                let addresses = resolver.resolve(host.to_owned()).map_err(io::Error::other)?;
                // One that we can't use is no reason to leave the others.
                let usable: Vec<_> =
                    addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()).collect();
                if usable.is_empty() && !addresses.is_empty() {
                    return Err(io::Error::other("the app's resolver gave no IP address"));
                }
                Ok(usable.into_iter().map(|address| SocketAddr::new(address, port)).collect())
            };
            Arc::new(resolve) as Resolver
        }),
        ..TunnelOptions::default()
    }
}

#[cfg(unix)]
fn number(socket: tunnel::SocketHandle<'_>) -> u64 {
    // An open descriptor is not negative.
    std::os::fd::AsRawFd::as_raw_fd(&socket).unsigned_abs().into()
}

#[cfg(windows)]
fn number(socket: tunnel::SocketHandle<'_>) -> u64 {
    std::os::windows::io::AsRawSocket::as_raw_socket(&socket)
}

impl TunDevice {
    /// Takes the device over. Also returns a Wintun adapter's LUID.
    #[cfg(unix)]
    pub(crate) fn open(self) -> Result<(tunnel::TunDevice, Option<u64>), TuntrailError> {
        use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
        use tunnel::{FdDevice, Framing};

        let check = |descriptor: i32| {
            if descriptor < 0 {
                return Err(TuntrailError::config(format!("{descriptor} is not an open descriptor")));
            }
            Ok(descriptor)
        };
        let (fd, framing) = match self {
            // SAFETY: the docs say that the descriptor becomes the tunnel's, so nobody else closes it.
            Self::Tun { descriptor } => (unsafe { OwnedFd::from_raw_fd(check(descriptor)?) }, Framing::Raw),
            Self::Utun { descriptor } => {
                // SAFETY: the docs say that it is open, and it is borrowed only for the duplication.
                let theirs = unsafe { BorrowedFd::borrow_raw(check(descriptor)?) };
                let ours = theirs.try_clone_to_owned().map_err(|error| {
                    TuntrailError::config(format!("the descriptor {descriptor} can't be used: {error}"))
                })?;
                (ours, Framing::Utun)
            }
            Self::Wintun { .. } => {
                return Err(TuntrailError::config("there is no Wintun here: pass a descriptor"));
            }
        };
        Ok((tunnel::TunDevice::Fd(FdDevice::new(fd, framing)), None))
    }

    /// Makes the adapter. Also returns its LUID.
    #[cfg(windows)]
    pub(crate) fn open(self) -> Result<(tunnel::TunDevice, Option<u64>), TuntrailError> {
        let Self::Wintun { library, name, guid } = self else {
            return Err(TuntrailError::config("there are no TUN descriptors here: name a Wintun adapter"));
        };
        let guid = guid.map(|text| parse_guid(&text)).transpose()?;
        let device = tunnel::WintunDevice::create(std::path::Path::new(&library), &name, ADAPTER_KIND, guid)
            .map_err(|error| TuntrailError::Tunnel { reason: error.to_string() })?;
        let luid = device.luid();
        Ok((tunnel::TunDevice::Wintun(device), Some(luid)))
    }
}

/// What Wintun groups adapters by.
#[cfg(windows)]
const ADAPTER_KIND: &str = "tuntrail";

/// Reads a GUID with or without braces.
#[cfg(any(windows, test))]
fn parse_guid(text: &str) -> Result<u128, TuntrailError> {
    let wrong = || {
        TuntrailError::config(format!("{text:?} is not a GUID such as dadbc5d7-7ab9-4d3f-9d34-8b3cbb4f5d1a"))
    };
    let bare = text.strip_prefix('{').map_or(Some(text), |rest| rest.strip_suffix('}')).ok_or_else(wrong)?;
    let groups: Vec<&str> = bare.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let digits = groups.concat();
    if lengths != [8, 4, 4, 4, 12] || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    u128::from_str_radix(&digits, 16).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[Interface]
PrivateKey = dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=
Address = 10.0.0.2/24
DNS = 10.0.0.53, example.com
MTU = 1280
[Peer]
PublicKey = 3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = vpn.example.com:51820
PersistentKeepalive = 25
";

    #[test]
    fn a_file_becomes_a_record_and_the_record_a_tunnel() {
        let record = parse_tunnel_config(FILE).unwrap();
        assert_eq!(record.addresses, ["10.0.0.2/24"]);
        assert_eq!((record.dns.as_slice(), record.mtu), (["10.0.0.53".to_owned()].as_slice(), Some(1280)));
        assert_eq!(record.search_domains, ["example.com"]);
        let peer = &record.peers[0];
        assert_eq!(peer.endpoint.as_deref(), Some("vpn.example.com:51820"));
        assert_eq!(TunnelConfig::of(&record.clone().into_core().unwrap()), record);
    }

    #[test]
    fn wrong_values_are_named_and_keys_never_are() {
        let record = parse_tunnel_config(FILE).unwrap();
        let broken = |change: fn(&mut TunnelConfig)| {
            let mut config = record.clone();
            change(&mut config);
            config.into_core().unwrap_err().to_string()
        };
        assert!(broken(|config| config.peers.clear()).contains("no peer"));
        assert!(broken(|config| config.mtu = Some(100)).contains("100"));
        assert!(broken(|config| config.dns.push("x".to_owned())).contains("\"x\""));
        assert!(broken(|config| config.addresses.push("10.0.0.0/33".to_owned())).contains("10.0.0.0/33"));
        assert!(broken(|config| config.peers[0].endpoint = Some("host".to_owned())).contains("host:port"));
        let key = broken(|config| config.private_key = "c2VjcmV0".to_owned());
        assert!(key.contains("private_key") && !key.contains("c2VjcmV0"), "{key}");
        let key = broken(|config| config.peers[0].preshared_key = Some("c2VjcmV0".to_owned()));
        assert!(key.contains("preshared_key") && !key.contains("c2VjcmV0"), "{key}");
    }

    #[test]
    fn a_new_key_is_a_key() {
        let key = generate_private_key().unwrap();
        assert_ne!(public_key_of(&key).unwrap(), key);
        assert!(public_key_of("short").is_err());
    }

    #[test]
    fn guids_are_read_with_and_without_braces() {
        let guid = 0xdadb_c5d7_7ab9_4d3f_9d34_8b3c_bb4f_5d1a;
        for text in ["dadbc5d7-7ab9-4d3f-9d34-8b3cbb4f5d1a", "{DADBC5D7-7ab9-4d3f-9d34-8b3cbb4f5d1a}"] {
            assert_eq!(parse_guid(text), Ok(guid));
        }
        for text in ["", "{}", "{dadbc5d7-7ab9-4d3f-9d34-8b3cbb4f5d1a", "dadbc5d77ab94d3f9d348b3cbb4f5d1a"] {
            assert!(parse_guid(text).is_err(), "{text}");
        }
    }
}
