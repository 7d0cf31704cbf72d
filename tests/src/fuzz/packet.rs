//! Any bytes as an inner packet.

use std::net::SocketAddr;

use tuntrail::{
    clock::Clock,
    flow::{ExitFlows, FlowConfig, FlowCounter, Layer, Message},
    hook::{Connection, ConnectionCounter, Direction, Protocol},
    packet::{Addresses, Header, TcpFlags},
};

use super::recorder::{Recorder, sum};

/// Traffic to them is not counted.
pub(super) const SERVICE: [&str; 2] = ["100.100.100.100", "fd7a:115c:a1e0::53"];

pub(super) fn is_service(end: Option<SocketAddr>) -> bool {
    end.is_some_and(|end| SERVICE.contains(&end.ip().to_string().as_str()))
}

/// `data` is one packet. The decoder's answer makes sense, and the counter, which has a decoder of its own for plain
/// packets, puts the packet where the decoder says, in both directions.
pub fn packet_parse(data: &[u8]) {
    let header = Header::parse(data);
    check(&header, data);
    let connections =
        [Direction::Tx, Direction::Rx].map(|direction| (direction, header.connection(direction)));
    let recorder = Recorder::new(FlowConfig { exit_flows: ExitFlows::Full, ..FlowConfig::default() });
    let now = recorder.clock.now();
    let counted = window(&recorder, |counter| {
        for (direction, _) in connections {
            counter.count_packet(now, data, direction);
        }
    });
    let told = window(&recorder, |counter| {
        for (direction, connection) in connections {
            counter.count(now, &connection, 1, data.len() as u64, direction);
        }
    });
    assert_eq!(counted, told);
    let wanted = connections.iter().filter(|(_, connection)| !is_service(connection.dst)).count() as u64;
    let sum = sum(&counted);
    assert_eq!((sum.packets(), sum.bytes()), (wanted, wanted * data.len() as u64));
}

/// The records of what `count` does with a new counter.
fn window(recorder: &Recorder, count: impl FnOnce(&mut FlowCounter)) -> Vec<Message> {
    let mut counter = recorder.logger.counter(Layer::Virtual);
    count(&mut counter);
    drop(counter);
    recorder.take()
}

fn check(header: &Header, data: &[u8]) {
    let has_ports = matches!(header.protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP);
    if !has_ports {
        assert_eq!((header.src_port, header.dst_port, header.payload_len), (0, 0, 0));
    }
    if header.protocol != Protocol::TCP {
        assert_eq!(header.tcp_flags, TcpFlags::default());
    }
    let least = match header.addresses {
        Addresses::None => {
            assert_eq!(header.protocol, Protocol::UNKNOWN);
            0
        }
        // As upstream does, the decoder believes a header length below the minimum of 20.
        Addresses::V4 { .. } => data.first().map_or(0, |first| usize::from(first & 0x0f) * 4),
        Addresses::V6 { .. } => 40,
    };
    assert!(!has_ports || usize::from(header.payload_len) + least <= data.len());
    let Connection { src, dst, .. } = header.connection(Direction::Tx);
    let turned = header.connection(Direction::Rx);
    assert_eq!((turned.dst, turned.src), (src, dst));
}
