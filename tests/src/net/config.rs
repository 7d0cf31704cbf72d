//! One configuration, in the words of wg-quick and of `wg setconf`.

use std::{fmt::Write, net::SocketAddr};

use ipnet::IpNet;
use tuntrail::tunnel::{KeyError, PrivateKey, PublicKey};

use super::Side;

/// Keys of networks that last for seconds.
const LEFT_KEY: &str = "Xr9mA92H/ZSGEuLuihylHmV7dgN7vLuxrIqmg6GcTqI=";
const RIGHT_KEY: &str = "mpl3wOpTOxRwp9U4FavBLwM/kcHqKdO1vDFDztWm43Q=";

/// How a host is set up as one end of the tunnel between the two hosts of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Which host.
    pub side: Side,
    /// The port to listen on; `None` leaves the choice to the system.
    pub listen_port: Option<u16>,
    /// The longest inner packet in bytes.
    pub mtu: u16,
    /// Where the other end is reached; `None` until it calls.
    pub endpoint: Option<SocketAddr>,
    /// A further secret, in base64.
    pub preshared_key: Option<&'static str>,
    /// Seconds between keepalives.
    pub persistent_keepalive: Option<u16>,
}

impl NodeConfig {
    /// The port that hosts listen on unless told otherwise.
    pub const PORT: u16 = 51_820;
    /// A preshared key.
    pub const PRESHARED_KEY: &str = "qdeQMeXAgK8IbGvrVjnp7B7PZ24qqDLb6mS/Bac6OjA=";
    /// Another one.
    pub const OTHER_PRESHARED_KEY: &str = "UEaUDdVpG+HJvgDbufqZffj+MZ69WG5cLBTbNBrjOkk=";

    /// A host that waits for the other to call.
    #[must_use]
    pub const fn new(side: Side) -> Self {
        Self {
            side,
            listen_port: Some(Self::PORT),
            mtu: tuntrail::tunnel::DEFAULT_MTU,
            endpoint: None,
            preshared_key: None,
            persistent_keepalive: None,
        }
    }

    /// The host's addresses in the tunnel, with the network that both are in.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpNet> {
        let nets = [IpNet::new(self.side.inner_v4(), 24), IpNet::new(self.side.inner_v6(), 64)];
        nets.into_iter().flatten().collect()
    }

    /// A host's public key.
    ///
    /// # Errors
    /// None: the keys are constants.
    pub fn public_key(side: Side) -> Result<PublicKey, KeyError> {
        Ok(PrivateKey::from_base64(private_key(side))?.public_key())
    }

    /// What [`tuntrail::tunnel::Config::parse`] reads.
    #[must_use]
    pub fn wg_quick(&self) -> String {
        let addresses: Vec<_> = self.addresses().iter().map(IpNet::to_string).collect();
        self.text(&format!("Address = {}\nMTU = {}\n", addresses.join(", "), self.mtu))
    }

    /// What `wg setconf` reads, which leaves addresses to others.
    #[must_use]
    pub fn setconf(&self) -> String {
        self.text("")
    }

    fn text(&self, interface: &str) -> String {
        let other = self.side.other();
        let mut text = format!("[Interface]\nPrivateKey = {}\n{interface}", private_key(self.side));
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                // Writing to a string can't fail.
                let _ = writeln!(text, "{key} = {value}");
            }
        };
        line("ListenPort", self.listen_port.map(|port| port.to_string()));
        line("[Peer]\nPublicKey", Self::public_key(other).ok().map(|key| key.to_string()));
        line("PresharedKey", self.preshared_key.map(str::to_owned));
        line("AllowedIPs", Some(format!("{}/32, {}/128", other.inner_v4(), other.inner_v6())));
        line("Endpoint", self.endpoint.map(|endpoint| endpoint.to_string()));
        line("PersistentKeepalive", self.persistent_keepalive.map(|seconds| seconds.to_string()));
        text
    }
}

const fn private_key(side: Side) -> &'static str {
    match side {
        Side::Left => LEFT_KEY,
        Side::Right => RIGHT_KEY,
    }
}

#[cfg(test)]
mod tests {
    use tuntrail::tunnel::{Config, Endpoint};

    use super::*;

    #[test]
    fn the_text_says_what_was_asked_for() {
        let mut node = NodeConfig::new(Side::Left);
        node.endpoint = Some("192.0.2.2:7".parse().unwrap());
        node.preshared_key = Some(NodeConfig::PRESHARED_KEY);
        node.persistent_keepalive = Some(25);
        let config = Config::parse(&node.wg_quick()).unwrap();
        assert_eq!(config.addresses, node.addresses());
        assert_eq!((config.listen_port, config.mtu), (Some(NodeConfig::PORT), Some(1420)));
        let peer = &config.peers[0];
        assert_eq!(peer.public_key, NodeConfig::public_key(Side::Right).unwrap());
        assert_eq!(peer.endpoint, Some(Endpoint::Address("192.0.2.2:7".parse().unwrap())));
        assert!(peer.preshared_key.is_some());
        assert_eq!((peer.allowed_ips.len(), peer.persistent_keepalive), (2, Some(25)));
        assert!(!node.setconf().contains("MTU"));
    }
}
