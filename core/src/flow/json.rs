//! Writes messages as JSON, byte for byte what serde would write, only faster, and tells their exact length before.
//!
//! A record's time goes into its connections, so these are written by hand; the few nodes go through serde.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::Range,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    message::{ConnectionCounts, Message, NodeInfo},
    table::Counts,
};
use crate::hook::Protocol;

impl Message {
    /// The message as JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::new();
        self.write_json(&mut json);
        json
    }

    /// Appends the message as JSON.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"nodeId\":");
        write_serde(out, &self.node_id);
        out.extend_from_slice(b",\"start\":");
        write_time(out, self.start);
        out.extend_from_slice(b",\"end\":");
        write_time(out, self.end);
        if let Some(node) = &self.src_node {
            out.extend_from_slice(b",\"srcNode\":");
            write_serde(out, node);
        }
        if !self.dst_nodes.is_empty() {
            out.extend_from_slice(b",\"dstNodes\":");
            write_serde(out, &self.dst_nodes);
        }
        write_rows(out, VIRTUAL, &self.virtual_traffic);
        write_rows(out, SUBNET, &self.subnet_traffic);
        write_rows(out, EXIT, &self.exit_traffic);
        write_rows(out, PHYSICAL, &self.physical_traffic);
        write_count(out, "\"overflowPkts\":", self.overflow_packets);
        out.push(b'}');
    }
}

/// Names of the lists of connections.
pub(super) const VIRTUAL: &str = "virtualTraffic";
pub(super) const SUBNET: &str = "subnetTraffic";
pub(super) const EXIT: &str = "exitTraffic";
pub(super) const PHYSICAL: &str = "physicalTraffic";
/// What a list adds to a message besides its elements and the commas between them.
pub(super) const fn list_overhead(name: &str) -> usize {
    name.len() + ",\"\":[]".len()
}
/// The name of the list of nodes, for [`list_overhead`].
pub(super) const DST_NODES: &str = "dstNodes";

/// The length of a node's JSON.
pub(super) fn node_len(node: &NodeInfo) -> usize {
    let mut json = Vec::new();
    write_serde(&mut json, node);
    json.len()
}

/// The longest JSON of a connection: two IPv6 endpoints at full length, a three-digit protocol, four counts of 20 digits.
pub(super) const MAX_ROW_LEN: usize = 247;

/// The length of a connection's JSON.
pub(super) fn row_len(row: &ConnectionCounts) -> usize {
    let mut len = "{}".len();
    let mut members = 0;
    let mut member = |name: &str, value: usize| {
        len += "\"\":".len() + name.len() + value;
        members += 1;
    };
    if row.protocol != Protocol::UNKNOWN {
        member("proto", digits(row.protocol.0.into()));
    }
    for end in [row.src, row.dst].into_iter().flatten() {
        member("src", endpoint_len(end));
    }
    for (name, value) in counts(&row.counts) {
        if value != 0 {
            member(name, digits(value));
        }
    }
    len + usize::saturating_sub(members, 1)
}

fn counts(counts: &Counts) -> [(&'static str, u64); 4] {
    [
        ("txPkts", counts.tx_packets),
        ("txBytes", counts.tx_bytes),
        ("rxPkts", counts.rx_packets),
        ("rxBytes", counts.rx_bytes),
    ]
}

fn endpoint_len(end: SocketAddr) -> usize {
    let address = match end.ip() {
        IpAddr::V4(address) => v4_len(address),
        IpAddr::V6(address) => v6_len(address) + "[]".len(),
    };
    address + "\"\":".len() + digits(end.port().into())
}

fn digits(value: u64) -> usize {
    value.checked_ilog10().map_or(1, |log| log as usize + 1)
}

fn write_serde<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Neither a Vec as the writer nor these types, which are made of texts and numbers, can fail.
    let _ = serde_json::to_writer(out, value);
}

fn write_time(out: &mut Vec<u8>, time: Timestamp) {
    let _ = write!(out, "\"{time}\"");
}

fn write_rows(out: &mut Vec<u8>, name: &str, rows: &[ConnectionCounts]) {
    if rows.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":[");
    for (at, row) in rows.iter().enumerate() {
        if at != 0 {
            out.push(b',');
        }
        write_row(out, row);
    }
    out.push(b']');
}

fn write_row(out: &mut Vec<u8>, row: &ConnectionCounts) {
    out.push(b'{');
    write_count(out, "\"proto\":", row.protocol.0.into());
    for (name, end) in [("\"src\":\"", row.src), ("\"dst\":\"", row.dst)] {
        if let Some(end) = end {
            write_name(out, name);
            write_endpoint(out, end);
            out.push(b'"');
        }
    }
    let counts = &row.counts;
    write_count(out, "\"txPkts\":", counts.tx_packets);
    write_count(out, "\"txBytes\":", counts.tx_bytes);
    write_count(out, "\"rxPkts\":", counts.rx_packets);
    write_count(out, "\"rxBytes\":", counts.rx_bytes);
    out.push(b'}');
}

fn write_count(out: &mut Vec<u8>, name: &str, value: u64) {
    if value != 0 {
        write_name(out, name);
        write_u64(out, value);
    }
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.extend_from_slice(name.as_bytes());
}

fn write_endpoint(out: &mut Vec<u8>, end: SocketAddr) {
    let mut text = Text::default();
    match end.ip() {
        IpAddr::V4(address) => text.put_v4(address),
        IpAddr::V6(address) => text.put_v6(address),
    }
    out.extend_from_slice(text.as_bytes());
    write_u64(out, end.port().into());
}

/// Decimal digits of `u64::MAX`.
const MAX_DIGITS: usize = 20;

fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    let mut text = [b'0'; MAX_DIGITS];
    let mut start = MAX_DIGITS;
    for (at, digit) in text.iter_mut().enumerate().rev() {
        *digit = b'0' + (value % 10) as u8;
        start = at;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(text.get(start..).unwrap_or_default());
}

/// An address as it is being written. Pieces are copied with a fixed length of four bytes, of which some may not count:
/// that takes one instruction, where a copy of variable length takes a call.
struct Text {
    bytes: [u8; Self::ROOM],
    len: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self { bytes: [0; Self::ROOM], len: 0 }
    }
}

impl Text {
    /// "[0000:0000:0000:0000:0000:0000:0000:0000]:" and four bytes for the last piece.
    const ROOM: usize = 48;

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Appends the first `len` bytes of a piece.
    fn put(&mut self, piece: [u8; 4], len: usize) {
        if let Some(room) = self.bytes.get_mut(self.len..).and_then(|rest| rest.first_chunk_mut()) {
            *room = piece;
            self.len += len;
        }
    }

    /// "1.2.3.4:"
    fn put_v4(&mut self, address: Ipv4Addr) {
        let [a, b, c, d] = address.octets();
        self.put_octet(a, b'.');
        self.put_octet(b, b'.');
        self.put_octet(c, b'.');
        self.put_octet(d, b':');
    }

    fn put_octet(&mut self, octet: u8, then: u8) {
        let [hundreds, tens, ones] = [octet / 100, octet / 10 % 10, octet % 10].map(|digit| b'0' + digit);
        match octet {
            0..10 => self.put([ones, then, 0, 0], 2),
            10..100 => self.put([tens, ones, then, 0], 3),
            100.. => self.put([hundreds, tens, ones, then], 4),
        }
    }

    /// "[1:2::3]:", where the address has its canonical text (RFC 5952).
    fn put_v6(&mut self, address: Ipv6Addr) {
        self.put(*b"[\0\0\0", 1);
        if let Some(v4) = address.to_ipv4_mapped() {
            self.put(*b"::ff", 4);
            self.put(*b"ff:\0", 3);
            self.put_v4(v4);
            self.len -= ":".len();
        } else {
            let segments = address.segments();
            let gap = longest_gap(segments);
            for (at, segment) in segments.into_iter().enumerate() {
                if gap.contains(&at) {
                    if at == gap.start {
                        self.put(*b"::\0\0", 2);
                    }
                    continue;
                }
                if at != 0 && at != gap.end {
                    self.put(*b":\0\0\0", 1);
                }
                self.put_hex(segment);
            }
        }
        self.put(*b"]:\0\0", 2);
    }

    fn put_hex(&mut self, segment: u16) {
        let len = hex_digits(segment);
        // The digits that count come first.
        let [high, low] = (segment << (16 - 4 * len)).to_be_bytes();
        self.put([high >> 4, high & 0xf, low >> 4, low & 0xf].map(hex_digit), len);
    }
}

fn hex_digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

fn hex_digits(segment: u16) -> usize {
    let bits = u16::BITS - segment.leading_zeros();
    bits.div_ceil(4).max(1) as usize
}

/// The first of the longest runs of two or more zeros, or an empty range at the start.
fn longest_gap(segments: [u16; 8]) -> Range<usize> {
    let (mut gap, mut run) = (0..0, 0..0);
    for (at, segment) in segments.into_iter().enumerate() {
        if segment != 0 {
            run = at + 1..at + 1;
            continue;
        }
        run.end = at + 1;
        if run.len() > gap.len() && run.len() > 1 {
            gap = run.clone();
        }
    }
    gap
}

/// The length of an address's text without brackets.
fn v6_len(address: Ipv6Addr) -> usize {
    if let Some(v4) = address.to_ipv4_mapped() {
        return "::ffff:".len() + v4_len(v4);
    }
    let segments = address.segments();
    let gap = longest_gap(segments);
    let written = segments.into_iter().enumerate().filter(|(at, _)| !gap.contains(at));
    let digits: usize = written.map(|(_, segment)| hex_digits(segment)).sum();
    if gap.is_empty() {
        return digits + 7;
    }
    let colons = gap.start.saturating_sub(1) + "::".len() + (8 - gap.end).saturating_sub(1);
    digits + colons
}

fn v4_len(address: Ipv4Addr) -> usize {
    address.octets().map(|octet| digits(octet.into())).iter().sum::<usize>() + "...".len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn end() -> impl Strategy<Value = Option<SocketAddr>> {
        let sparse = prop_oneof![Just(0_u16), Just(1), any::<u16>()];
        prop_oneof![
            Just(None),
            any::<([u8; 4], u16)>().prop_map(|(ip, port)| Some(SocketAddr::from((ip, port)))),
            (prop::array::uniform8(sparse), any::<u16>())
                .prop_map(|(ip, port)| Some(SocketAddr::from((ip, port)))),
            any::<([u8; 4], u16)>().prop_map(|(ip, port)| {
                Some(SocketAddr::new(Ipv4Addr::from(ip).to_ipv6_mapped().into(), port))
            }),
        ]
    }

    fn count() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), Just(u64::MAX), any::<u64>(), 0..100_000_u64]
    }

    prop_compose! {
        fn row()(
            protocol in any::<u8>(), src in end(), dst in end(),
            tx_packets in count(), tx_bytes in count(), rx_packets in count(), rx_bytes in count(),
        ) -> ConnectionCounts {
            let counts = Counts { tx_packets, tx_bytes, rx_packets, rx_bytes };
            ConnectionCounts { protocol: Protocol(protocol), src, dst, counts }
        }
    }

    #[test]
    fn no_connection_is_longer_than_the_longest() {
        let end = Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap());
        let (tx_packets, tx_bytes, rx_packets, rx_bytes) = (u64::MAX, u64::MAX, u64::MAX, u64::MAX);
        let counts = Counts { tx_packets, tx_bytes, rx_packets, rx_bytes };
        let row = ConnectionCounts { protocol: Protocol(255), src: end, dst: end, counts };
        assert_eq!(row_len(&row), MAX_ROW_LEN);
    }

    proptest! {
        #[test]
        fn the_hand_written_json_is_what_serde_writes_and_reads_back(
            rows in prop::collection::vec(row(), 0..4),
            overflow_packets in count(),
            node_id in any::<String>(),
            nanos in any::<i32>(),
        ) {
            let time = Timestamp::from_nanosecond(i128::from(nanos) * 1_000_003_000).unwrap();
            let message = Message {
                src_node: Some(NodeInfo { node_id: node_id.clone(), ..NodeInfo::default() }),
                node_id,
                start: time,
                end: time,
                dst_nodes: vec![],
                virtual_traffic: rows.clone(),
                subnet_traffic: vec![],
                exit_traffic: rows.clone(),
                physical_traffic: rows,
                overflow_packets,
            };
            let json = String::from_utf8(message.to_json()).unwrap();
            prop_assert_eq!(&json, &serde_json::to_string(&message).unwrap());
            prop_assert_eq!(serde_json::from_str::<Message>(&json).unwrap(), message);
        }

        #[test]
        fn the_length_of_a_row_is_known_before_it_is_written(row in row()) {
            let mut json = Vec::new();
            write_row(&mut json, &row);
            prop_assert_eq!(row_len(&row), json.len(), "{}", String::from_utf8_lossy(&json));
            prop_assert!(json.len() <= MAX_ROW_LEN);
        }
    }
}
