//! A session as it is sent: the record of newt's access log, member for member.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::ResourceId;
use crate::{
    flow::{message::rfc3339, table::is_zero},
    hook::Protocol,
};

/// One session, or several that were consolidated. It has ended: there is no record of an active one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessSession {
    /// Of several sessions, the one that started first.
    pub session_id: SessionId,
    /// The resource that was used.
    pub resource_id: ResourceId,
    /// Who used it. Without port if several sessions with different source ports were consolidated.
    pub source_addr: SourceAddr,
    /// What they used.
    pub dest_addr: SocketAddr,
    /// `tcp`, `udp`, or another protocol's name or number.
    #[serde(with = "protocol_name")]
    pub protocol: Protocol,
    /// Wall-clock time of the first sign of life.
    #[serde(with = "rfc3339")]
    pub started_at: Timestamp,
    /// `started_at` plus the monotonic time to the last sign of life.
    #[serde(with = "rfc3339")]
    pub ended_at: Timestamp,
    /// Bytes from the source to the resource.
    #[serde(default)]
    pub bytes_tx: u64,
    /// Bytes from the resource to the source.
    #[serde(default)]
    pub bytes_rx: u64,
    /// How many sessions this stands for, where that was looked at: 0, which is not written, for one that had nothing
    /// to be consolidated with. See [`Self::connections`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub connection_count: u64,
    /// An extension; not written for sessions that came about.
    #[serde(default, skip_serializing_if = "Outcome::is_established")]
    pub outcome: Outcome,
}

impl AccessSession {
    /// How many sessions this stands for, at least 1.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connection_count.max(1)
    }
}

/// Whether a session came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// There was a connection to the resource.
    #[default]
    Established,
    /// There was none, for example because the resource refused it.
    Failed,
}

impl Outcome {
    fn is_established(&self) -> bool {
        *self == Self::Established
    }
}

/// Names a session: 8 random bytes, written as 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 8]);

impl SessionId {
    /// Makes a new one from the system's random numbers.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|error| D::Error::custom(format!("session id {text:?}: {error}")))
    }
}

/// Where sessions came from: `10.0.0.1:40000`, `[fd00::1]:40000`, or without port `10.0.0.1`, `fd00::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceAddr {
    /// The address.
    pub ip: IpAddr,
    /// The port, or `None` where there were several.
    pub port: Option<u16>,
}

impl From<SocketAddr> for SourceAddr {
    fn from(end: SocketAddr) -> Self {
        Self { ip: end.ip(), port: Some(end.port()) }
    }
}

impl fmt::Display for SourceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

impl FromStr for SourceAddr {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<SocketAddr>() {
            Ok(end) => Ok(end.into()),
            Err(_) => text.parse().map(|ip| Self { ip, port: None }),
        }
    }
}

impl Serialize for SourceAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SourceAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|error| D::Error::custom(format!("source address {text:?}: {error}")))
    }
}

/// Protocols as texts: the name where they have one, otherwise the number.
mod protocol_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::hook::Protocol;

    /// The protocols that [`Protocol`] prints by name.
    const NAMED: [Protocol; 7] = [
        Protocol::TCP,
        Protocol::UDP,
        Protocol::ICMPV4,
        Protocol::ICMPV6,
        Protocol::SCTP,
        Protocol::IGMP,
        Protocol::TSMP,
    ];

    pub(super) fn serialize<S: Serializer>(protocol: &Protocol, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(protocol)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Protocol, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let named = NAMED.into_iter().find(|protocol| protocol.to_string() == text);
        named
            .or_else(|| text.parse().ok().map(Protocol))
            .ok_or_else(|| D::Error::custom(format!("{text:?} is neither a protocol's name nor its number")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::session::testing::session;

    #[test]
    fn a_session_has_newts_members_in_newts_order() {
        let mut session = session("100.90.0.1:40000", "10.0.0.1:22", 0, 1_500);
        session.session_id = "00a1b2c3d4e5f607".parse().unwrap();
        (session.bytes_tx, session.bytes_rx) = (0, 7);
        let json = serde_json::to_string(&session).unwrap();
        assert_eq!(
            json,
            r#"{"sessionId":"00a1b2c3d4e5f607","resourceId":1,"sourceAddr":"100.90.0.1:40000","destAddr":"10.0.0.1:22","protocol":"tcp","startedAt":"2026-01-02T03:04:05Z","endedAt":"2026-01-02T03:04:06.5Z","bytesTx":0,"bytesRx":7}"#
        );
        assert_eq!(serde_json::from_str::<AccessSession>(&json).unwrap(), session);
    }

    #[test]
    fn counts_and_failure_are_written_only_where_there_are_any() {
        let mut session = session("100.90.0.1:40000", "10.0.0.1:22", 0, 0);
        (session.connection_count, session.outcome) = (3, Outcome::Failed);
        let json = serde_json::to_string(&session).unwrap();
        assert!(json.ends_with(r#","bytesRx":0,"connectionCount":3,"outcome":"failed"}"#), "{json}");
        assert_eq!(serde_json::from_str::<AccessSession>(&json).unwrap(), session);
    }

    #[test]
    fn an_ipv6_address_has_brackets_exactly_where_a_port_follows() {
        for text in ["[fd7a::1]:443", "fd7a::1", "10.0.0.1:443", "10.0.0.1"] {
            assert_eq!(text.parse::<SourceAddr>().unwrap().to_string(), text);
        }
        assert!("fd7a::1:not-a-port".parse::<SourceAddr>().is_err());
    }

    #[test]
    fn ids_are_sixteen_digits_and_differ() {
        let [one, two] = [(); 2].map(|()| SessionId::generate().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.to_string().len(), 16);
        assert_eq!(one.to_string().parse::<SessionId>().unwrap(), one);
        assert!("00a1".parse::<SessionId>().is_err());
    }

    #[test]
    fn protocols_without_a_name_are_numbers() {
        let mut session = session("100.90.0.1:0", "10.0.0.1:0", 0, 0);
        for (protocol, text) in [(Protocol::ICMPV6, r#""ipv6-icmp""#), (Protocol(47), r#""47""#)] {
            session.protocol = protocol;
            let json = serde_json::to_string(&session).unwrap();
            assert!(json.contains(text), "{json}");
            assert_eq!(serde_json::from_str::<AccessSession>(&json).unwrap().protocol, protocol);
        }
    }
}
