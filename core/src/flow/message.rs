//! The flow record as it is stored and sent: the network-log message of Tailscale, member for member.
//!
//! Plain data. Writing keeps the order of the members and leaves out what is empty; reading takes members in any
//! order and ignores those it does not know.

use std::{
    cmp::Ordering,
    net::{IpAddr, SocketAddr},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::table::{Counts, is_zero};
use crate::{hook::Protocol, netmap::Owner};

/// The connections of one window.
///
/// A window that is too large for one message is spread over several with the same start and end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Stable ID of this device, empty while it is not known.
    #[serde(default)]
    pub node_id: String,
    /// Wall-clock time of the window's first packet.
    #[serde(with = "rfc3339")]
    pub start: Timestamp,
    /// When the window was closed: `start` plus the time that passed on the monotonic clock, so that a step of the
    /// wall clock makes no window negative or years long.
    #[serde(with = "rfc3339")]
    pub end: Timestamp,
    /// This device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_node: Option<NodeInfo>,
    /// The other nodes whose addresses occur, sorted by the bytes of their IDs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dst_nodes: Vec<NodeInfo>,
    /// Connections between this device and other nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub virtual_traffic: Vec<ConnectionCounts>,
    /// Connections to or from networks behind subnet routers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnet_traffic: Vec<ConnectionCounts>,
    /// Connections through exit nodes, and those that fit no other kind; anonymised unless it was opted out of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit_traffic: Vec<ConnectionCounts>,
    /// Datagrams of the tunnel: `src` is the peer's address in the network, `dst` its UDP endpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub physical_traffic: Vec<ConnectionCounts>,
    /// Packets of this window whose connections found no room in the table. They are counted in the connections
    /// without addresses of their kind of traffic. An extension; not written when 0.
    #[serde(rename = "overflowPkts", default, skip_serializing_if = "is_zero")]
    pub overflow_packets: u64,
}

/// A node as it appears in a message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeInfo {
    /// Stable ID.
    #[serde(default)]
    pub node_id: String,
    /// DNS name without the trailing dot.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// At most one IPv4 and one IPv6 address, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Operating system.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub os: String,
    /// Login name of the owner; never together with tags.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Tags, sorted, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl From<&Owner> for NodeInfo {
    fn from(owner: &Owner) -> Self {
        let node = owner.node.as_ref();
        // Of several addresses of a family the last one is recorded, as upstream does.
        let last = |v4: bool| {
            let mut of_family = node.single_addresses().filter(|address| address.is_ipv4() == v4);
            of_family.next_back()
        };
        let mut tags = node.tags.clone();
        tags.sort_unstable();
        tags.dedup();
        let user = match (&owner.login, tags.is_empty()) {
            (Some(login), true) => login.to_string(),
            _ => String::new(),
        };
        Self {
            node_id: node.stable_id.clone(),
            name: node.name.strip_suffix('.').unwrap_or(&node.name).to_owned(),
            addresses: last(true).into_iter().chain(last(false)).collect(),
            os: node.os.clone(),
            user,
            tags,
        }
    }
}

/// One connection and its counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionCounts {
    /// IP protocol; not written when unknown, and always unknown in physical traffic.
    #[serde(
        rename = "proto",
        with = "protocol",
        default = "unknown_protocol",
        skip_serializing_if = "protocol::is_unknown"
    )]
    pub protocol: Protocol,
    /// Local side, or `None` where it is not known or not told.
    #[serde(default, deserialize_with = "endpoint", skip_serializing_if = "Option::is_none")]
    pub src: Option<SocketAddr>,
    /// Remote side, under the same rules.
    #[serde(default, deserialize_with = "endpoint", skip_serializing_if = "Option::is_none")]
    pub dst: Option<SocketAddr>,
    /// The counts.
    #[serde(flatten)]
    pub counts: Counts,
}

impl ConnectionCounts {
    /// The order of a list of connections: by source, destination, protocol, where no address comes before IPv4 and
    /// IPv4 before IPv6.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.src
            .cmp(&other.src)
            .then_with(|| self.dst.cmp(&other.dst))
            .then_with(|| self.protocol.cmp(&other.protocol))
    }
}

const fn unknown_protocol() -> Protocol {
    Protocol::UNKNOWN
}

/// An endpoint as text, where an empty text means none.
fn endpoint<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let expected = "an address with port, such as 100.64.0.1:443 or [fd7a::1]:53";
        serde::de::Error::invalid_value(serde::de::Unexpected::Str(&text), &expected)
    })
}

/// Times as RFC 3339 in UTC with as many fractional digits as needed.
pub(super) mod rfc3339 {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::flow) fn serialize<S: Serializer>(
        time: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(in crate::flow) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Protocols as numbers; names and numbers in quotes are read, too.
pub(super) mod protocol {
    use std::fmt;

    use serde::{Deserializer, Serializer, de};

    use crate::hook::Protocol;

    /// Names that protocol numbers may go by, without regard to case.
    const NAMES: [(&str, u8); 18] = [
        ("ah", 51),
        ("dccp", 33),
        ("egp", 8),
        ("esp", 50),
        ("gre", 47),
        ("icmp", 1),
        ("icmpv4", 1),
        ("icmpv6", 58),
        ("igmp", 2),
        ("igp", 9),
        ("ip-in-ip", 4),
        ("ipv4", 4),
        ("ipv6-icmp", 58),
        ("sctp", 132),
        ("tcp", 6),
        ("tsmp", 99),
        ("udp", 17),
        ("", 0),
    ];

    pub(in crate::flow) fn is_unknown(protocol: &Protocol) -> bool {
        *protocol == Protocol::UNKNOWN
    }

    pub(in crate::flow) fn serialize<S: Serializer>(
        protocol: &Protocol,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(protocol.0)
    }

    pub(in crate::flow) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Protocol, D::Error> {
        deserializer.deserialize_any(NumberOrName)
    }

    struct NumberOrName;

    impl de::Visitor<'_> for NumberOrName {
        type Value = Protocol;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a protocol number from 0 to 255 or the name of a protocol")
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Protocol, E> {
            let invalid = |_| E::invalid_value(de::Unexpected::Unsigned(number), &self);
            u8::try_from(number).map(Protocol).map_err(invalid)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Protocol, E> {
            let named = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
            let number = named.map(|&(_, number)| number).or_else(|| text.parse().ok());
            number.map(Protocol).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_in_any_order_and_unknown_ones_ignored() {
        let message: Message = serde_json::from_str(
            r#"{"logged":"2026-03-01T10:00:06Z","end":"2026-03-01T10:00:05.250113Z","exitTraffic":[
                {"txPkts":1,"dst":"","src":"[fd7a::1]:53","proto":"UDP","rxBytes":18446744073709551615}],
                "start":"2026-03-01T10:00:00.25Z","nodeId":"n1"}"#,
        )
        .unwrap();
        assert_eq!(message.node_id, "n1");
        let row = message.exit_traffic[0];
        assert_eq!(row.protocol, Protocol::UDP);
        assert_eq!((row.src, row.dst), ("[fd7a::1]:53".parse().ok(), None));
        assert_eq!((row.counts.tx_packets, row.counts.rx_bytes), (1, u64::MAX));
    }

    #[test]
    fn protocols_are_read_as_number_text_or_name() {
        let protocol = |text: &str| {
            let row: Result<ConnectionCounts, _> = serde_json::from_str(&format!(r#"{{"proto":{text}}}"#));
            row.map(|row| row.protocol.0).ok()
        };
        assert_eq!(protocol("6"), Some(6));
        assert_eq!(protocol("\"6\""), Some(6));
        assert_eq!(protocol("\"IPv6-ICMP\""), Some(58));
        assert_eq!(protocol("\"\""), Some(0));
        assert_eq!(protocol("\"nonsense\""), None);
        assert_eq!(protocol("256"), None);
    }
}
