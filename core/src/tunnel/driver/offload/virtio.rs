//! The header in front of packets on a TUN descriptor with `IFF_VNET_HDR`: `struct virtio_net_hdr` of
//! <linux/virtio_net.h>, ten bytes, in the machine's byte order unless a program asked otherwise (`TUNSETVNETLE`).

/// What kind of packet the segments are cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segments {
    /// There is one packet, as it is (`VIRTIO_NET_HDR_GSO_NONE`).
    One,
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagrams of one length, over either (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    Udp,
    /// Something that was never offered to the kernel.
    Unknown,
}

/// One packet's header. See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VnetHeader {
    /// The checksum field holds only the sum of the pseudo header; completing it is left to the receiver.
    pub(super) needs_checksum: bool,
    pub(super) segments: Segments,
    /// Bytes of all headers that the segments have in common.
    pub(super) header_len: u16,
    /// Payload bytes of each segment; the last may have fewer.
    pub(super) segment_len: u16,
    /// Where the checksummed part begins: the TCP or UDP header.
    pub(super) checksum_start: u16,
    /// Where the checksum stands from there.
    pub(super) checksum_offset: u16,
}

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// A bit beside the kind: the connection uses ECN.
const GSO_ECN: u8 = 0x80;

impl VnetHeader {
    /// Bytes in front of each packet.
    pub(crate) const LEN: usize = 10;

    /// The header of a packet that is complete in itself.
    pub(super) const PLAIN: [u8; Self::LEN] = [0; Self::LEN];

    pub(crate) fn parse(bytes: [u8; Self::LEN]) -> Self {
        let [flags, kind, h0, h1, s0, s1, c0, c1, o0, o1] = bytes;
        let segments = match kind & !GSO_ECN {
            GSO_NONE => Segments::One,
            GSO_TCPV4 => Segments::TcpV4,
            GSO_TCPV6 => Segments::TcpV6,
            GSO_UDP_L4 => Segments::Udp,
            _ => Segments::Unknown,
        };
        Self {
            needs_checksum: flags & NEEDS_CSUM != 0,
            segments,
            header_len: u16::from_ne_bytes([h0, h1]),
            segment_len: u16::from_ne_bytes([s0, s1]),
            checksum_start: u16::from_ne_bytes([c0, c1]),
            checksum_offset: u16::from_ne_bytes([o0, o1]),
        }
    }

    pub(super) fn bytes(self) -> [u8; Self::LEN] {
        let kind = match self.segments {
            Segments::TcpV4 => GSO_TCPV4,
            Segments::TcpV6 => GSO_TCPV6,
            Segments::Udp => GSO_UDP_L4,
            Segments::One | Segments::Unknown => GSO_NONE,
        };
        let [h0, h1] = self.header_len.to_ne_bytes();
        let [s0, s1] = self.segment_len.to_ne_bytes();
        let [c0, c1] = self.checksum_start.to_ne_bytes();
        let [o0, o1] = self.checksum_offset.to_ne_bytes();
        [if self.needs_checksum { NEEDS_CSUM } else { 0 }, kind, h0, h1, s0, s1, c0, c1, o0, o1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_round_trip() {
        for segments in [Segments::One, Segments::TcpV4, Segments::TcpV6, Segments::Udp] {
            let header = VnetHeader {
                needs_checksum: segments != Segments::One,
                segments,
                header_len: 0x0102,
                segment_len: 0x0304,
                checksum_start: 0x0506,
                checksum_offset: 0x0708,
            };
            assert_eq!(VnetHeader::parse(header.bytes()), header);
        }
        assert_eq!(VnetHeader::parse(VnetHeader::PLAIN).segments, Segments::One);
    }

    #[test]
    fn the_ecn_bit_is_no_kind_of_its_own_and_fragmented_udp_is_unknown() {
        let kind = |byte| VnetHeader::parse([0, byte, 0, 0, 0, 0, 0, 0, 0, 0]).segments;
        assert_eq!(kind(0x81), Segments::TcpV4);
        assert_eq!(kind(0x84), Segments::TcpV6);
        assert_eq!(kind(3), Segments::Unknown);
    }
}
