//! Which kind of traffic a connection is.

use std::net::IpAddr;

use crate::netmap::{NetworkMap, NodeId, Routes};

/// The kinds of traffic that records tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum TrafficClass {
    /// From this device to a node of the network.
    Virtual,
    /// To or from a network behind a subnet router.
    Subnet,
    /// Through an exit node, as its client or as the exit node itself.
    Exit,
    /// None of the above can be told; recorded and anonymised like exit traffic.
    Unknown,
    /// Datagrams of the tunnel itself.
    Physical,
}

impl TrafficClass {
    /// How many classes there are.
    pub(super) const COUNT: usize = 5;

    /// All classes, in the order of [`Self::pick_mut`].
    pub(super) const ALL: [Self; Self::COUNT] =
        [Self::Virtual, Self::Subnet, Self::Exit, Self::Unknown, Self::Physical];

    /// The element of this class.
    pub(super) fn pick_mut<T>(self, all: &mut [T; Self::COUNT]) -> &mut T {
        let [virt, subnet, exit, unknown, physical] = all;
        match self {
            Self::Virtual => virt,
            Self::Subnet => subnet,
            Self::Exit => exit,
            Self::Unknown => unknown,
            Self::Physical => physical,
        }
    }

    /// Whether the class falls under the rules for exit traffic.
    pub(super) const fn is_exit(self) -> bool {
        matches!(self, Self::Exit | Self::Unknown)
    }
}

/// The network as it was from one moment to the next change.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) map: NetworkMap,
    pub(super) routes: Routes,
}

/// An endpoint of a connection as the network sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endpoint {
    pub(super) address: Option<IpAddr>,
    /// The node that has the address.
    pub(super) node: Option<NodeId>,
}

impl Snapshot {
    /// The class of a virtual connection, by the rules of Tailscale's flow logs. First match wins; the routes are
    /// only asked where they decide.
    pub(super) fn classify(&self, self_id: Option<NodeId>, src: Endpoint, dst: Endpoint) -> TrafficClass {
        let routed = |end: Endpoint| end.address.is_some_and(|address| self.routes.contains(address));
        let src_is_self = src.node.is_some() && src.node == self_id;
        match (src_is_self, dst.node.is_some()) {
            (true, true) => TrafficClass::Virtual,
            (true, false) if routed(dst) => TrafficClass::Subnet,
            (true, false) => TrafficClass::Exit,
            (false, true) if routed(src) => TrafficClass::Subnet,
            (false, true) => TrafficClass::Exit,
            (false, false) => TrafficClass::Unknown,
        }
    }

    /// An address with its node in this state of the network.
    pub(super) fn endpoint(&self, address: Option<IpAddr>) -> Endpoint {
        let node = address.and_then(|address| self.map.node(address)).map(|node| node.id);
        Endpoint { address, node }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::testing;

    #[test]
    fn each_rule_gives_its_class() {
        use TrafficClass::{Exit, Subnet, Unknown, Virtual};
        let snapshot = testing::snapshot();
        let class = |src: &str, dst: &str| {
            let end = |text: &str| snapshot.endpoint(text.parse().ok());
            snapshot.classify(snapshot.map.self_id(), end(src), end(dst))
        };
        assert_eq!(class("100.64.0.1", "100.64.0.2"), Virtual);
        assert_eq!(class("100.64.0.1", "100.64.0.1"), Virtual, "to itself");
        assert_eq!(class("100.64.0.1", "10.1.2.3"), Subnet, "client of a subnet router");
        assert_eq!(class("100.64.0.1", "8.8.8.8"), Exit, "client of an exit node");
        assert_eq!(class("100.64.0.1", "100.64.0.99"), Exit, "an address that no node owns");
        assert_eq!(class("10.1.2.3", "100.64.0.2"), Subnet, "serving a subnet");
        assert_eq!(class("192.168.2.241", "100.64.0.1"), Exit, "also towards this device");
        assert_eq!(class("100.64.0.2", "100.64.0.10"), Subnet, "forwarding for a routed node");
        assert_eq!(class("100.64.0.10", "100.64.0.2"), Exit, "forwarding for a node without route");
        assert_eq!(class("1.2.3.4", "5.6.7.8"), Unknown);
        assert_eq!(class("-", "-"), Unknown, "no addresses");
        assert_eq!(
            snapshot.classify(
                None,
                snapshot.endpoint("100.64.0.1".parse().ok()),
                snapshot.endpoint("100.64.0.2".parse().ok())
            ),
            Subnet,
            "nothing is from this device while that is unknown"
        );
    }
}
