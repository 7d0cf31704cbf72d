//! What a flow is told apart by, packed for the table.
//!
//! Flows between two IPv4 addresses, nearly all traffic of most devices, have a key of two machine words that is cut
//! straight out of the packet. All others share a wide key: IPv6, an IPv6 endpoint of an IPv4 peer, no addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::{
    hook::{Connection, Direction, Protocol},
    packet::{Addresses, Header},
};

/// A flow between two IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct V4Key {
    /// Source address in the upper half, destination in the lower.
    addresses: u64,
    /// From the top: 24 bits 0, source port, destination port, protocol.
    ports_and_protocol: u64,
}

/// Any other flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct WideKey {
    /// Addresses as numbers, upper and lower half; 0 where there is none. `u128` would align to 16 bytes, and a flow take
    /// 16 bytes more of the table and of the cache.
    src: (u64, u64),
    dst: (u64, u64),
    /// From the top: kind of source, kind of destination (8 bits each), 8 bits 0, source port, destination port,
    /// protocol. The kind keeps 0.0.0.1, ::1 and "no address" apart.
    kinds_ports_and_protocol: u64,
}

/// The key of any flow. Each connection has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    V4(V4Key),
    Wide(WideKey),
}

const KIND_NONE: u8 = 0;
const KIND_V4: u8 = 4;
const KIND_V6: u8 = 6;

/// Shortest packet of the fast path: IPv4 header without options and a UDP header.
const PLAIN_MIN: usize = 20 + 8;

impl V4Key {
    /// The key of a whole TCP or UDP packet over IPv4 without options, or `None` for any other packet, which takes
    /// the general way. Agrees with [`Header::parse`] wherever it gives an answer. Written without branches other
    /// than the last, because TCP and UDP alternate unpredictably.
    #[inline]
    pub(super) fn of_plain(packet: &[u8], direction: Direction) -> Option<Self> {
        let &[
            first,
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
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
            p0,
            p1,
            p2,
            p3,
            ..,
        ] = packet.first_chunk::<PLAIN_MIN>()?;
        let total_len = usize::from(u16::from_be_bytes([len_high, len_low]));
        let fragment = u16::from_be_bytes([fragment_high, fragment_low]);
        let tcp = protocol == Protocol::TCP.0;
        let udp = protocol == Protocol::UDP.0;
        let plain = (first == 0x45)
            & (total_len >= 20)
            & (total_len <= packet.len())
            & (fragment & 0x3fff == 0)
            & (udp | (tcp & (packet.len() >= 40)));
        if !plain {
            return None;
        }
        let (turn_addresses, turn_ports) = match direction {
            Direction::Tx => (0, 0),
            Direction::Rx => (32, 16),
        };
        let addresses = u64::from_be_bytes([s0, s1, s2, s3, d0, d1, d2, d3]).rotate_left(turn_addresses);
        let ports = u32::from_be_bytes([p0, p1, p2, p3]).rotate_left(turn_ports);
        Some(Self { addresses, ports_and_protocol: (u64::from(ports) << 8) | u64::from(protocol) })
    }

    fn new(protocol: Protocol, src: (u32, u16), dst: (u32, u16)) -> Self {
        Self {
            addresses: (u64::from(src.0) << 32) | u64::from(dst.0),
            ports_and_protocol: ports_and_protocol(protocol, src.1, dst.1),
        }
    }
}

fn ports_and_protocol(protocol: Protocol, src_port: u16, dst_port: u16) -> u64 {
    (u64::from(src_port) << 24) | (u64::from(dst_port) << 8) | u64::from(protocol.0)
}

#[inline]
fn halves(address: u128) -> (u64, u64) {
    ((address >> 64) as u64, address as u64)
}

/// Protocol, source port and destination port out of the low 40 bits.
fn unpack(word: u64) -> (Protocol, u16, u16) {
    (Protocol(word as u8), (word >> 24) as u16, (word >> 8) as u16)
}

impl WideKey {
    /// Like [`V4Key::of_plain`], for a whole TCP or UDP packet over IPv6 without extension headers.
    #[inline]
    pub(super) fn of_plain(packet: &[u8], direction: Direction) -> Option<Self> {
        let (ip, transport) = packet.split_first_chunk::<40>()?;
        let &[first, _, _, _, len_high, len_low, next_header, _, ref addresses @ ..] = ip;
        let (src, dst) = (addresses.first_chunk::<16>()?, addresses.last_chunk::<16>()?);
        let &[p0, p1, p2, p3, ..] = transport.first_chunk::<8>()?;
        let payload_len = usize::from(u16::from_be_bytes([len_high, len_low]));
        let tcp = next_header == Protocol::TCP.0;
        let udp = next_header == Protocol::UDP.0;
        let plain = (first & 0xf0 == 0x60)
            & (payload_len <= transport.len())
            & (udp | (tcp & (transport.len() >= 20)));
        if !plain {
            return None;
        }
        let (src, dst, turn_ports) = match direction {
            Direction::Tx => (src, dst, 0),
            Direction::Rx => (dst, src, 16),
        };
        let ports = u32::from_be_bytes([p0, p1, p2, p3]).rotate_left(turn_ports);
        let kinds = (u64::from(KIND_V6) << 56) | (u64::from(KIND_V6) << 48);
        Some(Self {
            src: halves(u128::from_be_bytes(*src)),
            dst: halves(u128::from_be_bytes(*dst)),
            kinds_ports_and_protocol: kinds | (u64::from(ports) << 8) | u64::from(next_header),
        })
    }

    #[inline]
    fn new(protocol: Protocol, src: (u8, u128, u16), dst: (u8, u128, u16)) -> Self {
        let kinds = (u64::from(src.0) << 56) | (u64::from(dst.0) << 48);
        let kinds_ports_and_protocol = kinds | ports_and_protocol(protocol, src.2, dst.2);
        Self { src: halves(src.1), dst: halves(dst.1), kinds_ports_and_protocol }
    }
}

impl Key {
    /// The key of a decoded packet, the local side first.
    #[inline]
    pub(super) fn of_header(header: &Header, direction: Direction) -> Self {
        let (src_port, dst_port) = match direction {
            Direction::Tx => (header.src_port, header.dst_port),
            Direction::Rx => (header.dst_port, header.src_port),
        };
        match header.addresses {
            Addresses::None => {
                Self::Wide(WideKey::new(header.protocol, (KIND_NONE, 0, 0), (KIND_NONE, 0, 0)))
            }
            Addresses::V4 { src, dst } => {
                let (src, dst) = (u32::from_be_bytes(src), u32::from_be_bytes(dst));
                let (src, dst) = if direction == Direction::Tx { (src, dst) } else { (dst, src) };
                Self::V4(V4Key::new(header.protocol, (src, src_port), (dst, dst_port)))
            }
            Addresses::V6 { src, dst } => {
                let (src, dst) = (u128::from_be_bytes(src), u128::from_be_bytes(dst));
                let (src, dst) = if direction == Direction::Tx { (src, dst) } else { (dst, src) };
                let (src, dst) = ((KIND_V6, src, src_port), (KIND_V6, dst, dst_port));
                Self::Wide(WideKey::new(header.protocol, src, dst))
            }
        }
    }

    /// The key of a connection. IPv6 zones and flow labels are not part of it.
    pub(super) fn of_connection(connection: &Connection) -> Self {
        let &Connection { protocol, src, dst } = connection;
        if let (Some(SocketAddr::V4(src)), Some(SocketAddr::V4(dst))) = (src, dst) {
            let words = |end: SocketAddrV4| (end.ip().to_bits(), end.port());
            return Self::V4(V4Key::new(protocol, words(src), words(dst)));
        }
        let words = |end: Option<SocketAddr>| match end {
            None => (KIND_NONE, 0, 0),
            Some(SocketAddr::V4(end)) => (KIND_V4, u128::from(end.ip().to_bits()), end.port()),
            Some(SocketAddr::V6(end)) => (KIND_V6, end.ip().to_bits(), end.port()),
        };
        Self::Wide(WideKey::new(protocol, words(src), words(dst)))
    }

    /// The connection again.
    pub(super) fn connection(&self) -> Connection {
        match self {
            Self::V4(key) => key.connection(),
            Self::Wide(key) => key.connection(),
        }
    }
}

impl V4Key {
    pub(super) fn connection(&self) -> Connection {
        let (protocol, src_port, dst_port) = unpack(self.ports_and_protocol);
        let src = Ipv4Addr::from_bits((self.addresses >> 32) as u32);
        let dst = Ipv4Addr::from_bits(self.addresses as u32);
        let end = |ip, port| Some(SocketAddr::V4(SocketAddrV4::new(ip, port)));
        Connection { protocol, src: end(src, src_port), dst: end(dst, dst_port) }
    }
}

impl WideKey {
    pub(super) fn connection(&self) -> Connection {
        let word = self.kinds_ports_and_protocol;
        let (protocol, src_port, dst_port) = unpack(word);
        let whole = |(high, low)| (u128::from(high) << 64) | u128::from(low);
        let end = |kind: u8, bits: u128, port| match kind {
            KIND_V4 => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(bits as u32)), port)),
            KIND_V6 => Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from_bits(bits), port, 0, 0))),
            _ => None,
        };
        Connection {
            protocol,
            src: end((word >> 56) as u8, whole(self.src), src_port),
            dst: end((word >> 48) as u8, whole(self.dst), dst_port),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn end() -> impl Strategy<Value = Option<SocketAddr>> {
        prop_oneof![
            Just(None),
            any::<(u32, u16)>()
                .prop_map(|(ip, port)| Some(SocketAddr::new(Ipv4Addr::from_bits(ip).into(), port))),
            any::<(u128, u16)>()
                .prop_map(|(ip, port)| Some(SocketAddr::new(Ipv6Addr::from_bits(ip).into(), port))),
        ]
    }

    proptest! {
        #[test]
        fn a_key_gives_back_its_connection(protocol in any::<u8>(), src in end(), dst in end()) {
            let connection = Connection { protocol: Protocol(protocol), src, dst };
            prop_assert_eq!(Key::of_connection(&connection).connection(), connection);
        }

        #[test]
        fn the_fast_path_agrees_with_the_decoder(
            mut packet in prop::collection::vec(any::<u8>(), 0..64),
            plain in prop_oneof![Just(None), Just(Some(false)), Just(Some(true))],
            tcp in any::<bool>(),
            rx in any::<bool>(),
        ) {
            let number = if tcp { 6 } else { 17 };
            if let (Some(v6), [first, _, high, low, v6_high, v6_low, f0, f1, _, protocol, ..]) =
                (plain, packet.as_mut_slice())
            {
                if v6 {
                    (*first, *v6_high, *f0) = (*first & 0xf | 0x60, 0, number);
                    *v6_low %= 30;
                } else {
                    (*first, *high, *f0, *f1, *protocol) = (0x45, 0, 0x40, 0, number);
                    *low %= 70;
                }
            }
            let direction = if rx { Direction::Rx } else { Direction::Tx };
            let header = Header::parse(&packet);
            let general = Key::of_header(&header, direction);
            prop_assert_eq!(general, Key::of_connection(&header.connection(direction)));
            if let Some(fast) = V4Key::of_plain(&packet, direction) {
                prop_assert_eq!(Key::V4(fast), general);
            }
            if let Some(fast) = WideKey::of_plain(&packet, direction) {
                prop_assert_eq!(Key::Wide(fast), general);
            }
        }
    }

    #[test]
    fn keys_are_as_small_as_what_they_hold() {
        assert_eq!((size_of::<V4Key>(), size_of::<WideKey>()), (16, 40));
        assert_eq!(align_of::<WideKey>(), 8);
    }

    #[test]
    fn plain_packets_take_the_fast_path() {
        let mut udp = [0_u8; 28];
        (udp[0], udp[3], udp[9]) = (0x45, 28, 17);
        assert!(V4Key::of_plain(&udp, Direction::Tx).is_some());
        udp[9] = 6;
        assert!(V4Key::of_plain(&udp, Direction::Tx).is_none(), "a TCP header needs 20 bytes");

        let mut udp = [0_u8; 48];
        (udp[0], udp[5], udp[6]) = (0x60, 8, 17);
        assert!(WideKey::of_plain(&udp, Direction::Tx).is_some());
        udp[6] = 6;
        assert!(WideKey::of_plain(&udp, Direction::Tx).is_none(), "a TCP header needs 20 bytes");
    }
}
