//! What a counter needs to know of an inner IP packet: protocol, endpoints, TCP flags and lengths.
//!
//! Called once per packet on the packet thread; never allocates, never fails. The rules are those of Tailscale's
//! packet decoder, so that records are comparable: what it can't place gets protocol 0, with addresses where the IP
//! header itself is sound. Ports are read only from whole TCP, UDP and SCTP headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::hook::{Connection, Direction, Protocol};

/// The addresses of a packet as they stand in its IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// The IP header is cut, of another version, or longer than the packet.
    None,
    /// IPv4.
    V4 {
        /// Source address.
        src: [u8; 4],
        /// Destination address.
        dst: [u8; 4],
    },
    /// IPv6.
    V6 {
        /// Source address.
        src: [u8; 16],
        /// Destination address.
        dst: [u8; 16],
    },
}

/// The flag bits of a TCP header (RFC 9293, 3.1); all clear for other protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// The acknowledgement number is valid.
    pub const ACK: Self = Self(0x10);

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The decoded headers of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Transport protocol, [`Protocol::UNKNOWN`] if the packet is damaged or the protocol is not followed.
    pub protocol: Protocol,
    /// Source and destination address.
    pub addresses: Addresses,
    /// Source port, 0 where the protocol has none.
    pub src_port: u16,
    /// Destination port, 0 where the protocol has none.
    pub dst_port: u16,
    /// TCP flags.
    pub tcp_flags: TcpFlags,
    /// Bytes after the transport header, as far as they are in the packet. 0 where the protocol has no ports.
    pub payload_len: u16,
}

/// Later fragments that start below this offset, in units of 8 bytes, could overlap a transport header (the longest
/// IP and TCP headers together are 80 bytes) and are not trusted to be fragments of what they claim.
const MIN_FRAGMENT_OFFSET: u16 = 80 / 8;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const IPV6_FRAGMENT_HEADER: usize = 8;
const IPV6_HOP_BY_HOP: u8 = 0;
const IPV6_FRAGMENT: u8 = 44;

/// What stands behind the IP header. Small enough for registers, so that the addresses are written only once, into
/// the finished [`Header`].
#[derive(Clone, Copy)]
struct Transport {
    protocol: Protocol,
    tcp_flags: TcpFlags,
    src_port: u16,
    dst_port: u16,
    payload_len: u16,
}

impl Header {
    const UNDECODABLE: Self = Self::new(Addresses::None, Transport::UNKNOWN);

    #[inline]
    const fn new(addresses: Addresses, transport: Transport) -> Self {
        let Transport { protocol, tcp_flags, src_port, dst_port, payload_len } = transport;
        Self { protocol, addresses, src_port, dst_port, tcp_flags, payload_len }
    }

    /// Decodes the packet. Any bytes are legal, also none.
    #[must_use]
    #[inline]
    pub fn parse(packet: &[u8]) -> Self {
        match packet.first().map(|first| first >> 4) {
            Some(4) => Self::parse_v4(packet),
            Some(6) => Self::parse_v6(packet),
            _ => Self::UNDECODABLE,
        }
    }

    /// The endpoints as a counter wants them: the local side first. For a received packet that is the destination.
    #[must_use]
    pub fn connection(&self, direction: Direction) -> Connection {
        let (src, dst) = match self.addresses {
            Addresses::None => (None, None),
            Addresses::V4 { src, dst } => {
                (Some(IpAddr::V4(Ipv4Addr::from(src))), Some(IpAddr::V4(Ipv4Addr::from(dst))))
            }
            Addresses::V6 { src, dst } => {
                (Some(IpAddr::V6(Ipv6Addr::from(src))), Some(IpAddr::V6(Ipv6Addr::from(dst))))
            }
        };
        let src = src.map(|ip| SocketAddr::new(ip, self.src_port));
        let dst = dst.map(|ip| SocketAddr::new(ip, self.dst_port));
        let (src, dst) = match direction {
            Direction::Tx => (src, dst),
            Direction::Rx => (dst, src),
        };
        Connection { protocol: self.protocol, src, dst }
    }

    /// The identifier of an ICMP or ICMPv6 echo request or reply. `packet` is what the header was decoded from.
    #[must_use]
    pub fn echo_id(&self, packet: &[u8]) -> Option<u16> {
        let (start, echo) = match (self.addresses, self.protocol) {
            (Addresses::V4 { .. }, Protocol::ICMPV4) => (usize::from(packet.first()? & 0x0f) * 4, [8, 0]),
            (Addresses::V6 { .. }, Protocol::ICMPV6) if *packet.get(6)? == IPV6_FRAGMENT => {
                (IPV6_HEADER + IPV6_FRAGMENT_HEADER, [128, 129])
            }
            (Addresses::V6 { .. }, Protocol::ICMPV6) => (IPV6_HEADER, [128, 129]),
            _ => return None,
        };
        let &[kind, _, _, _, high, low, ..] = packet.get(start..)?.first_chunk::<8>()?;
        echo.contains(&kind).then(|| u16::from_be_bytes([high, low]))
    }

    #[inline]
    fn parse_v4(packet: &[u8]) -> Self {
        let Some(ip) = packet.first_chunk::<IPV4_HEADER>() else {
            return Self::UNDECODABLE;
        };
        let &[
            version_and_words,
            _,
            len_high,
            len_low,
            _,
            _,
            fragment_high,
            fragment_low,
            _,
            protocol,
            _,
            _,
            rest @ ..,
        ] = ip;
        let total_len = usize::from(u16::from_be_bytes([len_high, len_low]));
        if packet.len() < total_len {
            return Self::UNDECODABLE;
        }
        let [s0, s1, s2, s3, d0, d1, d2, d3] = rest;
        let header_len = usize::from(version_and_words & 0x0f) * 4;
        let fragment = u16::from_be_bytes([fragment_high, fragment_low]);
        let transport = if header_len > total_len {
            Transport::UNKNOWN
        } else {
            let transport = packet.get(header_len..).unwrap_or_default();
            let more_fragments = fragment & 0x2000 != 0;
            match fragment & 0x1fff {
                0 => Transport::parse_v4(protocol, transport, more_fragments),
                offset => Transport::later_fragment(offset),
            }
        };
        Self::new(Addresses::V4 { src: [s0, s1, s2, s3], dst: [d0, d1, d2, d3] }, transport)
    }

    #[inline]
    fn parse_v6(packet: &[u8]) -> Self {
        let Some((ip, rest)) = packet.split_first_chunk::<IPV6_HEADER>() else {
            return Self::UNDECODABLE;
        };
        let &[_, _, _, _, len_high, len_low, next_header, _, ref addresses @ ..] = ip;
        if rest.len() < usize::from(u16::from_be_bytes([len_high, len_low])) {
            return Self::UNDECODABLE;
        }
        let (Some(&src), Some(&dst)) = (addresses.first_chunk::<16>(), addresses.last_chunk::<16>()) else {
            return Self::UNDECODABLE;
        };
        let transport = if next_header != IPV6_FRAGMENT {
            Transport::parse_v6(next_header, rest)
        } else if let Some((fragment, transport)) = rest.split_first_chunk::<IPV6_FRAGMENT_HEADER>() {
            let &[next_header, _, offset_high, offset_low, ..] = fragment;
            match u16::from_be_bytes([offset_high, offset_low]) >> 3 {
                0 => Transport::parse_v6(next_header, transport),
                offset => Transport::later_fragment(offset),
            }
        } else {
            Transport::UNKNOWN
        };
        Self::new(Addresses::V6 { src, dst }, transport)
    }
}

impl Transport {
    const UNKNOWN: Self = Self::without_ports(Protocol::UNKNOWN);

    #[inline]
    const fn without_ports(protocol: Protocol) -> Self {
        Self { protocol, tcp_flags: TcpFlags(0), src_port: 0, dst_port: 0, payload_len: 0 }
    }

    #[inline]
    fn parse_v4(protocol: u8, transport: &[u8], more_fragments: bool) -> Self {
        match Protocol(protocol) {
            Protocol::ICMPV4 => Self::known_if(Protocol::ICMPV4, transport.len() >= 4),
            Protocol::IGMP => Self::known_if(Protocol::IGMP, transport.len() >= 8),
            Protocol::TSMP => Self::known_if(Protocol::TSMP, transport.len() >= 7 && !more_fragments),
            protocol => Self::parse(protocol, transport),
        }
    }

    #[inline]
    fn parse_v6(next_header: u8, transport: &[u8]) -> Self {
        match Protocol(next_header) {
            Protocol(IPV6_HOP_BY_HOP) => Self::UNKNOWN,
            Protocol::ICMPV6 => Self::known_if(Protocol::ICMPV6, transport.len() >= 4),
            Protocol::TSMP => Self::known_if(Protocol::TSMP, transport.len() >= 7),
            protocol => Self::parse(protocol, transport),
        }
    }

    #[inline]
    fn parse(protocol: Protocol, transport: &[u8]) -> Self {
        match protocol {
            Protocol::TCP => {
                let Some(&[s0, s1, d0, d1, _, _, _, _, _, _, _, _, words, flags, ..]) =
                    transport.first_chunk::<20>()
                else {
                    return Self::UNKNOWN;
                };
                let header_len = usize::from(words >> 4) * 4;
                Self {
                    tcp_flags: TcpFlags(flags),
                    ..Self::with_ports([s0, s1, d0, d1], protocol, transport, header_len)
                }
            }
            Protocol::UDP => match transport.first_chunk::<8>() {
                Some(&[s0, s1, d0, d1, ..]) => Self::with_ports([s0, s1, d0, d1], protocol, transport, 8),
                None => Self::UNKNOWN,
            },
            Protocol::SCTP => match transport.first_chunk::<12>() {
                Some(&[s0, s1, d0, d1, ..]) => Self::with_ports([s0, s1, d0, d1], protocol, transport, 12),
                None => Self::UNKNOWN,
            },
            Protocol::FRAGMENT => Self::UNKNOWN,
            protocol => Self::without_ports(protocol),
        }
    }

    #[inline]
    fn with_ports(ports: [u8; 4], protocol: Protocol, transport: &[u8], header_len: usize) -> Self {
        let [s0, s1, d0, d1] = ports;
        let payload_len = transport.len().saturating_sub(header_len);
        Self {
            protocol,
            tcp_flags: TcpFlags(0),
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
            payload_len: u16::try_from(payload_len).unwrap_or(u16::MAX),
        }
    }

    #[inline]
    fn known_if(protocol: Protocol, whole: bool) -> Self {
        if whole { Self::without_ports(protocol) } else { Self::UNKNOWN }
    }

    #[inline]
    fn later_fragment(offset: u16) -> Self {
        Self::known_if(Protocol::FRAGMENT, offset >= MIN_FRAGMENT_OFFSET)
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    use super::*;

    const VECTORS: &str = include_str!("../../tests/vectors/packet_headers.jsonl");

    #[test]
    fn the_vectors_are_decoded_as_upstream_does() {
        for line in VECTORS.lines() {
            let vector: serde_json::Value = serde_json::from_str(line).unwrap();
            let packet = hex::decode(vector["hex"].as_str().unwrap()).unwrap();
            let connection = Header::parse(&packet).connection(Direction::Tx);
            let text = |end: Option<SocketAddr>| end.map(|end| end.to_string()).unwrap_or_default();
            assert_eq!(u64::from(connection.protocol.0), vector["proto"].as_u64().unwrap(), "{line}");
            assert_eq!(text(connection.src), vector["src"], "{line}");
            assert_eq!(text(connection.dst), vector["dst"], "{line}");
        }
        assert!(VECTORS.lines().count() >= 400);
    }

    #[test]
    fn a_received_packet_has_the_local_side_first() {
        let mut packet = [0_u8; 28];
        (packet[0], packet[3], packet[9]) = (0x45, 28, 17);
        (packet[12], packet[16], packet[21], packet[23]) = (10, 20, 1, 2);
        let connection = Header::parse(&packet).connection(Direction::Rx);
        assert_eq!(connection.src, "20.0.0.0:2".parse().ok());
        assert_eq!(connection.dst, "10.0.0.0:1".parse().ok());
    }

    #[test]
    fn only_echoes_have_an_identifier() {
        let id = |packet: &[u8]| Header::parse(packet).echo_id(packet);
        let v4 = |kind, options: u8, len: u8| {
            let header_len = 20 + options;
            let mut packet = vec![0x40 | (header_len / 4), 0, 0, header_len + len, 0, 0, 0, 0, 64, 1, 0, 0];
            packet.resize(usize::from(header_len), 1);
            packet.extend(&[kind, 0, 0, 0, 0xab, 0xcd, 0, 1][..usize::from(len)]);
            id(&packet)
        };
        let v6 = |kind, next_header| {
            let mut packet = vec![0x60, 0, 0, 0, 0, 16, next_header, 64];
            packet.extend([0; 32]);
            if next_header == IPV6_FRAGMENT {
                packet.extend([58, 0, 0, 1, 0, 0, 0, 9]);
            }
            packet.extend([kind, 0, 0, 0, 0xab, 0xcd, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
            id(&packet)
        };
        assert_eq!([8, 0].map(|kind| v4(kind, 0, 8)), [Some(0xabcd); 2]);
        assert_eq!(v4(8, 12, 8), Some(0xabcd), "after options");
        assert_eq!([3, 11, 128].map(|kind| v4(kind, 0, 8)), [None; 3]);
        assert_eq!(v4(8, 0, 7), None, "cut");
        assert_eq!([128, 129].map(|kind| v6(kind, 58)), [Some(0xabcd); 2]);
        assert_eq!(v6(128, IPV6_FRAGMENT), Some(0xabcd), "first fragment");
        assert_eq!([1, 8, 135].map(|kind| v6(kind, 58)), [None; 3]);
        assert_eq!(v6(8, 1), None, "ICMP for IPv4 has no place in IPv6");
        assert_eq!(id(&[]), None);
    }

    proptest! {
        /// A second opinion on packets without damage: TCP and UDP over IPv4 with options and over IPv6.
        #[test]
        fn well_formed_packets_are_decoded_as_etherparse_does(
            v6 in any::<bool>(),
            tcp in any::<bool>(),
            option_words in 0..11_u8,
            tcp_option_words in 0..11_u8,
            addresses in any::<[u8; 32]>(),
            ports in any::<[u8; 4]>(),
            flags in any::<u8>(),
            payload in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut transport = ports.to_vec();
            if tcp {
                transport.extend([0; 8]);
                transport.extend([(5 + tcp_option_words) << 4, flags, 0, 0, 0, 0, 0, 0]);
                transport.extend(vec![1; usize::from(tcp_option_words) * 4]);
            } else {
                transport.extend((8 + payload.len() as u16).to_be_bytes());
                transport.extend([0; 2]);
            }
            transport.extend(&payload);
            let protocol = if tcp { 6 } else { 17 };
            let mut packet = Vec::new();
            if v6 {
                packet.extend([0x60, 0, 0, 0]);
                packet.extend((transport.len() as u16).to_be_bytes());
                packet.extend([protocol, 64]);
                packet.extend(addresses);
            } else {
                let header_len = 20 + u16::from(option_words.min(10)) * 4;
                packet.extend([0x45 + option_words.min(10), 0]);
                packet.extend((header_len + transport.len() as u16).to_be_bytes());
                packet.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
                packet.extend(&addresses[..8]);
                packet.extend(vec![1; usize::from(option_words.min(10)) * 4]);
            }
            packet.extend(transport);

            let header = Header::parse(&packet);
            let other = SlicedPacket::from_ip(&packet).unwrap();
            match (other.net.unwrap(), header.addresses) {
                (NetSlice::Ipv4(ip), Addresses::V4 { src, dst }) => {
                    prop_assert_eq!((src, dst), (ip.header().source(), ip.header().destination()));
                }
                (NetSlice::Ipv6(ip), Addresses::V6 { src, dst }) => {
                    prop_assert_eq!((src, dst), (ip.header().source(), ip.header().destination()));
                }
                (net, addresses) => prop_assert!(false, "{net:?} is not {addresses:?}"),
            }
            prop_assert_eq!(usize::from(header.payload_len), payload.len());
            match other.transport.unwrap() {
                TransportSlice::Tcp(other) => {
                    prop_assert_eq!(header.protocol, Protocol::TCP);
                    prop_assert_eq!((header.src_port, header.dst_port), (other.source_port(), other.destination_port()));
                    prop_assert_eq!(header.tcp_flags.contains(TcpFlags::FIN), other.fin());
                    prop_assert_eq!(header.tcp_flags.contains(TcpFlags::SYN), other.syn());
                    prop_assert_eq!(header.tcp_flags.contains(TcpFlags::RST), other.rst());
                    prop_assert_eq!(header.tcp_flags.contains(TcpFlags::ACK), other.ack());
                }
                TransportSlice::Udp(other) => {
                    prop_assert_eq!(header.protocol, Protocol::UDP);
                    prop_assert_eq!((header.src_port, header.dst_port), (other.source_port(), other.destination_port()));
                }
                other => prop_assert!(false, "{other:?} is not {header:?}"),
            }
        }

        #[test]
        fn any_bytes_are_decoded_without_panic(packet in prop::collection::vec(any::<u8>(), 0..120)) {
            let header = Header::parse(&packet);
            prop_assert!(usize::from(header.payload_len) <= packet.len());
            prop_assert!(header.echo_id(&packet).is_none() || packet.len() >= 28);
        }
    }
}
