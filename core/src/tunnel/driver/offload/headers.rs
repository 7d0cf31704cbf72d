//! Places and fields of IP, TCP and UDP headers (RFC 791, 8200, 9293, 768), and careful access to them.

use super::checksum::Sum;

/// Without options.
pub(super) const IPV4_LEN: usize = 20;
/// Without extension headers.
pub(super) const IPV6_LEN: usize = 40;
pub(super) const UDP_LEN: usize = 8;
/// Without options.
pub(super) const TCP_MIN_LEN: usize = 20;

/// Bits of the TCP flags byte.
pub(super) mod flags {
    pub(in super::super) const FIN: u8 = 0x01;
    pub(in super::super) const PSH: u8 = 0x08;
    pub(in super::super) const ACK: u8 = 0x10;
    pub(in super::super) const ECE: u8 = 0x40;
    pub(in super::super) const CWR: u8 = 0x80;
}

/// Where the fields stand in a TCP header.
pub(super) mod tcp {
    pub(in super::super) const SEQUENCE: usize = 4;
    pub(in super::super) const DATA_OFFSET: usize = 12;
    pub(in super::super) const FLAGS: usize = 13;
    pub(in super::super) const CHECKSUM: usize = 16;
}

/// Where the fields stand in a UDP header.
pub(super) mod udp {
    pub(in super::super) const LENGTH: usize = 4;
    pub(in super::super) const CHECKSUM: usize = 6;
}

/// The two that are offloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub(super) const fn protocol(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// Where the checksum stands in the header.
    pub(super) const fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => tcp::CHECKSUM,
            Self::Udp => udp::CHECKSUM,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

impl Version {
    /// What the first byte says.
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Some(Self::V4),
            6 => Some(Self::V6),
            _ => None,
        }
    }

    /// Both addresses.
    pub(super) fn addresses(self, packet: &[u8]) -> &[u8] {
        match self {
            Self::V4 => packet.get(12..20),
            Self::V6 => packet.get(8..40),
        }
        .unwrap_or_default()
    }

    /// Writes lengths and, for IPv4, the header's checksum for a packet of `len` bytes. `len` must fit into 16 bits.
    pub(super) fn finish_header(self, packet: &mut [u8], len: usize) {
        match self {
            Self::V4 => {
                let header_len = ipv4_header_len(packet);
                put(packet, 2, be16(len));
                put(packet, 10, [0; 2]);
                let checksum = Sum::default().bytes(packet.get(..header_len).unwrap_or_default()).checksum();
                put(packet, 10, checksum);
            }
            Self::V6 => put(packet, 4, be16(len.saturating_sub(IPV6_LEN))),
        }
    }
}

/// As the header says; not compared with anything.
pub(super) fn ipv4_header_len(packet: &[u8]) -> usize {
    usize::from(packet.first().copied().unwrap_or(0) & 0x0f) * 4
}

/// Bytes of the TCP header that begins at `at`, as it says.
pub(super) fn tcp_header_len(packet: &[u8], at: usize) -> usize {
    usize::from(packet.get(at + tcp::DATA_OFFSET).copied().unwrap_or(0) >> 4) * 4
}

/// The sum over the pseudo header of a TCP or UDP message of `len` bytes.
pub(super) fn pseudo_header(addresses: &[u8], transport: Transport, len: usize) -> Sum {
    let [high, low] = be16(len);
    Sum::default()
        .bytes(addresses)
        .number(transport.protocol().into())
        .number(u16::from_be_bytes([high, low]))
}

/// In network order. All lengths here are below 2^16; others would come out as the greatest.
pub(super) fn be16(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes()
}

/// The 16-bit number at `at`; 0 beyond the end.
pub(super) fn get16(packet: &[u8], at: usize) -> u16 {
    chunk(packet, at).map_or(0, u16::from_be_bytes)
}

/// The 32-bit number at `at`; 0 beyond the end.
pub(super) fn get32(packet: &[u8], at: usize) -> u32 {
    chunk(packet, at).map_or(0, u32::from_be_bytes)
}

/// Overwrites bytes; does nothing if they are not all there.
pub(super) fn put<const N: usize>(packet: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(field) = packet.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *field = bytes;
    }
}

fn chunk<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..)?.first_chunk().copied()
}
