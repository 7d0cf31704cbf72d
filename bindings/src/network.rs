//! What the host knows of the network, and of the device.

use std::{net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;
use tuntrail::{
    flow::{
        self,
        session::{self, ResourceId},
    },
    hook::Protocol,
    netmap::{self, NodeId, UserId},
    sockstat, upload,
};

use crate::TuntrailError;

/// A device of the network.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct Node {
    /// Identifies the node while the map is in use.
    pub id: i64,
    /// The identifier that appears in records and never changes, at most 256 bytes.
    pub stable_id: String,
    /// DNS name, with or without the trailing dot, at most 1,024 bytes.
    #[uniffi(default = "")]
    pub name: String,
    /// Its addresses inside the network, such as `100.64.0.7` or `100.64.0.7/32`. Prefixes of more than one address
    /// are ignored: they are routes.
    #[uniffi(default = [])]
    pub addresses: Vec<String>,
    /// Operating system, free text of at most 256 bytes.
    #[uniffi(default = "")]
    pub os: String,
    /// The owner, if the node belongs to a person.
    #[uniffi(default = None)]
    pub user: Option<i64>,
    /// Tags, if the node belongs to a role; at most 4,096 bytes in all.
    #[uniffi(default = [])]
    pub tags: Vec<String>,
}

/// A person who owns nodes.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct User {
    /// As [`Node::user`] names it.
    pub id: i64,
    /// Login name as it appears in records, at most 1,024 bytes.
    pub login: String,
}

/// Who owns which address. An address that no node has belongs to a subnet, if a route leads to it, or to the Internet.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct NetworkMap {
    /// This device; none while it is not known.
    #[uniffi(default = None)]
    pub self_node: Option<Node>,
    /// The other nodes.
    #[uniffi(default = [])]
    pub peers: Vec<Node>,
    /// Their owners.
    #[uniffi(default = [])]
    pub users: Vec<User>,
}

/// Which addresses belong to the network although no node has them. Prefixes such as `10.20.0.0/16`; default routes don't count.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct Routes {
    /// Addresses of this device.
    #[uniffi(default = [])]
    pub local: Vec<String>,
    /// What is routed into the tunnel.
    #[uniffi(default = [])]
    pub remote: Vec<String>,
    /// Subnets that this device serves to others.
    #[uniffi(default = [])]
    pub subnet_routes: Vec<String>,
}

/// What is recorded of exit traffic, that is of traffic to the Internet through the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum ExitFlows {
    /// Nothing.
    Off,
    /// Sums per node: no protocol, no port, no address that isn't a node's. The default.
    Aggregated,
    /// Each connection. Only after somebody who may decide that has opted in.
    Full,
}

/// The kind of link that carries the device's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum InterfaceKind {
    /// Not known, or none.
    Unknown,
    /// Wi-Fi.
    Wifi,
    /// A mobile network.
    Cellular,
    /// A cable.
    Wired,
}

/// The network as the host sees it. Tell it whenever it changes, by `Client.setNetworkState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct NetworkState {
    /// There is one.
    pub connected: bool,
    /// Tells networks apart: another number is another network, and a running tunnel moves to it. Any number that the platform
    /// has for it, such as Android's network handle or the interface index; 0 if there is none.
    #[uniffi(default = 0)]
    pub id: u64,
    /// The kind of link.
    #[uniffi(default = None)]
    pub interface: Option<InterfaceKind>,
    /// Data costs money (Android: metered, Apple: expensive).
    #[uniffi(default = false)]
    pub metered: bool,
    /// It belongs to a foreign operator.
    #[uniffi(default = false)]
    pub roaming: bool,
    /// The user wants to spare it (Android: Data Saver, Apple: Low Data Mode).
    #[uniffi(default = false)]
    pub low_data: bool,
}

/// The power supply as the host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct PowerState {
    /// Charge of the battery, 0 to 100; none without one.
    #[uniffi(default = None)]
    pub battery_percent: Option<u8>,
    /// On external power.
    #[uniffi(default = false)]
    pub charging: bool,
    /// The device saves power (Android: Battery Saver, Apple: Low Power Mode).
    #[uniffi(default = false)]
    pub low_power: bool,
}

/// A range of ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest, not below `first`.
    pub last: u16,
}

/// Which connections are access sessions of a resource: those to one of the prefixes, at one of the ports, by the protocol. Of several
/// rules the one with the longest matching prefix decides, then the one that was given first.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct ResourceRule {
    /// The number that the administration gave the resource; none for an exception: what is not to be recorded.
    pub resource: Option<u64>,
    /// Its addresses, such as `10.20.0.0/16`. At most 4,096 in all rules.
    pub prefixes: Vec<String>,
    /// Its ports; none means all.
    #[uniffi(default = [])]
    pub ports: Vec<PortRange>,
    /// Its IP protocol number (6 is TCP, 17 UDP); none means all.
    #[uniffi(default = None)]
    pub protocol: Option<u8>,
}

/// Reads `10.0.0.0/8` or a single address.
pub(crate) fn prefix(text: &str) -> Result<IpNet, TuntrailError> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(address).ok_or_else(|| {
        TuntrailError::config(format!("{text:?} is neither an IP address nor a prefix such as 10.0.0.0/8"))
    })
}

pub(crate) fn prefixes(texts: &[String]) -> Result<Vec<IpNet>, TuntrailError> {
    texts.iter().map(|text| prefix(text)).collect()
}

impl NetworkMap {
    pub(crate) fn into_core(self) -> Result<netmap::NetworkMap, TuntrailError> {
        let self_node = self.self_node.map(Node::into_core).transpose()?;
        let peers = self.peers.into_iter().map(Node::into_core).collect::<Result<Vec<_>, _>>()?;
        let users = self.users.into_iter().map(|user| (UserId(user.id), user.login));
        netmap::NetworkMap::new(self_node, peers, users).map_err(TuntrailError::config)
    }
}

impl Node {
    fn into_core(self) -> Result<netmap::Node, TuntrailError> {
        Ok(netmap::Node {
            id: NodeId(self.id),
            stable_id: self.stable_id,
            name: self.name,
            addresses: prefixes(&self.addresses)?,
            os: self.os,
            user: self.user.map(UserId),
            tags: self.tags,
        })
    }
}

impl Routes {
    pub(crate) fn into_core(self) -> Result<netmap::Routes, TuntrailError> {
        Ok(netmap::Routes::new(
            prefixes(&self.local)?,
            prefixes(&self.remote)?,
            prefixes(&self.subnet_routes)?,
        ))
    }
}

impl ResourceRule {
    pub(crate) fn into_core(self) -> Result<session::ResourceRule, TuntrailError> {
        let ports = self.ports.into_iter().map(PortRange::into_core).collect::<Result<_, _>>()?;
        Ok(session::ResourceRule {
            id: self.resource.map(ResourceId),
            prefixes: prefixes(&self.prefixes)?,
            ports,
            protocol: self.protocol.map(Protocol),
        })
    }
}

impl PortRange {
    fn into_core(self) -> Result<RangeInclusive<u16>, TuntrailError> {
        let Self { first, last } = self;
        if first > last {
            return Err(TuntrailError::config(format!(
                "ports {first} to {last} are none: give the lower one first"
            )));
        }
        Ok(first..=last)
    }
}

impl NetworkState {
    pub(crate) const fn into_core(self) -> upload::NetworkState {
        let Self { connected, id, interface: _, metered, roaming, low_data } = self;
        upload::NetworkState { connected, id, metered, roaming, low_data }
    }
}

impl PowerState {
    pub(crate) fn into_core(self) -> Result<upload::PowerState, TuntrailError> {
        let Self { battery_percent, charging, low_power } = self;
        if let Some(percent) = battery_percent.filter(|percent| *percent > 100) {
            return Err(TuntrailError::config(format!(
                "a charge of {percent} % is out of range: give 0 to 100"
            )));
        }
        Ok(upload::PowerState { battery_percent, charging, low_power })
    }
}

impl From<InterfaceKind> for sockstat::InterfaceKind {
    fn from(kind: InterfaceKind) -> Self {
        match kind {
            InterfaceKind::Unknown => Self::Other,
            InterfaceKind::Wifi => Self::Wifi,
            InterfaceKind::Cellular => Self::Cellular,
            InterfaceKind::Wired => Self::Wired,
        }
    }
}

impl From<ExitFlows> for flow::ExitFlows {
    fn from(exit_flows: ExitFlows) -> Self {
        match exit_flows {
            ExitFlows::Off => Self::Off,
            ExitFlows::Aggregated => Self::Aggregated,
            ExitFlows::Full => Self::Full,
        }
    }
}
