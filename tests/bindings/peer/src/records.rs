//! Records of windows, as the callers look at them: rows instead of JSON, for which not every language brings a reader.

use std::net::SocketAddr;

use tuntrail::flow::{ConnectionCounts, Message};

/// What a connection was recorded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum TrafficKind {
    /// Between the device and another node.
    Virtual,
    /// With a network behind a node.
    Subnet,
    /// With the Internet, through a node.
    Exit,
    /// The tunnel's own datagrams.
    Physical,
}

/// One row of a record of a window. Bytes are those of IP packets.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct RecordedFlow {
    /// What it was recorded as.
    pub kind: TrafficKind,
    /// Stable ID of the device that recorded it.
    pub node: String,
    /// IP protocol; 0 if it was not recorded.
    pub protocol: u8,
    /// `address:port` of the device, if recorded.
    pub source: Option<String>,
    /// `address:port` of the other side, if recorded.
    pub destination: Option<String>,
    /// Packets from the device.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Packets to the device.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
}

/// The rows of a record.
pub(crate) fn rows(message: &Message) -> impl Iterator<Item = RecordedFlow> {
    [
        (TrafficKind::Virtual, &message.virtual_traffic),
        (TrafficKind::Subnet, &message.subnet_traffic),
        (TrafficKind::Exit, &message.exit_traffic),
        (TrafficKind::Physical, &message.physical_traffic),
    ]
    .into_iter()
    .flat_map(|(kind, rows)| rows.iter().map(move |row| (kind, row)))
    .map(|(kind, row)| recorded(kind, &message.node_id, row))
}

fn recorded(kind: TrafficKind, node: &str, row: &ConnectionCounts) -> RecordedFlow {
    let ConnectionCounts { protocol, src, dst, counts } = row;
    let text = |address: &Option<SocketAddr>| address.map(|address| address.to_string());
    RecordedFlow {
        kind,
        node: node.to_owned(),
        protocol: protocol.0,
        source: text(src),
        destination: text(dst),
        tx_packets: counts.tx_packets,
        tx_bytes: counts.tx_bytes,
        rx_packets: counts.rx_packets,
        rx_bytes: counts.rx_bytes,
    }
}
