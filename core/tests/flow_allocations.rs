//! Counting packets must not use the allocator: not for a known flow, and not for a new one as long as the table has
//! room from an earlier window. A test binary of its own, because it counts every allocation of its thread.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod allocations;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use tuntrail::{
    clock::{Clock, Instant, ManualClock},
    flow::{FlowConfig, FlowCounter, FlowLogger, Layer, LifecycleConfig, Message, RecordSink},
    hook::{Connection, ConnectionCounter, Direction, Protocol},
};

/// Flows of each IP version.
const FLOWS: u16 = 500;
const WINDOW: Duration = Duration::from_secs(5);

#[test]
fn known_flows_allocate_nothing() {
    known_flows(FlowConfig { lifecycle: None, ..FlowConfig::default() });
}

#[test]
fn known_flows_that_are_followed_allocate_nothing() {
    known_flows(FlowConfig { lifecycle: Some(LifecycleConfig::default()), ..FlowConfig::default() });
}

fn known_flows(config: FlowConfig) {
    let bench = Bench::with(config);
    let mut counter = bench.logger.counter(Layer::Virtual);
    let packets = packets();
    let now = bench.clock.now();
    count_all(&mut counter, now, &packets);
    // As an app with its own tunnel tells it, between an IPv4 and an IPv6 address.
    let told = Connection {
        protocol: Protocol::UNKNOWN,
        src: "100.64.0.2:0".parse().ok(),
        dst: "[2001:db8::1]:51820".parse().ok(),
    };
    counter.count(now, &told, 1, 148, Direction::Tx);
    let before = allocations::so_far();
    for _ in 0..10 {
        count_all(&mut counter, now, &packets);
        counter.count(now, &told, 1, 148, Direction::Rx);
        counter.handle_deadline(now);
    }
    assert_eq!(allocations::so_far() - before, 0);
    drop(counter);
    assert_eq!(bench.packets(), 11 * 2 * packets.len() as u64 + 11);
}

#[test]
fn what_is_no_plain_tcp_or_udp_allocates_nothing_either() {
    let bench = Bench::new();
    let mut counter = bench.logger.counter(Layer::Virtual);
    let now = bench.clock.now();
    let mut icmp = packet_v4(1);
    icmp[9] = 1;
    let mut fragment = packet_v4(2);
    fragment[7] = 64;
    let mut extended = packet_v6(3);
    extended[6] = 44;
    let packets = [icmp, fragment, extended, vec![0x45, 0, 0], Vec::new(), vec![0; 60]];
    count_all(&mut counter, now, &packets);
    let before = allocations::so_far();
    count_all(&mut counter, now, &packets);
    assert_eq!(allocations::so_far() - before, 0);
}

#[test]
fn flows_without_room_allocate_nothing() {
    let bench = Bench::with(FlowConfig { max_flows: 10, ..FlowConfig::default() });
    let mut counter = bench.logger.counter(Layer::Virtual);
    let (now, packets) = (bench.clock.now(), packets());
    count_all(&mut counter, now, &packets);
    let before = allocations::so_far();
    count_all(&mut counter, now, &packets);
    assert_eq!(allocations::so_far() - before, 0);
}

/// The first windows make the tables grow; later ones get them back. Handing over itself allocates a little, for the
/// window and its place in the queue, but that does not depend on the number of flows.
#[test]
fn a_window_of_new_flows_in_a_recycled_table_allocates_nothing_per_flow() {
    /// The window, the list of the states of the network, and a queue that may grow.
    const PER_WINDOW: u64 = 8;
    let bench = Bench::new();
    let mut counter = bench.logger.counter(Layer::Virtual);
    let packets = packets();
    let window = |counter: &mut FlowCounter| {
        let before = allocations::so_far();
        count_all(counter, bench.clock.now(), &packets);
        let counted = allocations::so_far();
        bench.clock.advance(WINDOW);
        counter.handle_deadline(bench.clock.now());
        let handed_over = allocations::so_far();
        // The worker is done with the table and has given it back.
        bench.logger.flush();
        (counted - before, handed_over - counted)
    };
    let (first, _) = window(&mut counter);
    assert!(first > PER_WINDOW, "a new table has no room: it grew {first} times");
    // This one still gets a new table: the first was not back when it was handed over.
    window(&mut counter);
    for _ in 0..10 {
        let (counted, handed_over) = window(&mut counter);
        assert!(counted <= PER_WINDOW, "{counted} allocations for {} new flows", packets.len());
        assert!(handed_over <= PER_WINDOW, "{handed_over} allocations to hand over");
    }
    assert_eq!(bench.packets(), 12 * 2 * packets.len() as u64);
}

fn count_all(counter: &mut FlowCounter, now: Instant, packets: &[Vec<u8>]) {
    for packet in packets {
        counter.count_packet(now, packet, Direction::Tx);
        counter.count_packet(now, packet, Direction::Rx);
    }
}

/// UDP packets, one per flow. As received ones they belong to further flows.
fn packets() -> Vec<Vec<u8>> {
    (0..FLOWS).flat_map(|flow| [packet_v4(flow), packet_v6(flow)]).collect()
}

fn packet_v4(flow: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 100, 64, 0, 1, 100, 64, 0, 2];
    packet.extend(flow.to_be_bytes());
    packet.extend([0xff, 1, 0, 8, 0, 0]);
    packet
}

fn packet_v6(flow: u16) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
    packet.extend([0xfd; 16].into_iter().chain([0xfe; 16]));
    packet.extend(flow.to_be_bytes());
    packet.extend([0xff, 1, 0, 8, 0, 0]);
    packet
}

struct Bench {
    clock: ManualClock,
    logger: FlowLogger,
    packets: Arc<Mutex<u64>>,
}

struct Sum(Arc<Mutex<u64>>);

impl RecordSink for Sum {
    fn append(&mut self, _wall: Timestamp, json: &[u8]) {
        let message: Message = serde_json::from_slice(json).unwrap();
        let packets: u64 = message.exit_traffic.iter().map(|row| row.counts.packets()).sum();
        *self.0.lock().unwrap() += packets;
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(FlowConfig::default())
    }

    fn with(config: FlowConfig) -> Self {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let packets = Arc::default();
        let sink = Box::new(Sum(Arc::clone(&packets)));
        let logger = FlowLogger::start(config, Arc::new(clock.clone()), sink).unwrap();
        Self { clock, logger, packets }
    }

    /// Packets in all records so far.
    fn packets(&self) -> u64 {
        self.logger.flush();
        *self.packets.lock().unwrap()
    }
}
