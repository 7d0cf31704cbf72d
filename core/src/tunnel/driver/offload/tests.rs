//! Cutting and joining against each other, and against etherparse.

use etherparse::{Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};
use proptest::prelude::*;

use super::{
    checksum::Sum,
    headers::{Transport, Version, put},
    split::Malformed,
    virtio::Segments,
    *,
};

/// A TCP segment or UDP datagram with everything that may vary.
#[derive(Debug, Clone)]
struct Spec {
    version: Version,
    transport: Transport,
    port: u16,
    traffic_class: u8,
    id: u16,
    ttl: u8,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    window: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
}

impl Spec {
    fn tcp(version: Version, payload: Vec<u8>) -> Self {
        Self {
            version,
            transport: Transport::Tcp,
            port: 4242,
            traffic_class: 0,
            id: 0xfffe,
            ttl: 64,
            sequence: u32::MAX - 1000,
            acknowledgement: 77,
            flags: ACK,
            window: 500,
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            payload,
        }
    }

    fn udp(version: Version, payload: Vec<u8>) -> Self {
        Self { transport: Transport::Udp, options: Vec::new(), ..Self::tcp(version, payload) }
    }

    fn start(&self) -> usize {
        match self.version {
            Version::V4 => 20,
            Version::V6 => 40,
        }
    }

    fn header_len(&self) -> usize {
        self.start()
            + match self.transport {
                Transport::Tcp => 20 + self.options.len(),
                Transport::Udp => 8,
            }
    }

    /// Complete, as on a wire. Checksums are etherparse's.
    fn packet(&self) -> Vec<u8> {
        let len = self.header_len() + self.payload.len();
        let content_len = u16::try_from(len - self.start()).unwrap();
        let mut packet = match self.version {
            Version::V4 => {
                let [high, low] = u16::try_from(len).unwrap().to_be_bytes();
                let [i0, i1] = self.id.to_be_bytes();
                let protocol = self.transport.protocol();
                let mut header = vec![0x45, self.traffic_class, high, low, i0, i1, 0, 0, self.ttl, protocol];
                header.extend([0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
                let checksum = Ipv4Header::from_slice(&header).unwrap().0.calc_header_checksum();
                put(&mut header, 10, checksum.to_be_bytes());
                header
            }
            Version::V6 => {
                let [high, low] = content_len.to_be_bytes();
                let class = self.traffic_class;
                let mut header = vec![0x60 | class >> 4, class << 4, 0x12, 0x34, high, low];
                header.extend([self.transport.protocol(), self.ttl]);
                header.extend([0xfd; 16]);
                header.extend([0xfe; 16]);
                header
            }
        };
        packet.extend(self.port.to_be_bytes());
        packet.extend(443_u16.to_be_bytes());
        match self.transport {
            Transport::Tcp => {
                packet.extend(self.sequence.to_be_bytes());
                packet.extend(self.acknowledgement.to_be_bytes());
                packet.push(u8::try_from((20 + self.options.len()) / 4 * 16).unwrap());
                packet.push(self.flags);
                packet.extend(self.window.to_be_bytes());
                packet.extend([0; 4]);
                packet.extend(&self.options);
            }
            Transport::Udp => {
                packet.extend(content_len.to_be_bytes());
                packet.extend([0; 2]);
            }
        }
        packet.extend(&self.payload);
        let checksum = expected_checksum(&packet);
        put(&mut packet, self.start() + self.transport.checksum_offset(), checksum.to_be_bytes());
        packet
    }

    /// As the kernel hands it over to be cut: the checksum is left to us.
    fn super_packet(&self, segment_len: u16) -> (VnetHeader, Vec<u8>) {
        let mut packet = self.packet();
        let at = self.start() + self.transport.checksum_offset();
        put(&mut packet, at, [0xab, 0xcd]);
        let header = VnetHeader {
            needs_checksum: true,
            segments: match (self.transport, self.version) {
                (Transport::Tcp, Version::V4) => Segments::TcpV4,
                (Transport::Tcp, Version::V6) => Segments::TcpV6,
                (Transport::Udp, _) => Segments::Udp,
            },
            header_len: u16::try_from(self.header_len()).unwrap(),
            segment_len,
            checksum_start: u16::try_from(self.start()).unwrap(),
            checksum_offset: u16::try_from(self.transport.checksum_offset()).unwrap(),
        };
        (header, packet)
    }

    /// The packets that it must be cut into, by the rules of the protocols.
    fn expected_segments(&self, segment_len: usize) -> Vec<Vec<u8>> {
        let parts: Vec<_> = self.payload.chunks(segment_len).collect();
        let segment = |(number, part): (usize, &&[u8])| {
            let mut spec = self.clone();
            spec.payload = part.to_vec();
            spec.id = self.id.wrapping_add(u16::try_from(number).unwrap());
            let offset = u32::try_from(number * segment_len).unwrap();
            spec.sequence = self.sequence.wrapping_add(offset);
            if number > 0 {
                spec.flags &= !CWR;
            }
            if number + 1 < parts.len() {
                spec.flags &= !(FIN | PSH);
            }
            spec.packet()
        };
        parts.iter().enumerate().map(segment).collect()
    }
}

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;

/// By etherparse, with zero in the place of the checksum.
fn expected_checksum(packet: &[u8]) -> u16 {
    let (protocol, content) = match packet[0] >> 4 {
        4 => (packet[9], &packet[20..]),
        _ => (packet[6], &packet[40..]),
    };
    let v4 = || Ipv4Header::from_slice(packet).unwrap().0;
    let v6 = || Ipv6Header::from_slice(packet).unwrap().0;
    match (protocol, packet[0] >> 4) {
        (6, version) => {
            let (header, payload) = TcpHeader::from_slice(content).unwrap();
            match version {
                4 => header.calc_checksum_ipv4(&v4(), payload).unwrap(),
                _ => header.calc_checksum_ipv6(&v6(), payload).unwrap(),
            }
        }
        (_, version) => {
            let (header, payload) = UdpHeader::from_slice(content).unwrap();
            match version {
                4 => header.calc_checksum_ipv4(&v4(), payload).unwrap(),
                _ => header.calc_checksum_ipv6(&v6(), payload).unwrap(),
            }
        }
    }
}

fn cut(header: &VnetHeader, mut packet: Vec<u8>) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut scratch = vec![0xee; 1 << 16];
    let mut segments = Vec::new();
    split(header, &mut packet, &mut scratch, |segment| segments.push(segment.to_vec()))?;
    Ok(segments)
}

/// What a coalescer wrote.
type Written = Vec<(VnetHeader, Vec<u8>, u64)>;

fn join(packets: &[Vec<u8>]) -> Written {
    let mut written = Vec::new();
    let mut write = |header: &[u8], packet: &[u8], count: u64| {
        written.push((VnetHeader::parse(header.try_into().unwrap()), packet.to_vec(), count));
    };
    let mut coalescer = Coalescer::new(true);
    for packet in packets {
        coalescer.push(packet, &mut write);
    }
    coalescer.flush(&mut write);
    written
}

fn cut_all(written: &Written) -> Vec<Vec<u8>> {
    written.iter().flat_map(|(header, packet, _)| cut(header, packet.clone()).unwrap()).collect()
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 + index / 256) as u8).collect()
}

fn kinds() -> impl Strategy<Value = (Version, Transport)> {
    (
        prop_oneof![Just(Version::V4), Just(Version::V6)],
        prop_oneof![3 => Just(Transport::Tcp), 1 => Just(Transport::Udp)],
    )
}

fn spec(kind: (Version, Transport), payload: Vec<u8>) -> Spec {
    match kind.1 {
        Transport::Tcp => Spec::tcp(kind.0, payload),
        Transport::Udp => Spec::udp(kind.0, payload),
    }
}

#[test]
fn fin_and_psh_go_with_the_last_segment_and_cwr_with_the_first() {
    let spec = Spec { flags: ACK | FIN | PSH | CWR, ..Spec::tcp(Version::V4, bytes(2500)) };
    let (header, packet) = spec.super_packet(1000);
    let segments = cut(&header, packet).unwrap();
    let flags: Vec<_> = segments.iter().map(|segment| segment[20 + 13]).collect();
    assert_eq!(flags, [ACK | CWR, ACK, ACK | FIN | PSH]);
    let ids: Vec<_> = segments.iter().map(|segment| [segment[4], segment[5]]).collect();
    assert_eq!(ids, [[0xff, 0xfe], [0xff, 0xff], [0, 0]], "identifications wrap");
}

#[test]
fn a_lone_packet_gets_its_checksum_completed() {
    for spec in [Spec::tcp(Version::V4, bytes(99)), Spec::udp(Version::V6, bytes(100))] {
        let (mut header, mut packet) = spec.super_packet(0);
        header.segments = Segments::One;
        let (start, at) = (spec.start(), spec.start() + spec.transport.checksum_offset());
        let addresses = spec.version.addresses(&packet).to_vec();
        let partial = headers::pseudo_header(&addresses, spec.transport, packet.len() - start).partial();
        put(&mut packet, at, partial);
        assert_eq!(cut(&header, packet).unwrap(), [spec.packet()]);
    }
}

#[test]
fn a_udp_checksum_that_comes_out_as_zero_is_sent_as_ones() {
    // The two bytes make the sum all ones.
    let spec = Spec::udp(Version::V4, vec![0, 0]);
    let packet = spec.packet();
    let checksum = [packet[26], packet[27]];
    let spec = Spec { payload: checksum.to_vec(), ..spec };
    let (header, packet) = spec.super_packet(10);
    let segments = cut(&header, packet).unwrap();
    assert_eq!(segments[0][26..28], [0xff, 0xff]);
    assert_eq!(segments, [spec.packet()]);
}

#[test]
fn headers_that_lie_are_malformed() {
    let (good, mut packet) = Spec::tcp(Version::V4, bytes(2500)).super_packet(1000);
    assert!(cut(&good, packet.clone()).is_ok());
    for bad in [
        VnetHeader { segments: Segments::Unknown, ..good },
        VnetHeader { segments: Segments::TcpV6, ..good },
        VnetHeader { segment_len: 0, ..good },
        VnetHeader { checksum_start: 12, ..good },
        VnetHeader { checksum_start: 2540, ..good },
        VnetHeader { checksum_start: u16::MAX, ..good },
        VnetHeader { checksum_offset: 6, ..good },
        VnetHeader { segments: Segments::One, checksum_start: 3000, ..good },
        VnetHeader { segments: Segments::One, checksum_offset: u16::MAX, ..good },
    ] {
        assert_eq!(cut(&bad, packet.clone()), Err(Malformed), "{bad:?}");
    }
    assert_eq!(cut(&good, Vec::new()), Err(Malformed));
    let mut scratch = [0; 500];
    let too_long = split(&good, &mut packet, &mut scratch, |_| panic!("nothing fits"));
    assert_eq!(too_long, Err(Malformed));
}

#[test]
fn segments_of_interleaved_flows_are_joined_flow_by_flow() {
    let flow = |port: u16| Spec { port, ..Spec::tcp(Version::V4, bytes(5000)) }.expected_segments(1000);
    let (a, b) = (flow(1), flow(2));
    let mixed: Vec<_> = a.iter().zip(&b).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    let written = join(&mixed);
    assert_eq!(written.iter().map(|(.., count)| *count).collect::<Vec<_>>(), [5, 5]);
    assert_eq!(cut_all(&written), [a, b].concat());
}

#[test]
fn more_flows_than_slots_lose_nothing_and_the_oldest_goes_first() {
    let packets: Vec<_> =
        (0..20).map(|port| Spec { port, ..Spec::tcp(Version::V6, bytes(100)) }.packet()).collect();
    let written = join(&packets);
    assert_eq!(cut_all(&written), packets);
}

#[test]
fn what_must_arrive_at_once_or_ends_a_flow_overtakes_nothing() {
    let first = Spec::tcp(Version::V4, bytes(1000));
    let end = first.sequence.wrapping_add(1000);
    for (what, last) in [
        ("an acknowledgement", Spec { sequence: end, payload: Vec::new(), id: 0xffff, ..first.clone() }),
        ("a FIN", Spec { sequence: end, flags: ACK | FIN, id: 0xffff, ..first.clone() }),
        ("another window", Spec { sequence: end, window: 1, id: 0xffff, ..first.clone() }),
        ("other options", Spec { sequence: end, options: vec![1; 12], id: 0xffff, ..first.clone() }),
        ("a retransmission", Spec { id: 0xffff, ..first.clone() }),
        ("another hop limit", Spec { sequence: end, ttl: 63, id: 0xffff, ..first.clone() }),
        ("a congestion mark", Spec { sequence: end, traffic_class: 3, id: 0xffff, ..first.clone() }),
        ("a longer segment", Spec { sequence: end, payload: bytes(1001), id: 0xffff, ..first.clone() }),
        ("another identification", Spec { sequence: end, id: 5, ..first.clone() }),
    ] {
        let packets = [first.packet(), last.packet()];
        let written = join(&packets);
        assert_eq!(written.len(), 2, "{what}");
        assert_eq!(cut_all(&written), packets, "{what}");
    }
    let pushed = Spec { flags: ACK | PSH, sequence: end, id: 0xffff, ..first.clone() };
    let after = Spec { sequence: end.wrapping_add(1000), id: 0, ..first.clone() };
    let packets = [first.packet(), pushed.packet(), after.packet()];
    let written = join(&packets);
    assert_eq!(written.iter().map(|(.., count)| *count).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(cut_all(&written), packets);
}

#[test]
fn fragments_options_and_damaged_packets_pass_untouched_in_their_place() {
    let first = Spec::tcp(Version::V4, bytes(1000));
    let next = first.expected_segments(500)[1].clone();
    let first = first.expected_segments(500)[0].clone();
    let mut fragment = next.clone();
    fragment[6] = 0x20;
    let mut damaged = next.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut bad_header = next.clone();
    bad_header[10] ^= 1;
    let mut long = next;
    long.push(0);
    for odd in [fragment, damaged, bad_header, long] {
        let packets = [first.clone(), odd];
        let written = join(&packets);
        assert_eq!(written.iter().map(|(.., count)| *count).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(written.into_iter().map(|(_, packet, _)| packet).collect::<Vec<_>>(), packets);
    }
}

#[test]
fn udp_is_joined_only_where_the_kernel_takes_it() {
    let packets = Spec::udp(Version::V4, bytes(3000)).expected_segments(1000);
    assert_eq!(join(&packets).len(), 1);
    let mut coalescer = Coalescer::new(false);
    let mut writes = 0;
    let mut write = |_: &[u8], _: &[u8], count: u64| {
        assert_eq!(count, 1);
        writes += 1;
    };
    for packet in &packets {
        coalescer.push(packet, &mut write);
    }
    coalescer.flush(&mut write);
    assert_eq!(writes, 3);
}

proptest! {
    #[test]
    fn segments_are_what_the_protocols_demand(
        kind in kinds(), len in 1..9000_usize, segment_len in 1..2000_u16, flags in any::<u8>()
    ) {
        let spec = Spec { flags: ACK | flags & (FIN | PSH | CWR), ..spec(kind, bytes(len)) };
        let (header, packet) = spec.super_packet(segment_len);
        let segments = cut(&header, packet).unwrap();
        prop_assert_eq!(segments, spec.expected_segments(segment_len.into()));
    }

    #[test]
    fn joining_undoes_cutting(kind in kinds(), len in 2..60_000_usize, segment_len in 500..2000_u16) {
        let spec = spec(kind, bytes(len));
        let (header, packet) = spec.super_packet(segment_len);
        let segments = cut(&header, packet).unwrap();
        let written = join(&segments);
        prop_assert_eq!(&cut_all(&written), &segments);
        let fits = kind.1 == Transport::Tcp || segments.len() <= 64;
        if fits && segments.len() > 1 {
            prop_assert_eq!(written.len(), 1);
            let (joined, mut content, count) = written[0].clone();
            prop_assert_eq!(joined, header);
            prop_assert_eq!(count, segments.len() as u64);
            // What the kernel completes is the sum of the pseudo header.
            let at = spec.start() + kind.1.checksum_offset();
            let checksum = Sum::default().bytes(&content[spec.start()..]).checksum();
            put(&mut content, at, checksum);
            prop_assert_eq!(content, spec.packet());
        }
    }

    #[test]
    fn whatever_is_joined_comes_back_flow_by_flow_in_order(
        kind in kinds(),
        choices in prop::collection::vec((0..3_u16, 0..12_u8, 1..4_usize), 1..60),
    ) {
        // Three flows that mostly go on, with all sorts of breaks.
        let mut flows: Vec<_> = (0..3).map(|port| Spec { port, ..spec(kind, Vec::new()) }).collect();
        let mut packets = Vec::new();
        for (port, turn, size) in choices {
            let flow = &mut flows[usize::from(port)];
            flow.payload = bytes(if turn == 0 { 0 } else { 400 * size });
            flow.flags = match turn { 1 => ACK | PSH, 2 => ACK | FIN, 3 => 0x02, _ => ACK };
            if turn == 4 { flow.window += 1; }
            if turn == 5 { flow.sequence = flow.sequence.wrapping_add(9); }
            let mut packet = flow.packet();
            if turn == 6 { *packet.last_mut().unwrap() ^= 0x40; }
            packets.push((port, packet));
            flow.sequence = flow.sequence.wrapping_add(u32::try_from(flow.payload.len()).unwrap());
            flow.id = flow.id.wrapping_add(1);
        }
        let all: Vec<_> = packets.iter().map(|(_, packet)| packet.clone()).collect();
        let written = join(&all);
        let counted: u64 = written.iter().map(|(.., count)| count).sum();
        prop_assert_eq!(counted, all.len() as u64);
        let back = cut_all(&written);
        for port in 0..3 {
            let start = flows[0].start();
            let sent: Vec<_> = packets.iter().filter(|(of, _)| *of == port).map(|(_, p)| p.clone()).collect();
            let got: Vec<_> =
                back.iter().filter(|p| p[start..start + 2] == port.to_be_bytes()).cloned().collect();
            prop_assert_eq!(got, sent);
        }
    }

    #[test]
    fn arbitrary_headers_and_bytes_are_cut_or_refused(
        header: [u8; 10], mut packet in prop::collection::vec(any::<u8>(), 0..300), scratch in 0..400_usize
    ) {
        let mut scratch = vec![0; scratch];
        let mut longest = 0;
        let header = VnetHeader::parse(header);
        let _ = split(&header, &mut packet, &mut scratch, |segment| longest = longest.max(segment.len()));
        prop_assert!(longest <= packet.len());
    }

    #[test]
    fn nearly_good_packets_are_cut_or_refused(
        kind in kinds(), changes in prop::collection::vec((0..90_usize, any::<u8>()), 0..4),
        header_change in prop::option::of((0..10_usize, any::<u8>())), truncate in 0..400_usize,
    ) {
        let (header, mut packet) = spec(kind, bytes(300)).super_packet(100);
        for (at, byte) in changes {
            packet[at] = byte;
        }
        packet.truncate(truncate);
        let mut header = header.bytes();
        if let Some((at, byte)) = header_change {
            header[at] = byte;
        }
        let _ = cut(&VnetHeader::parse(header), packet);
    }

    #[test]
    fn arbitrary_packets_pass_a_coalescer_without_loss_or_change(
        kind in kinds(),
        mutations in prop::collection::vec((0..90_usize, any::<u8>(), 0..400_usize), 1..20),
    ) {
        // IPv4 that may be fragmented, so that identifications count.
        let good = spec(kind, bytes(300)).packet();
        let packets: Vec<_> = mutations.into_iter().map(|(at, byte, len)| {
            let mut packet = good.clone();
            packet[at] = byte;
            packet.truncate(len);
            packet
        }).collect();
        let written = join(&packets);
        let mut back = cut_all(&written);
        let mut sent = packets;
        back.sort();
        sent.sort();
        prop_assert_eq!(back, sent);
    }
}
