//! Cuts what the kernel hands over into packets as they would stand on a wire.

use super::{
    checksum::Sum,
    headers::{
        IPV4_LEN, IPV6_LEN, TCP_MIN_LEN, Transport, UDP_LEN, Version, be16, flags, get16, get32,
        ipv4_header_len, pseudo_header, put, tcp, tcp_header_len, udp,
    },
    virtio::{Segments, VnetHeader},
};

/// Header and packet contradict each other. The kernel writes no such thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Calls `each` with every packet that `packet` stands for, in order, with all lengths and checksums filled in.
///
/// `scratch` is where segments are put together; one that is longer than it is [`Malformed`].
pub(crate) fn split(
    header: &VnetHeader,
    packet: &mut [u8],
    scratch: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> Result<(), Malformed> {
    let transport = match header.segments {
        Segments::One => {
            if header.needs_checksum {
                complete_checksum(header, packet).ok_or(Malformed)?;
            }
            each(packet);
            return Ok(());
        }
        Segments::TcpV4 | Segments::TcpV6 => Transport::Tcp,
        Segments::Udp => Transport::Udp,
        Segments::Unknown => return Err(Malformed),
    };
    let segmenter = Segmenter::new(header, transport, packet).ok_or(Malformed)?;
    segmenter.run(packet, scratch, each).ok_or(Malformed)
}

/// The field holds the sum of the pseudo header already.
fn complete_checksum(header: &VnetHeader, packet: &mut [u8]) -> Option<()> {
    let start = usize::from(header.checksum_start);
    let offset = usize::from(header.checksum_offset);
    let content = packet.get_mut(start..)?;
    let mut checksum = Sum::default().bytes(content).checksum();
    // Zero would mean that a UDP datagram has no checksum (RFC 768); both are the same number in this arithmetic.
    if checksum == [0; 2] && offset == udp::CHECKSUM {
        checksum = [0xff; 2];
    }
    *content.get_mut(offset..)?.first_chunk_mut()? = checksum;
    Some(())
}

/// How one packet is cut.
struct Segmenter {
    version: Version,
    transport: Transport,
    /// Where the TCP or UDP header begins.
    start: usize,
    /// Bytes of all headers.
    header_len: usize,
    segment_len: usize,
}

impl Segmenter {
    /// `None` if it can't be cut.
    fn new(header: &VnetHeader, transport: Transport, packet: &[u8]) -> Option<Self> {
        let version = Version::of(packet)?;
        let fits = match header.segments {
            Segments::TcpV4 => version == Version::V4,
            Segments::TcpV6 => version == Version::V6,
            _ => true,
        };
        // Extension headers may stand before it, so only the kernel's word tells the place.
        let start = usize::from(header.checksum_start);
        let ip_len = match version {
            Version::V4 => ipv4_header_len(packet).max(IPV4_LEN),
            Version::V6 => IPV6_LEN,
        };
        let transport_len = match transport {
            Transport::Tcp => tcp_header_len(packet, start).max(TCP_MIN_LEN),
            Transport::Udp => UDP_LEN,
        };
        let segment_len = usize::from(header.segment_len);
        let header_len = start + transport_len;
        let checksum_fits = usize::from(header.checksum_offset) == transport.checksum_offset();
        (fits && checksum_fits && start >= ip_len && segment_len > 0 && packet.len() >= header_len)
            .then_some(Self { version, transport, start, header_len, segment_len })
    }

    fn run(&self, packet: &[u8], scratch: &mut [u8], mut each: impl FnMut(&[u8])) -> Option<()> {
        let (header, payload) = packet.split_at_checked(self.header_len)?;
        // The longest segment's packet must fit into the scratch and have lengths of 16 bits.
        let longest = self.header_len + self.segment_len.min(payload.len());
        if longest > scratch.len().min(u16::MAX.into()) {
            return None;
        }
        let first_id = get16(header, 4);
        let first_sequence = get32(header, self.start + tcp::SEQUENCE);
        let last = payload.len().div_ceil(self.segment_len).saturating_sub(1);
        // A packet without payload is one packet.
        let empty = payload.is_empty().then_some(payload);
        for (number, part) in payload.chunks(self.segment_len).chain(empty).enumerate() {
            let segment = scratch.get_mut(..header.len() + part.len())?;
            let (segment_header, segment_payload) = segment.split_at_mut_checked(header.len())?;
            segment_header.copy_from_slice(header);
            segment_payload.copy_from_slice(part);
            if self.version == Version::V4 {
                // Successive, as if the packets had been sent one by one. Wraps by nature.
                #[expect(clippy::cast_possible_truncation, reason = "identifications count modulo 2^16")]
                put(segment, 4, first_id.wrapping_add(number as u16).to_be_bytes());
            }
            self.version.finish_header(segment, header.len() + part.len());
            match self.transport {
                Transport::Tcp => {
                    // Sequence numbers count modulo 2^32.
                    let offset = u32::try_from(number * self.segment_len).ok()?;
                    put(
                        segment,
                        self.start + tcp::SEQUENCE,
                        first_sequence.wrapping_add(offset).to_be_bytes(),
                    );
                    let mut clear = 0;
                    if number != 0 {
                        clear |= flags::CWR;
                    }
                    if number != last {
                        clear |= flags::FIN | flags::PSH;
                    }
                    if let Some(bits) = segment.get_mut(self.start + tcp::FLAGS) {
                        *bits &= !clear;
                    }
                }
                Transport::Udp => put(segment, self.start + udp::LENGTH, be16(UDP_LEN + part.len())),
            }
            self.finish_checksum(segment);
            each(segment);
        }
        Some(())
    }

    fn finish_checksum(&self, segment: &mut [u8]) {
        let at = self.start + self.transport.checksum_offset();
        put(segment, at, [0; 2]);
        let content = segment.get(self.start..).unwrap_or_default();
        let addresses = self.version.addresses(segment);
        let sum = pseudo_header(addresses, self.transport, content.len()).bytes(content);
        let mut checksum = sum.checksum();
        if checksum == [0; 2] && self.transport == Transport::Udp {
            checksum = [0xff; 2];
        }
        put(segment, at, checksum);
    }
}
