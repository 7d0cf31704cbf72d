//! A small network for tests, and a logger whose records can be looked at.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use ipnet::IpNet;
use jiff::Timestamp;

use super::{FlowConfig, FlowCounter, FlowLogger, Layer, Message, RecordSink, classify::Snapshot};
use crate::{
    clock::{Clock, Instant, ManualClock},
    hook::{Connection, ConnectionCounter, Direction, Protocol},
    netmap::{NetworkMap, Node, NodeId, Routes, UserId},
};

/// The network of the reference run.
pub(super) fn network() -> (NetworkMap, Routes) {
    let node = |id, name: &str, addresses: &[&str], os: &str, user, tags: &[&str]| Node {
        id: NodeId(id),
        stable_id: format!("n{id}CNTRL"),
        name: format!("{name}.example.ts.net."),
        addresses: nets(addresses),
        os: os.into(),
        user,
        tags: tags.iter().map(|tag| format!("tag:{tag}")).collect(),
    };
    let user = Some(UserId(5));
    let this = node(1, "self", &["100.64.0.1/32", "fd7a:115c:a1e0::1/128"], "linux", user, &[]);
    let peers = [
        node(2, "peer", &["100.64.0.2/32", "fd7a:115c:a1e0::2/128"], "", None, &["b", "a", "b"]),
        node(10, "other", &["100.64.0.10/32"], "", user, &[]),
    ];
    let map = NetworkMap::new(Some(this), peers, [(UserId(5), "a@example.com".into())]).unwrap();
    (map, Routes::new(nets(&["100.64.0.1/32"]), nets(&["100.64.0.2/32", "10.0.0.0/8", "0.0.0.0/0"]), []))
}

pub(super) fn snapshot() -> Snapshot {
    let (map, routes) = network();
    Snapshot { map, routes }
}

pub(super) fn nets(prefixes: &[&str]) -> Vec<IpNet> {
    prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect()
}

/// A logger on a manual clock that keeps its records.
pub(super) struct Bench {
    pub(super) clock: ManualClock,
    pub(super) logger: FlowLogger,
    records: Arc<Mutex<Vec<Vec<u8>>>>,
}

struct Keep(Arc<Mutex<Vec<Vec<u8>>>>);

impl RecordSink for Keep {
    fn append(&mut self, _wall: Timestamp, json: &[u8]) {
        self.0.lock().unwrap().push(json.to_vec());
    }
}

impl Bench {
    /// With the network of the reference run.
    pub(super) fn new(config: FlowConfig) -> Self {
        let clock = ManualClock::new("2026-01-02T03:04:05.12Z".parse().unwrap());
        let records = Arc::default();
        let sink = Box::new(Keep(Arc::clone(&records)));
        let logger = FlowLogger::start(config, Arc::new(clock.clone()), sink).unwrap();
        let (map, routes) = network();
        logger.set_network(map, routes);
        Self { clock, logger, records }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Lets time pass and calls the counters whose deadlines came.
    pub(super) fn pass(&self, duration: Duration, counters: &mut [&mut FlowCounter]) {
        self.clock.advance(duration);
        for counter in counters {
            counter.handle_deadline(self.now());
        }
    }

    /// All records so far, as JSON.
    pub(super) fn json(&self) -> Vec<String> {
        self.logger.flush();
        let records = self.records.lock().unwrap();
        records.iter().map(|json| String::from_utf8(json.clone()).unwrap()).collect()
    }

    /// All records so far.
    pub(super) fn messages(&self) -> Vec<Message> {
        self.json().iter().map(|json| serde_json::from_str(json).unwrap()).collect()
    }

    pub(super) fn counter(&self) -> FlowCounter {
        self.logger.counter(Layer::Virtual)
    }
}

/// A connection from texts; an empty text is no endpoint.
pub(super) fn connection(protocol: u8, src: &str, dst: &str) -> Connection {
    Connection { protocol: Protocol(protocol), src: src.parse().ok(), dst: dst.parse().ok() }
}

/// A UDP packet without content between two IPv4 addresses.
pub(super) fn udp(src: [u8; 4], src_port: u16, dst: [u8; 4], dst_port: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(src.into_iter().chain(dst));
    packet.extend(src_port.to_be_bytes().into_iter().chain(dst_port.to_be_bytes()));
    packet.extend([0, 8, 0, 0]);
    packet
}

/// One packet of the connection of many that has this number, from this device to a node.
pub(super) fn count_number(counter: &mut FlowCounter, now: Instant, number: u32) {
    let [_, _, high, low] = number.to_be_bytes();
    let port = u16::from_be_bytes([high, low]);
    let packet = udp([100, 64, 0, 1], port, [100, 64, 0, 2], (number >> 16) as u16 + 1);
    counter.count_packet(now, &packet, Direction::Tx);
}

/// Whether an address is one of the network's nodes.
pub(super) fn is_node(address: IpAddr) -> bool {
    network().0.node(address).is_some()
}
