//! What the tracker wants to know of a packet.

use crate::{
    flow::key::Key,
    hook::{Connection, Direction, Protocol},
    packet::{Header, TcpFlags},
};

/// One packet, or several alike that were counted together.
#[derive(Debug, Clone, Copy)]
pub(in crate::flow) struct Packet {
    /// The flow it belongs to. ICMP has no ports; an echo's identifier stands in for the local one, and
    /// [`ECHO_PORT`] for the remote one, so that an echo is never mistaken for another ICMP message.
    pub(super) key: Key,
    pub(super) protocol: Protocol,
    pub(super) direction: Direction,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// Bytes after the transport header.
    pub(super) payload: u64,
    pub(super) flags: TcpFlags,
}

/// The remote port in the key of an ICMP echo.
const ECHO_PORT: u16 = 1;

impl Packet {
    /// A packet with its decoded header, and the key of its connection in the window.
    pub(in crate::flow) fn of_header(key: Key, header: &Header, packet: &[u8], direction: Direction) -> Self {
        let key = match header.echo_id(packet) {
            None => key,
            Some(id) => {
                let (src_port, dst_port) = match direction {
                    Direction::Tx => (id, ECHO_PORT),
                    Direction::Rx => (ECHO_PORT, id),
                };
                Key::of_header(&Header { src_port, dst_port, ..*header }, direction)
            }
        };
        Self {
            key,
            protocol: header.protocol,
            direction,
            packets: 1,
            bytes: packet.len() as u64,
            payload: header.payload_len.into(),
            flags: header.tcp_flags,
        }
    }

    /// Packets of which only the sums are known. Without flags they count as data, whose payload is not known.
    pub(in crate::flow) fn of_counts(
        connection: &Connection,
        packets: u64,
        bytes: u64,
        direction: Direction,
    ) -> Self {
        Self {
            key: Key::of_connection(connection),
            protocol: connection.protocol,
            direction,
            packets,
            bytes,
            payload: 0,
            flags: TcpFlags::default(),
        }
    }

    /// Local side first. The ports of ICMP are 0 again; the echo's identifier stands beside it.
    pub(super) fn connection(key: &Key) -> (Connection, Option<u16>) {
        let mut connection = key.connection();
        if !matches!(connection.protocol, Protocol::ICMPV4 | Protocol::ICMPV6) {
            return (connection, None);
        }
        let [local, remote] = [&mut connection.src, &mut connection.dst].map(|end| {
            let port = end.map_or(0, |end| end.port());
            if let Some(end) = end {
                end.set_port(0);
            }
            port
        });
        (connection, (remote == ECHO_PORT).then_some(local))
    }

    pub(super) fn is_tcp(&self) -> bool {
        self.protocol == Protocol::TCP
    }

    pub(super) fn has(&self, flags: TcpFlags) -> bool {
        self.is_tcp() && self.flags.contains(flags)
    }

    /// A TCP packet that asks for a new connection.
    pub(super) fn is_syn(&self) -> bool {
        self.has(TcpFlags::SYN) && !self.has(TcpFlags::ACK)
    }

    /// A TCP packet that can only be the rest of a connection that is over: it ends one, or acknowledges without
    /// carrying anything.
    pub(super) fn is_tail(&self) -> bool {
        let bare_ack = self.has(TcpFlags::ACK) && !self.has(TcpFlags::SYN) && self.payload == 0;
        self.has(TcpFlags::FIN) || self.has(TcpFlags::RST) || bare_ack
    }
}
