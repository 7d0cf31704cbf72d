//! Following flows must not use the allocator for packets of flows that are known. A test binary of its own, because it
//! counts every allocation of the thread.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod allocations;

use std::sync::Arc;

use jiff::Timestamp;
use tuntrail::{
    clock::{Clock, ManualClock},
    flow::{FlowConfig, FlowLogger, Layer, LifecycleConfig, RecordSink},
    hook::{ConnectionCounter, Direction},
};

struct Nowhere;

impl RecordSink for Nowhere {
    fn append(&mut self, _: Timestamp, _: &[u8]) {}
}

/// A TCP segment with data between two hosts, or an ICMP echo for every third.
fn packet(flow: u8, direction: Direction) -> Vec<u8> {
    let protocol = if flow.is_multiple_of(3) { 1 } else { 6 };
    let (src, dst) = if direction == Direction::Tx { (1, 2) } else { (2, 1) };
    let mut packet = vec![0x45, 0, 0, 44, 0, 0, 0, 0, 64, protocol, 0, 0, 100, 64, 0, src, 100, 64, 0, dst];
    if protocol == 1 {
        packet.extend([8, 0, 0, 0, 0, flow, 0, 0]);
    } else {
        packet.extend(if direction == Direction::Tx { [0, flow, 1, 0] } else { [1, 0, 0, flow] });
        packet.extend([0, 0, 0, 0, 0, 0, 0, 0, 5 << 4, 0x10]);
    }
    packet.resize(44, 0);
    packet
}

#[test]
fn a_packet_of_a_known_flow_allocates_nothing_also_when_peers_take_turns() {
    let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
    let config = FlowConfig { lifecycle: Some(LifecycleConfig::default()), ..FlowConfig::default() };
    let logger = FlowLogger::start(config, Arc::new(clock.clone()), Box::new(Nowhere)).unwrap();
    let mut counter = logger.counter(Layer::Virtual);
    let now = clock.now();
    let paths = ["203.0.113.1:1", "203.0.113.2:1"].map(|path| path.parse().unwrap());
    let directions = [Direction::Tx, Direction::Rx];
    let packets: Vec<_> =
        (0..60).flat_map(|flow| directions.map(|way| (flow, way, packet(flow, way)))).collect();
    let mut round = || {
        for (flow, direction, packet) in &packets {
            counter.path(now, None, paths[usize::from(flow % 2)]);
            counter.count_packet(now, packet, *direction);
        }
    };
    round();
    let before = allocations::so_far();
    assert!(before > 0, "the allocator is counted");
    (0..100).for_each(|_| round());
    assert_eq!(allocations::so_far(), before);
    drop(counter);
    logger.shutdown();
    assert_eq!(logger.stats().lifecycle.flows, 60, "and the packets were those of flows that are followed");
}
