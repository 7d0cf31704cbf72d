//! Joins packets of one flow that follow each other into one that the kernel takes like many: the reverse of
//! [`split`](super::split), and what network cards call receive offload.
//!
//! Only packets that cutting would give back byte for byte are joined, so whoever receives or forwards them can't tell the
//! difference: same headers but for what counts on, intact checksums, full segments with at most the last one shorter.
//! (The one exception are identifications of IPv4 packets that must not be fragmented: they mean nothing.)
//! Everything else passes as it is. Packets of one flow keep their order; flows may overtake each other.
//!
//! Nothing waits here: the owner calls [`Coalescer::flush`] when it has no more packets at hand.

use super::{
    checksum::Sum,
    headers::{
        IPV4_LEN, IPV6_LEN, TCP_MIN_LEN, Transport, UDP_LEN, Version, be16, flags, get16, get32,
        pseudo_header, put, tcp, tcp_header_len, udp,
    },
    virtio::{Segments, VnetHeader},
};

/// Flows whose packets are collected at the same time. Packets come in runs of one flow each, because senders
/// cut up to 64 KiB at once; a few more allow for mixed ones. Their buffers take 64 KiB each, made when first needed.
const SLOTS: usize = 8;
/// What the length field of IP can say. IPv6 counts without its header; the 40 bytes are not worth a difference.
const MAX_LEN: usize = u16::MAX as usize;
/// As many as the kernel accepts in one UDP message (UDP_MAX_SEGMENTS when it was introduced).
const MAX_UDP_SEGMENTS: u32 = 64;

/// Packets that were not written yet. See the module.
pub(crate) struct Coalescer {
    slots: Vec<Slot>,
    /// The kernel takes joined UDP datagrams (Linux 6.2).
    udp: bool,
    /// Grows with each new slot content: the oldest is written first.
    clock: u64,
}

/// Takes a header, the packet behind it, and how many packets that stands for.
pub(crate) trait Write: FnMut(&[u8], &[u8], u64) {}
impl<F: FnMut(&[u8], &[u8], u64)> Write for F {}

impl Coalescer {
    pub(crate) const fn new(udp: bool) -> Self {
        Self { slots: Vec::new(), udp, clock: 0 }
    }

    /// Takes a packet; `write` gets it now or later, and may get others first.
    pub(crate) fn push(&mut self, packet: &[u8], write: &mut impl Write) {
        let flow = match Flow::of(packet) {
            Kind::Flow(flow) => flow,
            // Nothing that is collected here can be of its flow.
            Kind::Other => return write(&VnetHeader::PLAIN, packet, 1),
            // It might belong to any flow.
            Kind::Unclear => {
                self.flush(write);
                return write(&VnetHeader::PLAIN, packet, 1);
            }
        };
        if flow.transport == Transport::Udp && !self.udp {
            return write(&VnetHeader::PLAIN, packet, 1);
        }
        let known = self.slots.iter_mut().find(|slot| slot.holds(&flow, packet));
        let joinable = flow.is_joinable(packet);
        if let Some(slot) = known {
            if joinable && slot.takes(&flow, packet) {
                if slot.append(&flow, packet) {
                    slot.write(write);
                }
                return;
            }
            slot.write(write);
        }
        // Nothing may follow a segment that is to be delivered at once.
        if !joinable || flow.is_pushed(packet) {
            return write(&VnetHeader::PLAIN, packet, 1);
        }
        self.clock += 1;
        let clock = self.clock;
        self.free_slot(write).begin(flow, packet, clock);
    }

    /// Writes all that was collected, the oldest first.
    pub(crate) fn flush(&mut self, write: &mut impl Write) {
        for _ in 0..self.slots.len() {
            let Some(slot) = self.oldest() else {
                return;
            };
            slot.write(write);
        }
    }

    fn oldest(&mut self) -> Option<&mut Slot> {
        self.slots.iter_mut().filter(|slot| slot.packets > 0).min_by_key(|slot| slot.since)
    }

    /// An empty slot; writes the oldest if there is none.
    fn free_slot(&mut self, write: &mut impl Write) -> &mut Slot {
        let free = self.slots.iter().position(|slot| slot.packets == 0).unwrap_or_else(|| {
            if self.slots.len() < SLOTS {
                self.slots.push(Slot::new());
                return self.slots.len() - 1;
            }
            let oldest = self.slots.iter().enumerate().min_by_key(|(_, slot)| slot.since);
            oldest.map_or(0, |(index, _)| index)
        });
        // The index is of this very vector, which is not empty.
        #[expect(
            clippy::indexing_slicing,
            reason = "the index was found in, or made by a push to, this vector"
        )]
        let slot = &mut self.slots[free];
        slot.write(write);
        slot
    }
}

/// What a packet is to a coalescer.
enum Kind {
    /// A whole TCP or UDP packet without surprises in its IP header.
    Flow(Flow),
    /// Neither TCP nor UDP.
    Other,
    /// A fragment, or one with IP options or extension headers.
    Unclear,
}

/// The places in a packet that its flow is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flow {
    version: Version,
    transport: Transport,
    /// Where the TCP or UDP header begins.
    start: usize,
    /// Bytes of all headers.
    header_len: usize,
}

impl Flow {
    fn of(packet: &[u8]) -> Kind {
        let Some(version) = Version::of(packet) else {
            return Kind::Other;
        };
        let (start, protocol, whole) = match version {
            Version::V4 => {
                // No options; no fragment: neither "more fragments" nor an offset.
                let plain = packet.first() == Some(&0x45) && get16(packet, 6) & 0x3fff == 0;
                (IPV4_LEN, packet.get(9), plain && usize::from(get16(packet, 2)) == packet.len())
            }
            Version::V6 => {
                (IPV6_LEN, packet.get(6), usize::from(get16(packet, 4)) + IPV6_LEN == packet.len())
            }
        };
        let transport = match protocol {
            Some(&number) if number == Transport::Tcp.protocol() => Transport::Tcp,
            Some(&number) if number == Transport::Udp.protocol() => Transport::Udp,
            // ICMP, and ICMPv6.
            Some(1 | 58) => return Kind::Other,
            _ => return Kind::Unclear,
        };
        let header_len = start
            + match transport {
                Transport::Tcp => tcp_header_len(packet, start).max(TCP_MIN_LEN),
                Transport::Udp => UDP_LEN,
            };
        if whole && packet.len() >= header_len {
            Kind::Flow(Self { version, transport, start, header_len })
        } else {
            Kind::Unclear
        }
    }

    /// Addresses and ports, which stand next to each other.
    fn identity(self, packet: &[u8]) -> &[u8] {
        let addresses = match self.version {
            Version::V4 => 12,
            Version::V6 => 8,
        };
        packet.get(addresses..self.start + 4).unwrap_or_default()
    }

    fn payload(self, packet: &[u8]) -> &[u8] {
        packet.get(self.header_len..).unwrap_or_default()
    }

    fn is_pushed(self, packet: &[u8]) -> bool {
        self.transport == Transport::Tcp && self.tcp_flags(packet) & flags::PSH != 0
    }

    fn tcp_flags(self, packet: &[u8]) -> u8 {
        packet.get(self.start + tcp::FLAGS).copied().unwrap_or(0)
    }

    /// Whether it carries data and could be a segment of a longer packet, first or later, without losing anything.
    fn is_joinable(self, packet: &[u8]) -> bool {
        let plain = match self.transport {
            Transport::Tcp => {
                let bits = self.tcp_flags(packet);
                bits & flags::ACK != 0 && bits & !(flags::ACK | flags::PSH | flags::ECE) == 0
            }
            // Checksum 0 means that there is none.
            Transport::Udp => {
                usize::from(get16(packet, self.start + udp::LENGTH)) == packet.len() - self.start
                    && get16(packet, self.start + udp::CHECKSUM) != 0
            }
        };
        plain && !self.payload(packet).is_empty() && self.is_intact(packet)
    }

    /// Joining writes checksums anew, and must not make a damaged packet good.
    fn is_intact(self, packet: &[u8]) -> bool {
        let (header, content) = packet.split_at_checked(self.start).unwrap_or_default();
        let header_is_intact = self.version == Version::V6 || Sum::default().bytes(header).is_valid();
        let addresses = self.version.addresses(packet);
        header_is_intact && pseudo_header(addresses, self.transport, content.len()).bytes(content).is_valid()
    }
}

/// Packets of one flow, joined.
struct Slot {
    /// As long as the packets so far.
    packet: Vec<u8>,
    flow: Flow,
    /// How many packets; 0 means that the slot is free.
    packets: u32,
    /// Payload bytes of every packet but the last.
    segment_len: usize,
    since: u64,
}

impl Slot {
    fn new() -> Self {
        let flow = Flow { version: Version::V4, transport: Transport::Tcp, start: IPV4_LEN, header_len: 0 };
        Self { packet: Vec::with_capacity(MAX_LEN), flow, packets: 0, segment_len: 0, since: 0 }
    }

    fn begin(&mut self, flow: Flow, packet: &[u8], since: u64) {
        self.packet.clear();
        self.packet.extend_from_slice(packet);
        self.flow = flow;
        self.packets = 1;
        self.segment_len = flow.payload(packet).len();
        self.since = since;
    }

    /// Whether the packet is of this flow.
    fn holds(&self, flow: &Flow, packet: &[u8]) -> bool {
        self.packets > 0
            && (self.flow.version, self.flow.transport) == (flow.version, flow.transport)
            && self.flow.identity(&self.packet) == flow.identity(packet)
    }

    /// Whether a joinable packet of this flow can go behind what is there.
    fn takes(&self, flow: &Flow, packet: &[u8]) -> bool {
        let payload = flow.payload(packet).len();
        self.flow.header_len == flow.header_len
            && payload <= self.segment_len
            && self.packet.len() + payload <= MAX_LEN
            && self.ip_follows(packet)
            && match flow.transport {
                Transport::Tcp => self.tcp_follows(packet),
                Transport::Udp => self.packets < MAX_UDP_SEGMENTS,
            }
    }

    /// The IP header differs only in what splitting counts on.
    fn ip_follows(&self, packet: &[u8]) -> bool {
        let same = |range: std::ops::Range<usize>| self.packet.get(range.clone()) == packet.get(range);
        match self.flow.version {
            Version::V4 => {
                // Identifications mean nothing where fragmenting is forbidden (RFC 6864, 4.1).
                let forbidden = packet.get(6).is_some_and(|byte| byte & 0x40 != 0);
                let id = u32::from(get16(&self.packet, 4)) + self.packets;
                same(0..2) && same(6..10) && (forbidden || id & 0xffff == u32::from(get16(packet, 4)))
            }
            Version::V6 => same(0..4) && same(6..8),
        }
    }

    /// The next sequence number, and otherwise the same header but for PSH.
    fn tcp_follows(&self, packet: &[u8]) -> bool {
        let start = self.flow.start;
        let same = |from: usize, to: usize| {
            self.packet.get(start + from..start + to) == packet.get(start + from..start + to)
        };
        // At most 2^16 bytes, and sequence numbers wrap.
        let collected = u32::try_from(self.packet.len() - self.flow.header_len).unwrap_or(0);
        let next = get32(&self.packet, start + tcp::SEQUENCE).wrapping_add(collected);
        let same_flags = (self.flow.tcp_flags(&self.packet) ^ self.flow.tcp_flags(packet)) & !flags::PSH == 0;
        next == get32(packet, start + tcp::SEQUENCE)
            && same_flags
            && same(tcp::SEQUENCE + 4, tcp::FLAGS)
            && same(tcp::FLAGS + 1, tcp::CHECKSUM)
            && same(tcp::CHECKSUM + 2, self.flow.header_len - start)
    }

    /// Returns whether nothing can follow any more.
    fn append(&mut self, flow: &Flow, packet: &[u8]) -> bool {
        let payload = flow.payload(packet);
        self.packet.extend_from_slice(payload);
        self.packets += 1;
        let pushed = flow.is_pushed(packet);
        if pushed && let Some(bits) = self.packet.get_mut(flow.start + tcp::FLAGS) {
            *bits |= flags::PSH;
        }
        pushed || payload.len() < self.segment_len
    }

    /// Hands over what is there and is free then.
    fn write(&mut self, write: &mut impl Write) {
        match std::mem::take(&mut self.packets) {
            0 => {}
            1 => write(&VnetHeader::PLAIN, &self.packet, 1),
            packets => {
                let header = self.finish();
                write(&header.bytes(), &self.packet, packets.into());
            }
        }
    }

    /// Fills in what the kernel wants of a packet that it is to cut.
    fn finish(&mut self) -> VnetHeader {
        let Flow { version, transport, start, header_len } = self.flow;
        let len = self.packet.len();
        version.finish_header(&mut self.packet, len);
        if transport == Transport::Udp {
            put(&mut self.packet, start + udp::LENGTH, be16(len - start));
        }
        let sum = pseudo_header(version.addresses(&self.packet), transport, len - start).partial();
        put(&mut self.packet, start + transport.checksum_offset(), sum);
        // All of these are below 2^16, like the packet's length.
        let field = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        VnetHeader {
            needs_checksum: true,
            segments: match (transport, version) {
                (Transport::Tcp, Version::V4) => Segments::TcpV4,
                (Transport::Tcp, Version::V6) => Segments::TcpV6,
                (Transport::Udp, _) => Segments::Udp,
            },
            header_len: field(header_len),
            segment_len: field(self.segment_len),
            checksum_start: field(start),
            checksum_offset: field(transport.checksum_offset()),
        }
    }
}
