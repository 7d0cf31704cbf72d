//! Writes messages as JSON, byte for byte what serde would write, only faster, and tells their exact length before.
//!
//! A record's time goes into its connections, so these are written by hand; the few nodes go through serde.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
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
        IpAddr::V4(address) => {
            address.octets().map(|octet| digits(octet.into())).iter().sum::<usize>() + "...".len()
        }
        IpAddr::V6(address) => {
            let mut text = Vec::with_capacity(MAX_V6_TEXT);
            write_v6(&mut text, address);
            text.len() + "[]".len()
        }
    };
    address + "\"\":".len() + digits(end.port().into())
}

/// "0000:0000:0000:0000:0000:ffff:255.255.255.255", the longest text of an IPv6 address.
const MAX_V6_TEXT: usize = 45;

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
    match end.ip() {
        IpAddr::V4(address) => write_v4(out, address),
        IpAddr::V6(address) => {
            out.push(b'[');
            write_v6(out, address);
            out.push(b']');
        }
    }
    out.push(b':');
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

fn write_v4(out: &mut Vec<u8>, address: Ipv4Addr) {
    let [a, b, c, d] = address.octets();
    write_u64(out, a.into());
    for octet in [b, c, d] {
        out.push(b'.');
        write_u64(out, octet.into());
    }
}

/// The canonical text (RFC 5952) as std writes it, at a quarter of the time.
fn write_v6(out: &mut Vec<u8>, address: Ipv6Addr) {
    if let Some(v4) = address.to_ipv4_mapped() {
        out.extend_from_slice(b"::ffff:");
        return write_v4(out, v4);
    }
    let segments = address.segments();
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
    for (at, segment) in segments.into_iter().enumerate() {
        if gap.contains(&at) {
            if at == gap.start {
                out.extend_from_slice(b"::");
            }
            continue;
        }
        if at != 0 && at != gap.end {
            out.push(b':');
        }
        write_hex(out, segment);
    }
}

fn write_hex(out: &mut Vec<u8>, segment: u16) {
    let mut started = false;
    for shift in [12, 8, 4, 0] {
        let nibble = (segment >> shift & 0xf) as u8;
        started |= nibble != 0 || shift == 0;
        if started {
            out.push(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
        }
    }
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
        }
    }
}
