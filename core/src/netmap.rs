//! Who owns an address: the nodes and users of the network, and the routes of this device.
//!
//! Plain immutable data. The host builds a [`NetworkMap`] and [`Routes`] whenever its control plane or its
//! configuration changes and hands them to the flow logger; the logger's threads share them read-only. Nothing here
//! knows how the network came to be, and nothing here is ever changed in place.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

/// The number by which the control plane knows a node. Two nodes with the same number are the same node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub i64);

/// The number by which the control plane knows a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub i64);

/// A device of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Identifies the node while the map is in use.
    pub id: NodeId,
    /// The identifier that appears in records and never changes, at most [`MAX_ID_LEN`] bytes.
    pub stable_id: String,
    /// DNS name, with or without the trailing dot; may be empty. At most [`MAX_NAME_LEN`] bytes.
    pub name: String,
    /// Addresses of the node. Only prefixes of one single address identify it; wider ones are routes and are
    /// ignored here.
    pub addresses: Vec<IpNet>,
    /// Operating system, free text, may be empty. At most [`MAX_ID_LEN`] bytes.
    pub os: String,
    /// The owner, if the node belongs to a person.
    pub user: Option<UserId>,
    /// Tags, if the node belongs to a role. At most [`MAX_TAGS_LEN`] bytes in all.
    pub tags: Vec<String>,
}

/// Longest stable ID and operating system text, in bytes: DNS-label sized identifiers with much room.
pub const MAX_ID_LEN: usize = 256;
/// Longest node name and user login, in bytes: four times the longest DNS name (255).
pub const MAX_NAME_LEN: usize = 1024;
/// Longest tag list of a node, in bytes over all tags.
///
/// With the other limits it keeps one node's JSON, every byte escaped to six, under 44 kB, so that a record with
/// this device, both endpoints of a connection and the connection always fits into 256 KiB.
pub const MAX_TAGS_LEN: usize = 4096;

/// A network map that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkMapError {
    /// A text of a node is too long to go into records.
    #[error("{field} of node {node:?} has {len} bytes, at most {max} are allowed: shorten it")]
    NodeTextTooLong {
        /// The node.
        node: NodeId,
        /// Which text it is.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A login name is too long to go into records.
    #[error("login of user {user:?} has {len} bytes, at most {max} are allowed: shorten it")]
    LoginTooLong {
        /// The user.
        user: UserId,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
}

impl Node {
    /// The addresses that identify the node.
    pub(crate) fn single_addresses(&self) -> impl DoubleEndedIterator<Item = IpAddr> {
        let single = |prefix: &&IpNet| prefix.prefix_len() == prefix.max_prefix_len();
        self.addresses.iter().filter(single).map(IpNet::addr)
    }
}

/// The owner of an address, as far as records tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The node.
    pub node: Arc<Node>,
    /// Login name of the node's user, where both are known.
    pub login: Option<Arc<str>>,
}

/// The nodes and users of the network at one moment.
#[derive(Debug, Clone, Default)]
pub struct NetworkMap {
    self_node: Option<Arc<Node>>,
    by_address: HashMap<IpAddr, Arc<Node>, foldhash::fast::RandomState>,
    logins: HashMap<UserId, Arc<str>>,
}

impl NetworkMap {
    /// The map of a network with this device (`None` while it is not known), its peers and its users' login names.
    ///
    /// Where two nodes claim an address this device comes first, then the earlier peer.
    ///
    /// # Errors
    ///
    /// [`NetworkMapError`] if a text exceeds its limit.
    pub fn new(
        self_node: Option<Node>,
        peers: impl IntoIterator<Item = Node>,
        users: impl IntoIterator<Item = (UserId, String)>,
    ) -> Result<Self, NetworkMapError> {
        let self_node = self_node.map(Arc::new);
        let mut by_address: HashMap<_, _, foldhash::fast::RandomState> = HashMap::default();
        for node in self_node.iter().cloned().chain(peers.into_iter().map(Arc::new)) {
            check_texts(&node)?;
            for address in node.single_addresses() {
                by_address.entry(address).or_insert_with(|| Arc::clone(&node));
            }
        }
        let mut logins = HashMap::new();
        for (user, login) in users {
            if login.len() > MAX_NAME_LEN {
                return Err(NetworkMapError::LoginTooLong { user, len: login.len(), max: MAX_NAME_LEN });
            }
            logins.insert(user, Arc::from(login));
        }
        Ok(Self { self_node, by_address, logins })
    }

    /// This device, if it is known.
    #[must_use]
    pub fn self_owner(&self) -> Option<Owner> {
        self.self_node.as_ref().map(|node| self.with_login(node))
    }

    /// The number of this device, if it is known.
    #[must_use]
    pub fn self_id(&self) -> Option<NodeId> {
        self.self_node.as_ref().map(|node| node.id)
    }

    /// The node that has exactly this address. Routes play no part.
    #[must_use]
    pub fn node(&self, address: IpAddr) -> Option<&Arc<Node>> {
        self.by_address.get(&address)
    }

    /// The node that has exactly this address, with its user.
    #[must_use]
    pub fn owner(&self, address: IpAddr) -> Option<Owner> {
        self.node(address).map(|node| self.with_login(node))
    }

    fn with_login(&self, node: &Arc<Node>) -> Owner {
        let login = node.user.and_then(|user| self.logins.get(&user)).cloned();
        Owner { node: Arc::clone(node), login }
    }
}

fn check_texts(node: &Node) -> Result<(), NetworkMapError> {
    let tags = node.tags.iter().map(String::len).fold(0_usize, usize::saturating_add);
    let texts = [
        ("stable ID", node.stable_id.len(), MAX_ID_LEN),
        ("name", node.name.len(), MAX_NAME_LEN),
        ("operating system", node.os.len(), MAX_ID_LEN),
        ("tag list", tags.saturating_add(node.tags.len()), MAX_TAGS_LEN),
    ];
    match texts.into_iter().find(|&(_, len, max)| len > max) {
        Some((field, len, max)) => Err(NetworkMapError::NodeTextTooLong { node: node.id, field, len, max }),
        None => Ok(()),
    }
}

/// The addresses that belong to the network without being a node's: what lies behind subnet routers.
///
/// Default routes are left out, since they say where the rest goes and not what belongs to the network. A default
/// route that was split in two halves, as many VPN apps do to keep the original one, counts as one too: otherwise
/// all traffic to the Internet would pass for subnet traffic and be recorded with its addresses. One half alone is an
/// ordinary route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    /// Sorted, without overlaps; both ends belong to the range. IPv4 and IPv6 apart, since an IPv4-mapped IPv6
    /// address is never within an IPv4 route.
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Routes {
    /// The routes of a router configuration: its own addresses, the routes into the tunnel, and the subnets that
    /// this device serves.
    #[must_use]
    pub fn new(
        local: impl IntoIterator<Item = IpNet>,
        routes: impl IntoIterator<Item = IpNet>,
        subnet_routes: impl IntoIterator<Item = IpNet>,
    ) -> Self {
        let prefixes: HashSet<IpNet> =
            local.into_iter().chain(routes).chain(subnet_routes).map(|prefix| prefix.trunc()).collect();
        let both_halves = |v4: bool| {
            let halves = prefixes.iter().filter(|p| p.prefix_len() == 1 && p.addr().is_ipv4() == v4);
            halves.count() == 2
        };
        let (split_v4, split_v6) = (both_halves(true), both_halves(false));
        let mut v4 = BTreeSet::new();
        let mut v6 = BTreeSet::new();
        for prefix in prefixes {
            match prefix {
                _ if prefix.prefix_len() == 0 => {}
                IpNet::V4(p) if !(split_v4 && p.prefix_len() == 1) => {
                    v4.insert((p.network().to_bits(), p.broadcast().to_bits()));
                }
                IpNet::V6(p) if !(split_v6 && p.prefix_len() == 1) => {
                    v6.insert((p.network().to_bits(), p.broadcast().to_bits()));
                }
                IpNet::V4(_) | IpNet::V6(_) => {}
            }
        }
        Self { v4: without_overlaps(v4), v6: without_overlaps(v6) }
    }

    /// Whether a route other than a default route leads to the address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => within(&self.v4, address.to_bits()),
            IpAddr::V6(address) => within(&self.v6, address.to_bits()),
        }
    }
}

fn without_overlaps<T: Ord + Copy>(sorted: BTreeSet<(T, T)>) -> Vec<(T, T)> {
    let mut ranges: Vec<(T, T)> = Vec::with_capacity(sorted.len());
    for (start, end) in sorted {
        match ranges.last_mut() {
            Some((_, last)) if start <= *last => *last = (*last).max(end),
            _ => ranges.push((start, end)),
        }
    }
    ranges
}

fn within<T: Ord + Copy>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|&(start, _)| start <= value);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|&(_, end)| value <= end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(prefixes: &[&str]) -> Vec<IpNet> {
        prefixes.iter().map(|p| p.parse().unwrap()).collect()
    }

    fn contains(routes: &[&str], address: &str) -> bool {
        Routes::new([], nets(routes), []).contains(address.parse().unwrap())
    }

    fn node(id: i64, addresses: &[&str]) -> Node {
        Node {
            id: NodeId(id),
            stable_id: format!("n{id}"),
            name: String::new(),
            addresses: nets(addresses),
            os: String::new(),
            user: None,
            tags: Vec::new(),
        }
    }

    #[test]
    fn routes_contain_their_prefixes_and_single_addresses_only() {
        let routes = ["10.0.0.0/8", "10.1.0.0/16", "192.168.7.1/24", "100.64.0.2/32", "fd00::/8"];
        for inside in ["10.0.0.0", "10.255.255.255", "192.168.7.200", "100.64.0.2", "fd12::1"] {
            assert!(contains(&routes, inside), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "100.64.0.3", "fe80::1", "::ffff:10.0.0.1"] {
            assert!(!contains(&routes, outside), "{outside}");
        }
    }

    #[test]
    fn default_routes_contain_nothing_also_when_split_in_halves() {
        assert!(!contains(&["0.0.0.0/0", "::/0"], "8.8.8.8"));
        assert!(!contains(&["0.0.0.0/1", "128.0.0.0/1"], "8.8.8.8"));
        assert!(!contains(&["::/1", "8000::/1"], "2001:db8::1"));
        assert!(contains(&["0.0.0.0/1", "128.0.0.0/1", "8.0.0.0/8"], "8.8.8.8"));
        assert!(contains(&["0.0.0.0/1", "8000::/1"], "8.8.8.8"), "one half is an ordinary route");
        assert!(!contains(&["0.0.0.0/1", "8000::/1"], "200.0.0.1"));
    }

    #[test]
    fn halves_of_a_default_route_are_found_across_the_lists() {
        let routes = Routes::new(nets(&["0.0.0.0/1"]), [], nets(&["128.0.0.1/1"]));
        assert!(!routes.contains("8.8.8.8".parse().unwrap()));
    }

    #[test]
    fn only_single_addresses_identify_a_node_and_this_device_comes_first() {
        let map = NetworkMap::new(
            Some(node(1, &["100.64.0.1/32"])),
            [node(2, &["100.64.0.1/32", "10.0.0.0/8", "fd00::2/128"])],
            [],
        )
        .unwrap();
        let id = |address: &str| map.node(address.parse().unwrap()).map(|node| node.id.0);
        assert_eq!(id("100.64.0.1"), Some(1));
        assert_eq!(id("fd00::2"), Some(2));
        assert_eq!(id("10.0.0.0"), None);
    }

    #[test]
    fn texts_that_could_not_fit_into_a_record_are_refused_with_the_reason() {
        let long = Node { name: "x".repeat(MAX_NAME_LEN + 1), ..node(7, &[]) };
        let error = NetworkMap::new(None, [long], []).unwrap_err();
        assert_eq!(
            error.to_string(),
            "name of node NodeId(7) has 1025 bytes, at most 1024 are allowed: shorten it"
        );
    }
}
