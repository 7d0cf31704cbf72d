//! The network that the demo builds: a phone, and a router that is the phone's peer, its way to an office subnet, and
//! its exit to the Internet. All addresses are from ranges reserved for private use or documentation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use tuntrail::{
    flow::session::{ResourceId, ResourceRule},
    hook::Protocol,
    netmap::{NetworkMap, NetworkMapError, Node, NodeId, Routes},
    tunnel::{self, PeerConfig, PrivateKey},
};

use crate::CommandError;

/// Which of the two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Makes all the traffic.
    Phone,
    /// Answers it, in the name of the office and of the Internet.
    Router,
}

impl Role {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Phone => "phone",
            Self::Router => "router",
        }
    }

    /// The node's own addresses in the tunnel network.
    pub(super) const fn addresses(self) -> (Ipv4Addr, Ipv6Addr) {
        match self {
            Self::Phone => {
                (Ipv4Addr::new(100, 64, 0, 1), Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1))
            }
            Self::Router => {
                (Ipv4Addr::new(100, 64, 0, 2), Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 2))
            }
        }
    }

    fn own_prefixes(self) -> Vec<IpNet> {
        let (v4, v6) = self.addresses();
        vec![IpNet::from(IpAddr::V4(v4)), IpNet::from(IpAddr::V6(v6))]
    }

    const fn other(self) -> Self {
        match self {
            Self::Phone => Self::Router,
            Self::Router => Self::Phone,
        }
    }

    /// What is sent into the tunnel, that is to the other node.
    pub(super) fn allowed_ips(self) -> Vec<IpNet> {
        match self {
            // The router's own address comes first: it names the router in physical traffic.
            Self::Phone => {
                Self::Router.own_prefixes().into_iter().chain([OFFICE]).chain(default_routes()).collect()
            }
            Self::Router => Self::Phone.own_prefixes(),
        }
    }

    /// How records name the node.
    pub(super) const fn stable_id(self) -> &'static str {
        match self {
            Self::Phone => "n1DEMO",
            Self::Router => "n2DEMO",
        }
    }

    /// What counts as a resource: its use by the phone is recorded as access sessions.
    pub(super) fn resources(self) -> Vec<ResourceRule> {
        let rule = |id, prefix, port: u16| ResourceRule {
            id: Some(ResourceId(id)),
            prefixes: vec![prefix],
            ports: vec![port..=port],
            protocol: Some(Protocol::TCP),
        };
        match self {
            Self::Phone => {
                let website = IpNet::from(IpAddr::V4(Self::Router.addresses().0));
                vec![rule(1, website, 443), rule(2, OFFICE, 22)]
            }
            Self::Router => Vec::new(),
        }
    }

    fn node(self) -> Node {
        let (id, os) = match self {
            Self::Phone => (1, "android"),
            Self::Router => (2, "linux"),
        };
        Node {
            id: NodeId(id),
            stable_id: self.stable_id().to_owned(),
            name: format!("{}.demo.example.", self.name()),
            addresses: self.own_prefixes(),
            os: os.to_owned(),
            user: None,
            tags: vec![format!("tag:{}", self.name())],
        }
    }

    /// Who the nodes are, seen from this one.
    pub(super) fn network_map(self) -> Result<NetworkMap, NetworkMapError> {
        NetworkMap::new(Some(self.node()), [self.other().node()], [])
    }

    /// Which destinations are routed: the phone sends the subnet and the Internet to the router, the router serves them.
    pub(super) fn routes(self) -> Routes {
        let served = match self {
            Self::Phone => None,
            Self::Router => Some(OFFICE),
        };
        Routes::new(self.own_prefixes(), self.allowed_ips(), served)
    }
}

/// The subnet behind the router.
const OFFICE: IpNet = IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 20, 0, 0), 16));

fn default_routes() -> Vec<IpNet> {
    vec![
        IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
        IpNet::V6(ipnet::Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
    ]
}

/// The WireGuard configuration of both nodes, with fresh keys. The router's socket must be open already, so that the phone
/// can be told its port.
pub(super) struct Keys {
    phone: PrivateKey,
    router: PrivateKey,
}

impl Keys {
    pub(super) fn generate() -> Result<Self, CommandError> {
        Ok(Self { phone: PrivateKey::generate()?, router: PrivateKey::generate()? })
    }

    /// The configuration of `role`, whose peer is reached at `endpoint`, or waits to be called if `None`.
    pub(super) fn config(&self, role: Role, endpoint: Option<SocketAddr>) -> tunnel::Config {
        let (own, peer) = match role {
            Role::Phone => (&self.phone, &self.router),
            Role::Router => (&self.router, &self.phone),
        };
        let mut peer = PeerConfig::new(peer.public_key());
        peer.allowed_ips = role.allowed_ips();
        peer.endpoint = endpoint.map(tunnel::Endpoint::Address);
        let mut config = tunnel::Config::new(own.clone());
        config.addresses = role.own_prefixes();
        config.mtu = Some(MTU);
        config.peers.push(peer);
        config
    }
}

/// Fits every path that carries IPv6 (RFC 8200) with WireGuard's overhead to spare.
pub(super) const MTU: u16 = 1280;

/// What a destination stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Virtual,
    Subnet,
    Exit,
}

/// One thing that the phone does again and again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Activity {
    pub(super) kind: Kind,
    pub(super) exchange: Exchange,
    pub(super) to: SocketAddr,
}

/// What is exchanged, in bytes of payload.
#[derive(Debug, Clone, Copy)]
pub(super) enum Exchange {
    /// A TCP connection that asks for something and gets an answer.
    Tcp { request: u64, response: u64 },
    /// One datagram and its answer, of the same length.
    Udp { size: usize },
}

/// The phone's day, compressed.
pub(super) fn activities() -> [Activity; 8] {
    let activity = |kind, to: SocketAddr, exchange| Activity { kind, exchange, to };
    let (router_v4, router_v6) = Role::Router.addresses();
    let v4 = |a, b, c, d, port| SocketAddr::from((Ipv4Addr::new(a, b, c, d), port));
    let server_v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
    [
        activity(
            Kind::Virtual,
            (router_v4, 443).into(),
            Exchange::Tcp { request: 20_000, response: 600_000 },
        ),
        activity(
            Kind::Virtual,
            (router_v6, 8080).into(),
            Exchange::Tcp { request: 150_000, response: 5_000 },
        ),
        activity(Kind::Subnet, v4(10, 20, 0, 5, 22), Exchange::Tcp { request: 40_000, response: 120_000 }),
        activity(Kind::Subnet, v4(10, 20, 0, 53, 53), Exchange::Udp { size: 120 }),
        activity(Kind::Exit, v4(198, 51, 100, 53, 53), Exchange::Udp { size: 90 }),
        activity(Kind::Exit, v4(203, 0, 113, 7, 443), Exchange::Tcp { request: 8_000, response: 400_000 }),
        activity(Kind::Exit, (server_v6, 443).into(), Exchange::Tcp { request: 4_000, response: 250_000 }),
        activity(Kind::Exit, v4(203, 0, 113, 80, 443), Exchange::Tcp { request: 2_000, response: 90_000 }),
    ]
}

/// Every address that the router answers for besides its own.
pub(super) fn served_addresses() -> impl Iterator<Item = IpAddr> {
    activities()
        .into_iter()
        .filter(|activity| activity.kind != Kind::Virtual)
        .map(|activity| activity.to.ip())
}
